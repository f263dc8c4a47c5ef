"""Errors that a user reads: one line that names the file, the record and the mend."""


class DetrError(Exception):
    """A fault of the input or the machine, not of the program.

    The command line prints it as one line and exits with status 2; it never ends in a traceback.
    """

    def __init__(self, what: str, mend: str = ""):
        super().__init__(f"{what} {mend}".strip())
        self.what, self.mend = what, mend
