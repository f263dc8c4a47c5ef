"""How NumPy arrays and Jittor's variables stand in a pickle: the constructors that the safe reader allows for them."""

import re

import numpy as np

from detr_jittor.checkpoint.unpickle import PLAIN, BadFile, Constructor, Pending

NUMBERS = re.compile(r"[<|=]?([fiu][1248]|b1)")  # no objects, records, dates or texts


def dtype(code: str, align=False, copy=True) -> Pending:
    """numpy.dtype("f4", False, True), whose byte order comes later."""
    if isinstance(code, bytes):
        code = code.decode("ascii")
    if not (isinstance(code, str) and NUMBERS.fullmatch(code)):
        raise BadFile("an array of objects, records or texts; only plain numbers are read")
    plain = np.dtype(code)

    def finish(state) -> np.dtype:
        order, rest = state[1], state[2:5]
        if order not in ("<", "|", "=") or any(part is not None for part in rest):
            raise BadFile("an array of records or of another byte order; only plain numbers are read")
        return plain

    return Pending(finish)


def array(numbers, shape, kind: np.dtype, fortran_order: bool = False) -> np.ndarray:
    """Bytes as an array of its own. Their number must be exactly what the shape needs."""
    if not isinstance(kind, np.dtype):
        raise BadFile("an array without a type")
    if isinstance(numbers, str):  # Python 2
        numbers = numbers.encode("latin-1")
    count = 1
    for size in shape:
        if type(size) is not int or size < 0:
            raise BadFile("an array of impossible shape")
        count *= size
    if not isinstance(numbers, (bytes, bytearray)) or count * kind.itemsize != len(numbers):
        raise BadFile(f"an array of shape {str(tuple(shape))[:60]} with another number of bytes")
    return np.frombuffer(numbers, kind).reshape(shape, order="F" if fortran_order else "C").copy(order="K")


def reconstruct(cls, shape, typecode) -> Pending:
    """numpy's `_reconstruct(ndarray, (0,), b"b")`, whose content comes later: (version, shape, dtype, order, bytes)."""
    return Pending(lambda state: array(state[4], state[1], state[2], state[3]))


def from_buffer(numbers, kind: np.dtype, shape, order: str) -> np.ndarray:
    """numpy's `_frombuffer`, as pickle protocol 5 has it."""
    return array(numbers, shape, kind, fortran_order=order == "F")


def scalar(kind: np.dtype, numbers: bytes):
    """numpy's `scalar`, as a plain Python number."""
    return array(numbers, (), kind).item()


def encode(text: str, encoding: str) -> bytes:
    """`_codecs.encode(text, "latin1")`: how protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise BadFile("bytes in an unknown encoding")
    return text.encode("latin-1")


def variable(value) -> np.ndarray:
    """A Jittor variable, by its array."""
    if not isinstance(value, np.ndarray):
        raise BadFile("a Jittor variable without an array")
    return value


ARRAYS = {
    **PLAIN,
    "numpy.ndarray": "numpy.ndarray",
    "numpy.dtype": Constructor(dtype),
    "_codecs.encode": Constructor(encode),
    "__builtin__.bytes": Constructor(lambda: b""),  # protocol 2's empty bytes
    "jittor.jittor_core.Var": Constructor(variable),
    "jittor_core.Var": Constructor(variable),
    **{f"{core}.{name}": Constructor(make) for core in ("numpy.core", "numpy._core") for name, make in {
        "multiarray._reconstruct": reconstruct,
        "multiarray.scalar": scalar,
        "numeric._frombuffer": from_buffer,
    }.items()},
}
