"""`python -m detr_jittor.jt.setup.trial`: does Jittor start here and compute rightly? Prints one JSON object.

The doctor runs it in a process of its own, because a Jittor that does not fit the machine can abort the process.
"""

import json
import sys

import numpy as np

from detr_jittor.errors import DetrError
from detr_jittor.jt.setup.machine import OLDER_COMPILER

TOLERANCE = 2e-3  # of the largest value; measured 2e-7 on a CPU, and a GPU may round to TF32 (5e-4)


def convolution(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """[B, I, H, W] with [O, I, K, K] → [B, O, H - K + 1, W - K + 1], without padding, in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), w.shape[2:], axis=(2, 3))
    return np.einsum("bihwkl,oikl->bohw", windows, w.astype(np.float64))


def trial() -> dict:
    """Compare a convolution, its gradient, a matrix product and, on the CPU, a linear layer by our kernels with NumPy;
    the largest relative error of them all.

    Errors: DetrError if the kernels do not compile.
    """
    from detr_jittor.jt.setup.runtime import jt, plan

    jt.flags.use_cuda = int(jt.has_cuda)
    rng = np.random.default_rng(0)
    x, w, v = (rng.normal(size=s).astype(np.float32) for s in ((2, 8, 9, 9), (4, 8, 3, 3), (2, 4, 7, 7)))
    jx, jw, jv = jt.array(x), jt.array(w), jt.array(v)
    y = jt.nn.conv2d(jx, jw)
    # d sum(v·y) / dw = x convolved with v, the batch summed up: exchange the first two axes of all three
    found = [y.numpy(), jt.grad((y * jv).sum(), jw).numpy(), jt.matmul(jv, jv).numpy()]
    wanted = [convolution(x, w), convolution(x.swapaxes(0, 1), v.swapaxes(0, 1)).swapaxes(0, 1),
              v.astype(np.float64) @ v]
    words = ""
    if not jt.flags.use_cuda:  # for a card they would take minutes to compile
        words, product = linear(jt.array(w[0, 0]), jt.array(x[0, 0, :, :3]))
        found.append(product)
        wanted.append(w[0, 0].astype(np.float64) @ x[0, 0, :, :3].T)
    error = max(float(np.abs(f - e).max() / np.abs(e).max()) for f, e in zip(found, wanted, strict=True))
    device = "GPU" if jt.flags.use_cuda else "CPU"
    return {"version": jt.__version__, "device": device, "cache": str(plan.home / ".cache" / "jittor"),
            "kernels": words, "error": error, "right": bool(error < TOLERANCE)}


def linear(x, weight) -> tuple[str, np.ndarray]:
    """(which kernels serve here, their product of [n, D] and [D', D] → [n, D'])"""
    from detr_jittor.jt import kernels

    try:
        choice = kernels.Kernels()  # which compiles them
    except RuntimeError as error:
        raise DetrError("Jittor starts, but its compiler fails at our kernels; its first error above says why.",
                        f"{OLDER_COMPILER}. Until then --plain computes without them, slowly.") from error
    return choice.words, kernels.linear(x, weight, weight[:, 0] * 0).numpy()


def main() -> int:
    try:
        result = trial()
    except DetrError as error:
        result = {"problem": error.what, "fix": error.fix}
    print()  # behind what Jittor tells of its compiling
    print(json.dumps(result))
    return 0 if result.get("right") else 1


if __name__ == "__main__":
    sys.exit(main())
