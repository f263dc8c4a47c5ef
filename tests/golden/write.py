"""Writes the golden files: python tests/golden/write.py

The PyTorch twin in float64 says what a small model makes of a batch: outputs, assignment, losses, gradients. So the
Jittor twin can be checked where PyTorch is not installed (tests/jt/test_golden.py).
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from golden_models import BATCH, SEED, VARIANTS, batch_arrays, pick, weights  # noqa: E402
from small import NUM_CLASSES  # noqa: E402

from detr_jittor.pt import capture  # noqa: E402
from detr_jittor.pt.twin import PyTorchTwin  # noqa: E402
from detr_jittor.types import State  # noqa: E402


def golden(config) -> dict[str, np.ndarray]:
    twin = PyTorchTwin(config, NUM_CLASSES)
    twin.load(State(weights(twin), {}))
    twin.to_float64()
    outputs, losses = twin.evaluate(BATCH)
    assignment = capture.matching(twin, BATCH, SEED)[1]
    gradients = capture.gradients(twin, BATCH, assignment, SEED).of
    found = {"logits": outputs.logits, "boxes": outputs.boxes, "loss names": np.array(list(losses)),
             "losses": np.array(list(losses.values())),
             "assignment": np.array([[[a.queries, a.objects] for a in layer][-1] for layer in assignment]),
             "gradient names": np.array(list(gradients)),
             "gradient norms": np.array([np.linalg.norm(g) for g in gradients.values()]),
             "gradients": np.array([pick(g) for g in gradients.values()])}
    return found if outputs.masks is None else {**found, "masks": outputs.masks[:, :2]}


if __name__ == "__main__":
    np.savez_compressed(FOLDER / "batch.npz", **batch_arrays(BATCH))
    for name, variant in VARIANTS.items():
        np.savez_compressed(FOLDER / f"{name}.npz", **golden(variant))
