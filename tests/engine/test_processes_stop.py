"""Several processes, of which one fails, is killed or gets a signal: all end, and what was learned is saved."""

import re
import shutil
from pathlib import Path

import psutil
import pytest
from launched import RUN, STOP, SUFFIX, TWINS, end, finish, rank_of, run, start, training, wait_for

from detr_jittor.checkpoint import store
from detr_jittor.report.log import read_log

pytestmark = pytest.mark.slow

ENDING_RUN = (str(Path(__file__).parent / "ending_run.py"),)


@TWINS
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
    assert re.search(r"rank 1 with PID \d+ on node \S+ exited on\s+signal 9" if framework == "jittor" else
                     r"rank +: 1 .*\n.*exitcode +: -9", err + out), err[-3000:]
    assert store.load(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}").step > 0


@TWINS
def test_one_fails(data, tmp_path, framework):
    """A fault in one process ends all of them, with its own line, and not with a wait for each other."""
    coco = tmp_path / "coco"
    shutil.copytree(data / "coco", coco)
    for picture in (coco / "train2017").iterdir():
        picture.write_bytes(b"")
    arguments = training(data, tmp_path / "out", "--coco_path", str(coco), "--max_bad_images", "1", batch=2, epochs=20)
    process = start(framework, 2, *arguments)
    _, err = finish(process, RUN)
    assert process.returncode != 0
    assert "error: process 0: 4 pictures could not be read" in err and "error: process 1: 4 pictures" in err


@TWINS
def test_a_step_without_pictures_for_one(data, tmp_path, framework):
    """Batches of one, and a picture that cannot be read: both leave the step out, and the run goes on."""
    coco = tmp_path / "coco"
    shutil.copytree(data / "coco", coco)
    bad = sorted((coco / "train2017").iterdir())[0]
    bad.write_bytes(b"<html>")
    _, err = run(framework, 2, *training(data, tmp_path / "out", "--coco_path", str(coco), batch=1, epochs=3))
    assert err.count("left out:") == 1 and bad.name in err
    assert [record["step"] for record in read_log(tmp_path / "out" / "log.txt")] == [2, 4, 6]


@TWINS
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



@TWINS
@pytest.mark.parametrize("way", ["nan", "itself"])
def test_none_leaves_before_process_0_has_saved(data, tmp_path, framework, way):
    """A loss that is no number, or SIGTERM to each, after step 7: the launcher, which ends all when one has left with
    an error, gives process 0 the seconds that it takes to save."""
    arguments = training(data, tmp_path / "out", "--coco_path", str(data / "long"), batch=2, epochs=1)
    process = start(framework, 2, way, "7", "4", *arguments, program=ENDING_RUN)
    _, err = finish(process, RUN)
    assert process.returncode != 0
    assert store.load(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}").step == 7, err[-3000:]
    assert ("error: process 0: step 7: the loss is nan" in err) == (way == "nan"), err[-3000:]


def test_process_0_notices_that_another_one_has_left(data, tmp_path):
    """Under torchrun, which leaves it the time to save; mpirun does not."""
    arguments = training(data, tmp_path / "out", "--coco_path", str(data / "long"), batch=2, epochs=1)
    process = start("pytorch", 2, "alone", "7", "2", *arguments, program=ENDING_RUN)
    _, err = finish(process, RUN)
    assert process.returncode == 1 and "process 1: step 7" in err and "a fault of this process alone" in err
    assert store.load(tmp_path / "out" / "checkpoint.pth").step == 7, err[-3000:]


def test_a_fault_of_one_process_alone_under_mpirun(data, tmp_path):
    """It does not wait for the others at its exit, as MPI does, nor they for it: its line is told, all end, and the
    newest checkpoint is there to go on from."""
    arguments = training(data, tmp_path / "out", "--coco_path", str(data / "long"), "--save_every_steps", "3", batch=2,
                         epochs=1)
    process = start("jittor", 2, "alone", "7", "0", *arguments, program=ENDING_RUN)
    _, err = finish(process, RUN)
    assert process.returncode not in (0, None), err[-3000:]
    assert "error: process 1: step 7" in err and "a fault of this process alone" in err
    assert store.load(tmp_path / "out" / "checkpoint.pkl").step in (6, 7), err[-3000:]


@pytest.mark.parametrize("framework, number, status", [
    ("jittor", "SIGUSR1", 138), ("pytorch", "SIGTERM", 1), ("pytorch", "SIGINT", 1)])
def test_a_signal_to_the_launcher(data, tmp_path, framework, number, status):
    """As Ctrl-C gives it to torchrun: all stop after the same step, in mid-epoch, and the checkpoint is saved."""
    arguments = training(data, tmp_path / "out", "--coco_path", str(data / "long"), "--num_workers", "2", batch=2,
                         epochs=1)
    process = start(framework, 2, number, "7", "0", *arguments, program=ENDING_RUN)
    _, err = finish(process, RUN)
    assert process.returncode == status and "error: process" not in err, (process.returncode, err[-3000:])
    saved = store.load(tmp_path / "out" / f"checkpoint{SUFFIX[framework]}")
    assert 7 <= saved.step == saved.batches < 250, err[-3000:]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_mpirun_leaves_no_time_to_save(data, tmp_path, number):
    """It kills its processes half a second after these: all end, and the checkpoint before loads."""
    arguments = training(data, tmp_path / "out", "--coco_path", str(data / "long"), "--save_every_steps", "3", batch=2,
                         epochs=1)
    process = start("jittor", 2, number, "7", "0", *arguments, program=ENDING_RUN)
    finish(process, RUN)
    assert process.returncode == 1
    assert store.load(tmp_path / "out" / "checkpoint.pkl").step >= 6
