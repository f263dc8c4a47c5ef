"""Masks in several processes: trained and measured on panoptic segments as in one process, in both twins."""

import json
from pathlib import Path

import numpy as np
import pytest
from launched import TWINS, options_of, run
from panoptic_set import CATEGORIES, write_panoptic_set
from small import WITH_MASKS, small_state

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.data.loader import Loader
from detr_jittor.data.panoptic import NUM_CLASSES
from detr_jittor.data.splits import open_split
from detr_jittor.frameworks.load import load_twin
from detr_jittor.report.log import read_log
from detr_jittor.types import State

pytestmark = pytest.mark.slow

SIZE = 64  # of all pictures, since padding is each process's own


@pytest.fixture(scope="module")
def panoptic(tmp_path_factory) -> Path:
    """Four pictures for training, of which one has no object, nine to measure, and weights that find some segments."""
    folder = tmp_path_factory.mktemp("panoptic") / "set"
    write_panoptic_set(folder, train=4, val=9, size=SIZE)
    store.save(folder / "start.safetensors", Checkpoint(State(telling(folder), {})))
    return folder


def telling(folder: Path) -> dict[str, np.ndarray]:
    """Weights with boxes and masks of nearly the whole picture and classes that differ between the queries."""
    config = WITH_MASKS.replace(dataset_file="coco_panoptic", coco_path=str(folder), coco_panoptic_path=str(folder),
                                min_size=SIZE, max_size=SIZE, num_workers=0)
    twin = load_twin("pytorch")(config, NUM_CLASSES)
    model = small_state(twin).model
    known = [*(category["id"] for category in CATEGORIES), NUM_CLASSES]
    weight, bias = np.zeros_like(model["detr.class_embed.weight"]), np.full(NUM_CLASSES + 1, -30, np.float32)
    weight[known], bias[known] = 80 * model["detr.class_embed.weight"][known], 0
    model |= {"detr.class_embed.weight": weight, "detr.class_embed.bias": bias}
    model["detr.bbox_embed.layers.2.weight"] /= 5
    model["detr.bbox_embed.layers.2.bias"][:] = 0, 0, 2.2, 2.2
    model["mask_head.out_lay.bias"] += 3
    twin.load(State(model, {}))
    batch = next(Loader(open_split(config.data, "val"), config.data, 2, False, 0).epoch())
    bias[known] -= twin.predict(batch).logits.mean((0, 1))[known]  # what all queries say alike
    bias[200] += 1.5
    return model


def arguments(folder: Path, out: Path, *options: str) -> list[str]:
    return [*options, "--masks", "--dataset_file", "coco_panoptic", "--coco_path", str(folder),
            "--coco_panoptic_path", str(folder), "--output_dir", str(out), "--resume",
            str(folder / "start.safetensors"), *options_of(WITH_MASKS), "--min_size", str(SIZE), "--max_size",
            str(SIZE), "--num_workers", "0"]


@TWINS
def test_evaluate(panoptic, tmp_path, framework):
    """Boxes, masks and panoptic segments: the same numbers, and they say something."""
    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        run(framework, processes, *arguments(panoptic, out, "evaluate", "--batch_size", "2"))
        results.append(json.loads((out / "eval.json").read_text()))
    one, two = results
    assert one == two
    assert 0 < one["AP"] < 1 and 0 < one["segm"]["AP"] < 1 and 0 < one["panoptic"]["All"]["pq"] < 1, one


@TWINS
def test_two_processes_train_as_one(panoptic, tmp_path, framework):
    """Two steps of two pictures, in one of which a process has no object."""
    logs = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        run(framework, processes, *arguments(
            panoptic, out, "train", "--batch_size", str(2 // processes), "--epochs", "1", "--dropout", "0",
            "--augmentation", "flip"))
        logs += read_log(out / "log.txt")
    one, two = logs
    assert one["step"] == two["step"] == 2 and one["train_loss_mask"] > 0 and one["train_loss_dice"] > 0
    for name in one:
        if name.startswith("train_loss"):
            assert two[name] == pytest.approx(one[name], rel=1e-5), name
