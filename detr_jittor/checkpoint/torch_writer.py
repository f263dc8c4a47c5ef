"""Writes PyTorch's .pth files (zip format) without torch.

`torch.load` reads them, also with weights_only=True, and so does the reference code. The pickle inside is written
opcode by opcode: Python's own pickler would want to import torch to name its functions.
"""

import struct
import zipfile
from pickle import (
    APPENDS,
    BINFLOAT,
    BININT,
    BINPERSID,
    BINUNICODE,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    GLOBAL,
    LONG1,
    MARK,
    NEWFALSE,
    NEWTRUE,
    NONE,
    PROTO,
    REDUCE,
    SETITEMS,
    STOP,
    TUPLE,
    encode_long,
)

import numpy as np

from detr_jittor.checkpoint.torch_names import STORAGE_OF

ROOT = "checkpoint/"  # the folder that PyTorch has in every archive


def write(file, record: dict) -> None:
    """Write nested plain data with NumPy arrays at its leaves to an open binary file.

    Errors: TypeError for a value or an array type that torch has no word for.
    """
    arrays: list[np.ndarray] = []
    program = PROTO + b"\x02" + encode(record, arrays) + STOP
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        members = {"data.pkl": program, "byteorder": b"little", "version": b"3\n",
                   **{f"data/{key}": array.reshape(-1).view(np.uint8).data for key, array in enumerate(arrays)}}
        for name, content in members.items():
            # a ZipInfo of its own has a fixed date: equal checkpoints are equal files
            with archive.open(zipfile.ZipInfo(ROOT + name), "w", force_zip64=len(content) >= 1 << 31) as member:
                member.write(content)


def encode(value, arrays: list[np.ndarray]) -> bytes:
    """The opcodes that make one value; its arrays are appended to `arrays`."""
    if value is None or isinstance(value, bool):
        return {None: NONE, True: NEWTRUE, False: NEWFALSE}[value]
    if isinstance(value, int):
        small = -(1 << 31) <= value < 1 << 31
        return BININT + struct.pack("<i", value) if small else LONG1 + counted("<B", encode_long(value))
    if isinstance(value, float):
        return BINFLOAT + struct.pack(">d", value)
    if isinstance(value, str):
        return BINUNICODE + counted("<I", value.encode())
    if isinstance(value, dict):
        return EMPTY_DICT + MARK + b"".join(encode(x, arrays) for item in value.items() for x in item) + SETITEMS
    if isinstance(value, list):
        return EMPTY_LIST + MARK + b"".join(encode(x, arrays) for x in value) + APPENDS
    if isinstance(value, tuple):
        return MARK + b"".join(encode(x, arrays) for x in value) + TUPLE
    if isinstance(value, np.ndarray):
        return encode_tensor(value, arrays)
    raise TypeError(f"a {type(value).__name__} has no place in a .pth file")


def counted(form: str, data: bytes) -> bytes:
    return struct.pack(form, len(data)) + data


def encode_tensor(array: np.ndarray, arrays: list[np.ndarray]) -> bytes:
    """`_rebuild_tensor_v2(storage, 0, size, stride, requires_grad=False, hooks=OrderedDict())`"""
    array = np.require(array, requirements="C")
    if array.dtype not in STORAGE_OF:
        raise TypeError(f"an array of {array.dtype} has no place in a .pth file")
    arrays.append(array)
    stride = tuple(step // array.itemsize for step in array.strides)
    plain = [encode(x, arrays) for x in (0, array.shape, stride, False)]
    return (named("torch._utils", "_rebuild_tensor_v2") + MARK
            + MARK + encode("storage", arrays) + named("torch", STORAGE_OF[array.dtype])
            + encode(str(len(arrays) - 1), arrays) + encode("cpu", arrays) + encode(array.size, arrays) + TUPLE
            + BINPERSID + b"".join(plain)
            + named("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE + TUPLE + REDUCE)


def named(module: str, name: str) -> bytes:
    return GLOBAL + f"{module}\n{name}\n".encode()
