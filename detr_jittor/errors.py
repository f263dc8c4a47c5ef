"""Errors that a user reads: one line that names the file, the record and the mend."""

import sys
import traceback
import unicodedata

UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogates, ends of lines and paragraphs


class DetrError(Exception):
    """A fault of the input or the machine, not of the program.

    The command line prints it as one line and exits with status 2; it never ends in a traceback.
    """

    def __init__(self, what: str, mend: str = ""):
        self.what, self.mend = visible(what), visible(mend)
        super().__init__(f"{self.what} {self.mend}".strip())


class SharedError(DetrError):
    """A fault that all processes of a run have at the same place, so that they can wait for each other once more."""


def visible(text: str) -> str:
    """With line breaks and other control characters as escapes: what a file says of itself forges no lines in a log."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in UNSEEN else c for c in text)


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
