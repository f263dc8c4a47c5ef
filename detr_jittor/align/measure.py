"""How far two float32 results are from the float64 one, and whether that is good enough."""

from dataclasses import asdict, dataclass

import numpy as np

from detr_jittor.align.tolerances import tolerance


@dataclass(frozen=True)
class Error:
    """The distance of an array from the truth."""

    rms: float  # root mean square of the difference, relative to the truth's
    worst: float  # largest difference of an element, relative to the same, or to the element itself if that is larger
    mean: float  # mean absolute difference, absolute
    max: float  # largest difference, absolute


@dataclass(frozen=True)
class Item:
    """One compared thing: a module's output, a loss, a gradient, a step, a count."""

    name: str
    passed: bool
    shape: tuple[int, ...] = ()
    jittor: Error | None = None  # against float64
    pytorch: Error | None = None  # against float64
    ratio: float | None = None  # of the two rms errors; None where neither errs
    cosine: float | None = None  # between Jittor's and the truth
    just_passing: float | None = None  # the smallest t with |jittor − pytorch| ≤ t + t·|pytorch| everywhere
    note: str = ""

    def to_json(self) -> dict:
        values = {name: value for name, value in asdict(self).items()
                  if value is not None and not (isinstance(value, (str, tuple)) and not value)}
        return values if self.ratio != np.inf else {**values, "ratio": "infinite"}  # JSON has no number for it


def exact(name: str, jittor, pytorch, note: str = "") -> Item:
    """Two things that must be equal."""
    if isinstance(jittor, np.ndarray) or isinstance(pytorch, np.ndarray):
        jittor, pytorch = np.asarray(jittor), np.asarray(pytorch)
        same = jittor.shape == pytorch.shape and bool((jittor == pytorch).all())
        if not same and jittor.shape == pytorch.shape:
            note = f"{note} {np.count_nonzero(jittor != pytorch)} of {jittor.size} elements differ".strip()
        elif not same:
            note = f"{note} shapes {jittor.shape} and {pytorch.shape}".strip()
        return Item(name, same, jittor.shape, note=note)
    return Item(name, jittor == pytorch, note=note or (str(jittor) if jittor == pytorch else f"{jittor} ≠ {pytorch}"))


def compare(name: str, jittor, pytorch, truth, scale: float | None = None, floor: float = 0.0,
            pytorch_truth=None, ceiling: float | None = None) -> Item:
    """Hold two float32 results against the float64 one.

    Args:
        scale: what errors are relative to, if not the root mean square of the truth.
        floor: an absolute error that storage in float32 alone can cause; no more than this passes, and in PyTorch it
            is no reason to distrust it.
        pytorch_truth: what PyTorch's result is held against, if not the same.
        ceiling: of PyTorch's error, if not that of float32.

    The verdict: Jittor's errors, root mean square and worst, are each at most `factor` times PyTorch's own or under
    the float32 floor. NaN passes nothing. Arrays of whole numbers or booleans must be equal.
    """
    jittor, pytorch, truth = (np.asarray(a) for a in (jittor, pytorch, truth))
    if not jittor.shape == pytorch.shape == truth.shape:
        return Item(name, False, jittor.shape,
                    note=f"shapes: jittor {jittor.shape}, pytorch {pytorch.shape}, float64 {truth.shape}")
    if truth.dtype.kind in "biu":
        return exact(name, jittor, truth)
    truth = truth.astype(np.float64)
    scale = root_mean_square(truth) if scale is None else scale
    ours = error_of(jittor, truth, scale)
    theirs = error_of(pytorch, truth if pytorch_truth is None else np.asarray(pytorch_truth, np.float64), scale)
    ceiling = tolerance("ceiling") if ceiling is None else ceiling
    trusted = theirs.rms <= ceiling or theirs.max <= floor  # false for NaN
    note = "" if trusted else "PyTorch itself is too far from float64"
    passed = not note and (ours.max <= floor or (within(ours.rms, theirs.rms, "floor") and within(
        ours.worst, theirs.worst, "floor of the worst element")))
    ratio = ours.rms / theirs.rms if theirs.rms > 0 else (np.inf if ours.rms > 0 else None)
    return Item(name, passed, jittor.shape, ours, theirs, ratio, cosine(jittor, truth), just_passing(jittor, pytorch),
                note)


def within(ours: float, theirs: float, floor: str) -> bool:
    return bool(ours <= max(tolerance("factor") * theirs, tolerance(floor)))


def error_of(x: np.ndarray, truth: np.ndarray, scale: float) -> Error:
    difference = np.abs(x.astype(np.float64) - truth)
    if not difference.size:
        return Error(0.0, 0.0, 0.0, 0.0)
    unit = scale or 1.0  # where the truth is zero, errors are absolute
    # One element may be 40 times the root mean square: six roundings of float32 in it are not the tensor's worst error.
    worst = float((difference / np.maximum(np.abs(truth), unit)).max())
    return Error(root_mean_square(difference) / unit, worst, float(difference.mean()), float(difference.max()))


def root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0


def cosine(x: np.ndarray, truth: np.ndarray) -> float:
    x, truth = x.astype(np.float64).ravel(), truth.ravel()
    norms = np.linalg.norm(x) * np.linalg.norm(truth)
    return float(x @ truth / norms) if norms > 0 else 1.0


def just_passing(jittor: np.ndarray, pytorch: np.ndarray) -> float:
    jittor, pytorch = jittor.astype(np.float64), pytorch.astype(np.float64)
    return float((np.abs(jittor - pytorch) / (1 + np.abs(pytorch))).max()) if jittor.size else 0.0
