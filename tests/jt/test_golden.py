"""The Jittor twin against what the float64 twin once said; PyTorch is not needed for it, and not imported.

`python tests/golden/write.py` writes the files anew, where PyTorch is installed.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden_models import BATCH, SEED, VARIANTS, batch_arrays, pick, weights
from small import NUM_CLASSES

from detr_jittor.jt import capture
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.types import State

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "golden"


def distance(found, golden) -> float:
    """Largest difference, relative to the golden values' root mean square."""
    return float(np.abs(np.asarray(found) - golden).max() / np.sqrt(np.mean(np.square(golden))))


def test_the_batch_is_the_golden_one():
    golden, batch = np.load(FOLDER / "batch.npz"), batch_arrays(BATCH)
    assert set(golden.files) == set(batch)
    assert all(np.array_equal(golden[name], batch[name]) for name in batch)


@pytest.mark.parametrize("plain", [False, True], ids=["kernels", "plain"])
@pytest.mark.parametrize("name", VARIANTS)
def test_outputs_losses_and_gradients_are_the_golden_ones(name, plain):
    """Measured, worst of all: logits 2.2e-6, boxes 1.6e-7, losses 2.4e-6, norms of gradients 1e-5, their elements 5e-5;
    in the mask head, where a ReLU's input may lie beyond its kink, 2.5e-4 and 1.5e-4."""
    golden = np.load(FOLDER / f"{name}.npz")
    twin = JittorTwin(VARIANTS[name].replace(plain=plain), NUM_CLASSES)
    twin.load(State(weights(twin), {}))
    outputs, losses = twin.evaluate(BATCH)
    assert distance(outputs.logits, golden["logits"]) < 1e-5
    assert distance(outputs.boxes, golden["boxes"]) < 1e-6
    if "masks" in golden.files:
        assert distance(outputs.masks[:, :2], golden["masks"]) < 2e-5
    assert list(losses) == golden["loss names"].tolist()
    assert np.allclose(list(losses.values()), golden["losses"], rtol=1e-5, atol=1e-5)

    assignment = capture.matching(twin, BATCH, SEED)[1]
    last = [[[a.queries, a.objects] for a in layer][-1] for layer in assignment]
    assert np.array_equal(last, golden["assignment"])
    gradients = capture.gradients(twin, BATCH, assignment, SEED).of
    assert list(gradients) == golden["gradient names"].tolist()
    norms, limit = golden["gradient norms"], 1e-3 if name == "masks" else 2e-4
    for gradient, norm, picked in zip(gradients.values(), norms, golden["gradients"]):
        size = max(norm / np.sqrt(gradient.size), 1e-5 * norms.max())  # a typical element
        assert abs(np.linalg.norm(gradient) - norm) < limit * max(norm, 1e-5 * norms.max())
        assert np.abs(pick(gradient) - picked).max() < limit * size


def test_no_pytorch_is_needed():
    program = ("import sys; sys.modules['torch'] = None\n"  # an import of it fails
               "from detr_jittor.jt import capture\nfrom golden_models import VARIANTS\n")
    subprocess.run([sys.executable, "-c", program], check=True, cwd=FOLDER.parent, timeout=120)
