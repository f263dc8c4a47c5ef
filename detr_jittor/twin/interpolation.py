"""Which pixels PyTorch's `interpolate` takes when an axis of `old` pixels becomes one of `new`, to the last digit."""

import numpy as np


def nearest(old: int, new: int) -> np.ndarray:
    """[new] the places that mode="nearest" takes."""
    places = np.arange(new, dtype=np.float32) * np.float32(old / new)
    return np.minimum(np.floor(places), old - 1).astype(np.intp)


def linear(old: int, new: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What mode="bilinear" takes for some places [N] of the new axis: the pixels before and after, the latter's share.

    As PyTorch's compilers have it, product and difference are rounded once: at place 1000 this is 1e-4 of a pixel.
    """
    scale = np.float64(np.float32(old / new))
    middle = np.maximum((places + 0.5) * scale - 0.5, 0).astype(np.float32)
    low = middle.astype(np.intp)
    return low, np.minimum(low + 1, old - 1), middle - low.astype(np.float32)
