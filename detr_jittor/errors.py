"""Errors that a user reads: one line that names the file, the record and the mend."""

import sys
import traceback


class DetrError(Exception):
    """A fault of the input or the machine, not of the program.

    The command line prints it as one line and exits with status 2; it never ends in a traceback.
    """

    def __init__(self, what: str, mend: str = ""):
        super().__init__(f"{what} {mend}".strip())
        self.what, self.mend = what, mend


def tell(error: BaseException, who: str = "") -> int:
    """Print an error that ends the process. Returns: the exit status."""
    if isinstance(error, DetrError):
        print(f"error: {who}{error}", file=sys.stderr)
        return 2
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    traceback.print_exception(error)
    return 1
