"""Arrays cross between NumPy and Jittor unharmed: every dtype, every order and stride, both ways.

Jittor knows by heart how NumPy's objects lie in memory and where its C functions stand in their table. Both changed in
NumPy 2; without the patches of jt/setup/patches.py these tests fail there or end the process.
"""

import numpy as np
import pytest

from detr_jittor.jt.setup.runtime import jt

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
          "float64"]
SHORTER = {"int64": "int32", "uint64": "int32", "float64": "float32"}  # what Jittor makes of an array by itself


def unaligned(x: np.ndarray) -> np.ndarray:
    bytes_ = np.zeros(x.nbytes + 1, np.uint8)
    y = bytes_[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    assert x.itemsize == 1 or not y.flags.aligned
    return y


def readonly(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.flags.writeable = False
    return y


LAYOUTS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "axes exchanged": lambda x: x.transpose(1, 2, 0),
    "reversed": lambda x: x[::-1, :, ::-1],
    "every second": lambda x: x[:, ::2, 1::2],
    "one column": lambda x: x[..., 1],
    "a row repeated": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "a window": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1),
    "the end": lambda x: x[1:],
    "not aligned": unaligned,
    "read-only": readonly,
    "one number": lambda x: x[:1, 1, 2],
    "no dimension": lambda x: x[1:, 1, 2].reshape(()),
    "empty": lambda x: x[:, :0],
    "many dimensions": lambda x: x.reshape(1, 2, 1, 3, 1, 4, 1),
}


def numbers(dtype: str) -> np.ndarray:
    """[2, 3, 4]: all different where the dtype has as many values, and small enough for 32 bits."""
    x = np.arange(-11, 13).reshape(2, 3, 4)
    if dtype == "bool":
        return x % 3 == 0
    return (abs(x) if dtype.startswith("u") else x * (0.75 if dtype.startswith("float") else 1)).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(dtype, layout):
    x = LAYOUTS[layout](numbers(dtype))
    before = x.copy()
    var = jt.array(x)
    assert list(var.shape) == list(x.shape or (1,))
    # TRAP(jittor): an array that does not lie in one piece keeps its 64 bits
    assert str(var.dtype) in (dtype, SHORTER.get(dtype, dtype))
    for back in (var.numpy(), var.data, var.fetch_sync()):
        assert back.dtype == np.dtype(str(var.dtype)) and back.shape == tuple(var.shape)
        np.testing.assert_array_equal(back, x.reshape(back.shape))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", SHORTER)
def test_64_bits_stay_where_they_are_asked_for(dtype, layout):
    x = LAYOUTS[layout](numbers(dtype))
    var = jt.array(x, dtype=dtype)
    assert str(var.dtype) == dtype
    np.testing.assert_array_equal(var.numpy(), x.reshape(tuple(var.shape)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_array_and_the_memory_of_a_var(dtype):
    """What is copied is counted in bytes: a wrong size of an element shows at the end of a large array."""
    x = np.random.default_rng(0).integers(0, 100, (257, 129)).astype(dtype)
    np.testing.assert_array_equal(jt.array(x).numpy(), x)
    np.testing.assert_array_equal(jt.array(x.T).numpy(), x.T)
    var = jt.array(x)
    view = var.data
    del var
    np.testing.assert_array_equal(view, x)  # its base keeps the memory alive
    assert view.base is not None


def test_assigning_into_a_var():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for values in (x, x.T.reshape(3, 4), np.asfortranarray(x), x[::-1]):
        var = jt.zeros((3, 4))
        var.assign(values)
        np.testing.assert_array_equal(var.numpy(), values)
        var.update(jt.array(values + 1))
        np.testing.assert_array_equal(var.numpy(), values + 1)


@pytest.mark.parametrize("scalar", [np.int8, np.int32, np.int64, np.uint8, np.uint64, np.float32])
def test_a_numpy_scalar_as_an_index(scalar):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(jt.array(x)[scalar(2)].numpy(), x[2])
    np.testing.assert_array_equal(jt.array(x)[1, scalar(3)].numpy(), x[1, 3:4])


@pytest.mark.parametrize("scalar", [np.int8(-3), np.int64(7), np.uint16(9), np.float16(1.5),
                                    np.float32(2.25), np.float64(-0.5)])
def test_a_numpy_scalar_as_a_value(scalar):
    assert jt.array(scalar).numpy().tolist() == [scalar.item()]
    assert (jt.array(np.float32([4])) * scalar).numpy().tolist() == [4 * scalar.item()]


def test_lists_of_numbers_and_of_numpy_scalars():
    assert jt.array([[1, 2], [3, 4]]).numpy().tolist() == [[1, 2], [3, 4]]
    assert jt.array([np.float32(1.5), np.float32(2)]).numpy().tolist() == [1.5, 2]
    assert jt.array([np.int64(5), 6]).numpy().tolist() == [5, 6]


@pytest.mark.parametrize("x", [np.zeros(3, np.complex64), np.zeros(3, "datetime64[s]"), np.array(["a", "b"]),
                               np.array([None]), np.zeros(2, [("a", int)])], ids=lambda x: str(x.dtype))
def test_what_jittor_does_not_know_is_refused(x):
    with pytest.raises(RuntimeError):
        jt.array(x)
