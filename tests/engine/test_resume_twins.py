"""Exact resume of the real twins: killed with SIGKILL at a random step, a run continues bit for bit.

With dropout, augmentation, clipping, warm-up and the drop of the learning rate inside the stretch, the kernels on, and
another number of workers in each part. And the faults with which Jittor's own handling of signals might interfere.
"""

import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small import NUM_CLASSES, SMALLER, small_batch, small_state

from detr_jittor.checkpoint import store, torch_writer
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.data.demo import write_demo_set
from detr_jittor.engine.build import build
from detr_jittor.engine.start import find_start
from detr_jittor.frameworks.load import load_twin
from detr_jittor.report.log import read_log
from detr_jittor.twin import seeding
from detr_jittor.types import Classes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_processors")]

HERE = Path(__file__).parent
SUFFIX = {"jittor": ".pkl", "pytorch": ".pth"}
PER_EPOCH, EPOCHS = 4, 3
OPTIONS = [f"--{name}={value}" for name, value in SMALLER.replace(
    backbone_norm="batch", batch_size=2, epochs=EPOCHS, lr_drop=2, warmup_steps=3, lr=1e-3, lr_backbone=1e-3,
    dropout=0.1, clip_max_norm=0.1, min_size=48, max_size=64, eval_every=2, backbone_weights="none").flat().items()
    if value is not None and type(value) is not bool and name not in ("framework", "num_classes", "num_workers")]


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "coco"
    write_demo_set(folder, train=2 * PER_EPOCH, val=2, size=64)
    return folder


def run(coco: Path, out: Path, framework: str, *options: str, fault: str = "SIGKILL@0", status: int = 0) -> str:
    """A run, with a fault after a step (0: none). Returns: what it says on stderr."""
    arguments = [*OPTIONS, "--coco_path", str(coco), "--output_dir", str(out), "--framework", framework, *options]
    command = [sys.executable, str(HERE / "killed_run.py"), fault, "train", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, start_new_session=True)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stderr


@pytest.mark.parametrize("framework, masks", [("jittor", "shared"), ("pytorch", "shared"), ("pytorch", "native")])
def test_killed_and_resumed_bit_for_bit(coco, tmp_path, framework, masks):
    whole, parts, dropout = tmp_path / "whole", tmp_path / "parts", ("--dropout_masks", masks)
    run(coco, whole, framework, "--num_workers", "0", *dropout)
    steps = sorted(random.SystemRandom().sample([s for s in range(2, PER_EPOCH * EPOCHS) if s % PER_EPOCH], 2))
    options, killed = ("--save_every_steps", "1", "--resume", "auto", *dropout), -signal.SIGKILL
    run(coco, parts, framework, "--num_workers", "2", *options, fault=f"SIGKILL@{steps[0]}", status=killed)
    run(coco, parts, framework, "--num_workers", "0", *options, fault=f"SIGKILL@{steps[1]}", status=killed)
    run(coco, parts, framework, "--num_workers", "2", *options)
    logs = [read_log(folder / "log.txt") for folder in (whole, parts)]
    assert [record["step"] for record in logs[0]] == [PER_EPOCH * (i + 1) for i in range(EPOCHS)]
    for one, other in zip(*logs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if "loss" in name or name in ("train_grad_norm", "train_lr", "test_coco_eval_bbox"):
                assert hexadecimal(one[name]) == hexadecimal(other[name]), (steps, name)
    states = [store.load(folder / f"checkpoint{SUFFIX[framework]}").state for folder in (whole, parts)]
    assert states[0].steps == states[1].steps == PER_EPOCH * EPOCHS
    for name, value in states[0].model.items():
        assert value.tobytes() == states[1].model[name].tobytes(), (steps, name)
    for name, moments in states[0].optimizer.items():
        assert all(m.tobytes() == o.tobytes() for m, o in zip(moments, states[1].optimizer[name])), (steps, name)


def hexadecimal(value):
    return [number.hex() for number in value] if isinstance(value, list) else float(value).hex()


@pytest.mark.parametrize("framework", SUFFIX)
@pytest.mark.parametrize("suffix", [*SUFFIX.values(), ".safetensors"])
def test_every_trained_tensor_moves_in_one_step_after_a_load(tmp_path, framework, suffix):
    """Of a file with weights and moments together, which Jittor's own loading would freeze."""
    twin = load_twin(framework)(SMALLER, NUM_CLASSES)
    twin.load(small_state(twin))
    twin.train_step(small_batch(1), seeding.step_seed(1, 1), 1.0)
    store.save(tmp_path / f"a{suffix}", Checkpoint(twin.state()))
    loaded = store.load(tmp_path / f"a{suffix}").state
    for target in (twin, load_twin(framework)(SMALLER, NUM_CLASSES)):
        target.load(loaded)
        target.train_step(small_batch(2), seeding.step_seed(1, 2), 1.0)
        after = target.state()
        still = [name for name in target.trained if np.array_equal(after.model[name], loaded.model[name])]
        assert still == [] and after.steps == 2


@pytest.mark.parametrize("framework", SUFFIX)
@pytest.mark.parametrize("option", ["resume", "weights"])
def test_every_trained_tensor_moves_in_one_step_after_a_load_of_weights_alone(tmp_path, framework, option):
    """Of a .pth without moments, as others publish them, on both ways."""
    config = SMALLER.replace(framework=framework, **{option: str(tmp_path / "a.pth")})
    given = small_state(load_twin(framework)(SMALLER, NUM_CLASSES)).model
    with open(tmp_path / "a.pth", "wb") as file:
        torch_writer.write(file, {"model": given})
    classes = Classes.of_categories([{"id": i, "name": f"class {i}"} for i in range(NUM_CLASSES)])
    twin = build(config, find_start(config), classes)
    assert all(np.array_equal(value, given[name]) for name, value in twin.state().model.items())
    twin.train_step(small_batch(2), seeding.step_seed(1, 1), 1.0)
    after = twin.state()
    assert [name for name in twin.trained if np.array_equal(after.model[name], given[name])] == [] and after.steps == 1


@pytest.mark.parametrize("fault, status, told", [
    ("SIGINT", 130, ""), ("WORKERS", 2, "a worker process was killed by signal 9; it was to read ")])
def test_what_jittor_must_not_handle_itself(coco, tmp_path, fault, status, told):
    """Jittor installs handlers for SIGINT and for the death of children: the run ends as it does with any twin."""
    said = run(coco, tmp_path, "jittor", "--num_workers", "1", fault=f"{fault}@6", status=status)
    assert "Traceback" not in said and told in said, said
    assert store.load(tmp_path / "checkpoint.pkl").step >= 6
    run(coco, tmp_path, "jittor", "--num_workers", "1", "--resume", "auto")
    assert [record["step"] for record in read_log(tmp_path / "log.txt")] == [PER_EPOCH * (i + 1) for i in range(EPOCHS)]
