"""Random numbers as a function of where they are used.

Every draw is made from (seed, epoch, image) or (seed, step, place), never from a state that is carried along.
So neither the number of workers, nor a resume, nor the framework changes a single draw.
"""

import zlib

import numpy as np


def generator(seed: int, *where: int) -> np.random.Generator:
    """The random generator of one place, e.g. `generator(seed, epoch, image_id)`."""
    return np.random.default_rng([seed, *where])


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """The 31-bit seed of one training step, from which the dropout masks of that step are made in process `rank`."""
    where = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(where).generate_state(1)[0] & 0x7FFFFFFF)


def place_id(name: str) -> int:
    """A 32-bit number for a module's path in the model, equal in both twins and in every process."""
    return zlib.crc32(name.encode())


def dropout_key(step_seed: int, place: int) -> int:
    """The 32-bit key that one dropout layer uses in one step."""
    return mix32(step_seed & 0xFFFFFFFF ^ mix32(place))


def mix32(x):
    """Mix the bits of a number of 32 bits, or of an array of uint32: the finaliser of MurmurHash3 (public domain,
    A. Appleby)."""
    x = (x ^ (x >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    x = (x ^ (x >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return x ^ (x >> 16)


def keep_mask(key: int, p: float, shape: tuple[int, ...]) -> np.ndarray:
    """The dropout mask that both twins use: element i is kept where hash(i, key) >= p · 2^32.

    This is the definition; the kernels and the PyTorch twin are tested against it.
    i is the element's index in the array laid out row by row.
    """
    with np.errstate(over="ignore"):
        index = np.arange(int(np.prod(shape)), dtype=np.uint32) * np.uint32(0x9E3779B9)
        return (mix32(index ^ np.uint32(key)) >= np.uint32(p * 4294967296.0)).reshape(shape)
