"""Errors that a user reads: one line that names the file, the record and the fix."""

import contextlib
import errno
import sys
import traceback
import unicodedata

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a disk, a user's share of it, a file
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogates, ends of lines and paragraphs


class DetrError(Exception):
    """A fault of the input or the machine, not of the program.

    The command line prints it as one line and exits with status 2; it never ends in a traceback.
    """

    def __init__(self, what: str, fix: str = ""):
        self.what, self.fix = visible(what), visible(fix)
        super().__init__(f"{self.what} {self.fix}".strip())


class SharedError(DetrError):
    """A fault that all processes of a run have at the same place, so that they can wait for each other once more."""


@contextlib.contextmanager
def writing(what: str, fix: str = "Make room or choose another --output_dir."):
    """Turns what goes wrong on a disk into an error that the user reads.

    Args:
        what: is written, and where: "out/log.txt:" or "out: the log".
    """
    try:
        yield
    except OSError as error:
        raise DetrError(f"{what} cannot be written ({error.strerror or error}).", fix) from None


def visible(text: str) -> str:
    """With line breaks and other control characters as escapes: what a file says of itself forges no lines in a log."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in UNSEEN else c for c in text)


def is_unicode(text: str) -> bool:
    """Whether it can be written as UTF-8: JSON can hold halves of a character, which no file and no terminal takes."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def is_out_of_memory(error: BaseException) -> bool:
    """Python's and NumPy's MemoryError, and what the frameworks raise in its place."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def tell(error: BaseException, who: str = "") -> int:
    """Print an error that ends the process. Returns: the exit status."""
    if isinstance(error, OSError) and error.errno in FULL:
        error = DetrError(f"{error.filename or 'the output'}: {error.strerror}.", "Make room.")
    if is_out_of_memory(error):
        error = DetrError(f"there is not enough memory ({' '.join(str(error).split())[:200] or 'none is left'}).",
                          "Give a smaller --batch_size, --max_size or model, or end what else runs on this machine.")
    if isinstance(error, DetrError):
        print(f"error: {who}{error}", file=sys.stderr)
        return 2
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    traceback.print_exception(error)
    return 1
