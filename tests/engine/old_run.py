"""A run that was interrupted in the middle of its first epoch, with the code of November 2026, and its continuation.

`python tests/engine/old_run.py record` adds what the continuation logs on this machine to old_checkpoints/losses.json.
`… write` made the checkpoints; it is kept to tell how, and not to be run again: old files are the point.
"""

import json
import lzma
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.checkpoint import store
from detr_jittor.compare.conditions import version
from detr_jittor.report.log import read_log
from detr_jittor.twin import processor
from detr_jittor.twin.parameters import is_norm
from detr_jittor.types import State

FOLDER = Path(__file__).parent / "old_checkpoints"
LOSSES = FOLDER / "losses.json"
FILES = {"jittor": "checkpoint.pkl", "pytorch": "checkpoint.pth"}
RUNS = {"jittor": ("jittor", []), "jittor --plain": ("jittor", ["--plain"]), "pytorch": ("pytorch", [])}
PACKAGES = ("jittor", "torch", "numpy", "scipy", "Pillow", "onednn-cpu-gomp")
INSTRUCTIONS = {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"}
OPTIONS = {
    "backbone": "resnet18", "backbone_stages": 3, "backbone_norm": "frozen", "backbone_weights": "none",
    "hidden_dim": 16, "dim_feedforward": 16, "enc_layers": 1, "dec_layers": 2, "nheads": 2, "num_queries": 5,
    "dropout": 0.1, "dropout_masks": "shared", "batch_size": 2, "epochs": 3, "lr_drop": 2, "warmup_steps": 4,
    "lr": 1e-3, "lr_backbone": 1e-4, "clip_max_norm": 0.1, "min_size": 64, "max_size": 80, "num_workers": 0,
    "ema": True, "device": "cpu", "seed": 7}


def write_dataset(root: Path) -> None:
    """Six pictures for training, three steps an epoch, and two for validation: one coloured block each, made of whole
    numbers alone, so that they are the same everywhere."""
    categories = [{"id": i, "name": name} for i, name in enumerate(("red", "green", "blue"), 1)]
    (root / "annotations").mkdir(parents=True)
    for split, numbers in (("train", range(1, 7)), ("val", range(7, 9))):
        folder = root / f"{split}2017"
        folder.mkdir()
        images, objects = [], []
        for n in numbers:
            height, width = (64, 80) if n % 2 else (72, 64)
            x, y, w, h = 4 + 5 * n, 30 - 3 * n, 20 + n, 34
            rows, columns = np.ogrid[:height, :width]
            pixels = np.stack([(rows * (3 + n) + columns * (5 + c)) % 97 for c in range(3)], axis=2).astype(np.uint8)
            pixels[y:y + h, x:x + w, n % 3] = 230
            Image.fromarray(pixels).save(folder / f"{n}.png")
            images.append({"id": n, "file_name": f"{n}.png", "height": height, "width": width})
            objects.append({"id": n, "image_id": n, "category_id": n % 3 + 1, "bbox": [x, y, w, h], "area": w * h,
                            "iscrowd": 0})
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(
            {"images": images, "annotations": objects, "categories": categories}))


def train(coco: Path, out: Path, framework: str, *options: str) -> None:
    """On one thread, because sums of another number of threads differ in their last bits."""
    given = [f"--{name}" if value is True else f"--{name}={value}" for name, value in OPTIONS.items()]
    command = [sys.executable, "-m", "detr_jittor", "train", *given, "--coco_path", str(coco),
               "--output_dir", str(out), "--framework", framework, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]


def continued(folder: Path, run: str) -> list[dict[str, str]]:
    """What the run logs when it goes on from its old checkpoint: of each epoch every loss, the gradient's norm and
    the learning rate, in hexadecimal.

    Args:
        folder: for the data and the output; it may hold the data already.
    """
    framework, options = RUNS[run]
    coco, out, file = folder / "coco", folder / run.replace(" ", ""), folder / FILES[framework]
    if not coco.is_dir():
        write_dataset(coco)
    file.write_bytes(lzma.decompress((FOLDER / f"{file.name}.xz").read_bytes()))
    train(coco, out, framework, "--resume", str(file), *options)
    return [{name: " ".join(float(number).hex() for number in np.ravel(value)) for name, value in record.items()
             if ("loss" in name and "unscaled" not in name) or name in ("train_grad_norm", "train_lr")}
            for record in read_log(out / "log.txt")]


def machine() -> dict[str, str]:
    """What the last bits of a sum depend on, besides the number of threads."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return {"processor": processor.name(), "instructions": " ".join(sorted(flags & INSTRUCTIONS)),
            **{name: version(name) for name in PACKAGES}}


def record() -> None:
    """Add this machine, or replace what is written of it."""
    known = json.loads(LOSSES.read_text()) if LOSSES.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        losses = {run: continued(Path(folder), run) for run in RUNS}
    others = [entry for entry in known if entry["machine"] != machine()]
    LOSSES.write_text(json.dumps([*others, {"machine": machine(), "losses": losses}], indent=1) + "\n")


def write() -> None:
    """Two steps of a run. Then its arrays are thinned out, because the files are kept here: of the backbone one number
    in 509 stays, enlarged so that activations keep their size, and each has 10 bits."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder, "coco"))
        for framework, name in FILES.items():
            train(Path(folder, "coco"), Path(folder, framework), framework, "--max_steps", "2")
            checkpoint = store.load(Path(folder, framework, name))
            old = checkpoint.state
            checkpoint.state = State(
                {n: thinned(n, v) for n, v in old.model.items()},
                {n: (thinned(n, m), thinned(n, v)) for n, (m, v) in old.optimizer.items()}, old.steps,
                {n: thinned(n, v) for n, v in old.average.items()})
            store.save(Path(folder, name), checkpoint)
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"{name}.xz").write_bytes(lzma.compress(Path(folder, name).read_bytes(), preset=9))


def thinned(name: str, value: np.ndarray) -> np.ndarray:
    if is_norm(name) and name.endswith("bias"):  # no sum is exactly 0, where the gradient of ReLU jumps
        value = np.cos(np.arange(len(value)) + len(name)) / 8
    value = value.astype(np.float16).astype(np.float32) if np.abs(value).max() > 1e-3 else rounded(value)
    if "backbone" in name and value.ndim == 4:
        kept = np.zeros_like(value)
        kept.flat[::509] = value.flat[::509] * 16
        return kept
    return value


def rounded(value: np.ndarray) -> np.ndarray:
    """Small numbers, such as AdamW's moments, with the upper half of their bits."""
    return (value.view(np.uint32) & np.uint32(0xffff0000)).view(np.float32)


if __name__ == "__main__":
    {"record": record, "write": write}[sys.argv[1]]()
