"""PyTorch's names in its files: storage types, and the constructors that the safe reader allows for tensors."""

from dataclasses import dataclass

import numpy as np

from detr_jittor.checkpoint.pickle_arrays import ARRAYS
from detr_jittor.checkpoint.unpickle import BadFile, Constructor

STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8",
            "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1",
            "BoolStorage": "|b1"}
STORAGE_OF = {np.dtype(code): name for name, code in STORAGES.items()}


@dataclass(frozen=True)
class StorageType:
    """What stands for torch.FloatStorage and its like."""

    dtype: np.dtype  # of the file
    bfloat16: bool = False


def widened(numbers: np.ndarray) -> np.ndarray:
    """bfloat16 given as uint16 → float32, exactly: bfloat16 is the upper half of a float32."""
    return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32)


def tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_) -> np.ndarray:
    """A view of a storage, which must hold all of it. Broadcast dimensions (stride 0) are refused: they let a small
    file describe an array of any size."""
    plain = all(type(n) is int and n >= 0 for n in (offset, *size, *stride))
    if not isinstance(storage, np.ndarray) or not plain or len(size) != len(stride) or len(size) > 16:
        raise BadFile("damaged (a tensor without storage or of impossible shape)")
    count, last = 1, offset
    for n, step in zip(size, stride):
        count, last = count * n, last + (n - 1) * step
    if count > 0 and (last >= storage.size or count > storage.size):
        raise BadFile(f"damaged (a tensor of shape {str(tuple(size))[:60]} in a storage of {storage.size} numbers)")
    if count == 0:
        return np.empty(0, storage.dtype).reshape(size)
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides)


def parameter(data: np.ndarray, *_) -> np.ndarray:
    return data


TORCH = {
    **ARRAYS,
    "torch._utils._rebuild_tensor": Constructor(tensor),
    "torch._utils._rebuild_tensor_v2": Constructor(tensor),
    "torch._utils._rebuild_parameter": Constructor(parameter),
    "torch.Size": Constructor(lambda sizes=(): tuple(sizes)),
    "torch.device": Constructor(lambda *_: "device"),
    **{f"torch.{name}": StorageType(np.dtype(code)) for name, code in STORAGES.items()},
    "torch.BFloat16Storage": StorageType(np.dtype("<u2"), bfloat16=True),
}
