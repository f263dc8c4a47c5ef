"""The folder of a run: one run at a time, full and read-only disks, which checkpoint a run goes on from."""

import errno
import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from test_training import command

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.folder import RunFolder, newest
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.train import train
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log

pytestmark = pytest.mark.timeout(60)


def test_two_runs_in_one_folder(config):
    process = subprocess.Popen(command(config), env={**os.environ, "STEP_SECONDS": "30"}, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if (Path(config.run.output_dir) / "config.json").exists():
                break
            time.sleep(0.1)
        with pytest.raises(DetrError, match="another run is writing there"):
            train(config)
    finally:
        process.kill()
        process.wait()
    assert train(config.replace(epochs=1)) == 0  # the lock went with the process


def test_an_evaluation_beside_a_run_is_refused(config):
    """They would share the folder of panoptic segments, and both measure what the other one wrote. Without a folder of
    its own it may read the run's checkpoint."""
    train(config.replace(epochs=1))
    resume = str(Path(config.run.output_dir) / "checkpoint.pkl")
    run = RunFolder(config.run.output_dir, ".pkl")
    with pytest.raises(DetrError, match="another run is writing there"):
        evaluate(config.replace(resume=resume))
    beside = evaluate(config.replace(resume=resume, output_dir=""))
    run.close()
    assert evaluate(config.replace(resume=resume)).bbox.stats == beside.bbox.stats


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks(config, monkeypatch, capsys, code):
    """As some network disks are: the run warns and goes on, and deletes nothing that may be another run's."""
    out = Path(config.run.output_dir)
    out.mkdir()
    (out / ".checkpoint.pkl.writing").write_text("another run's")

    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    folder = RunFolder(out, ".pkl")
    assert f"cannot be locked ({os.strerror(code)})" in capsys.readouterr().err
    assert (out / ".checkpoint.pkl.writing").exists()
    folder.close()
    assert train(config.replace(epochs=1)) == 0 and (out / "checkpoint.pkl").exists()


def test_the_lock_goes_with_the_run_not_with_the_processes_that_it_started(tmp_path):
    folder = RunFolder(tmp_path, ".pkl")
    forked = os.dup(folder._lock.fileno())  # what a fork has
    folder.close()
    RunFolder(tmp_path, ".pkl").close()
    os.close(forked)


def test_a_new_run_sets_the_old_one_aside(config, capsys):
    train(config.replace(epochs=1))
    train(config.replace(epochs=2))
    out = Path(config.run.output_dir)
    assert "earlier-1" in capsys.readouterr().out
    assert len(read_log(out / "log.txt")) == 2 and len(read_log(out / "earlier-1" / "log.txt")) == 1
    assert store.load(out / "earlier-1" / "checkpoint.pkl").epoch == 0


def test_resume_auto_takes_the_newest_good_one(config, capsys):
    assert train(config.replace(resume="auto", epochs=2)) == 0
    assert "starts from the beginning" in capsys.readouterr().out
    out = Path(config.run.output_dir)
    content = (out / "checkpoint.pkl").read_bytes()
    (out / "checkpoint.pkl").write_bytes(content[: len(content) // 2])
    train(config.replace(resume="auto", epochs=3))
    captured = capsys.readouterr()
    assert "checkpoint.pkl: not a readable checkpoint" in captured.err
    assert "Going on from" in captured.out and "checkpoint_previous.pkl" in captured.out
    assert [r["epoch"] for r in read_log(out / "log.txt")] == [0, 1, 2]


@pytest.fixture
def several(config) -> Path:
    """The folder of a run whose best checkpoint, of its first epoch, and the one with a number are older."""
    train(config.replace(epochs=3))
    out = Path(config.run.output_dir)
    shutil.copy(out / "checkpoint0001.pkl", out / "copy")
    os.replace(out / "copy", out / "checkpoint0001.pkl")
    first = store.load(out / "checkpoint.pkl")
    first.epoch, first.step = 0, 5
    store.save(out / "best.pkl", first)
    return out


def damage(*files: Path) -> None:
    for file in files:
        content = file.read_bytes()
        file.unlink()  # the others keep what they share with it
        file.write_bytes(content[: len(content) // 2])


def test_times_do_not_say_which_is_the_newest(several):
    """They are lost where a folder is copied without them."""
    for age, name in enumerate(("checkpoint_previous.pkl", "best.pkl", "checkpoint0001.pkl", "checkpoint.pkl")):
        os.utime(several / name, (1e9 - age, 1e9 - age))
    assert newest(several)[0].name == "checkpoint.pkl"
    damage(several / "checkpoint.pkl")
    assert newest(several)[0].name == "checkpoint_previous.pkl"


@pytest.mark.parametrize("later", [".pkl", ".pth"])
def test_the_framework_that_went_further_has_the_newest(several, later):
    checkpoint, (earlier,) = store.load(several / "checkpoint.pkl"), {".pkl", ".pth"} - {later}
    store.save(several / f"checkpoint{earlier}", checkpoint)
    checkpoint.step += 1  # of the same epoch
    store.save(several / f"checkpoint{later}", checkpoint)
    os.utime(several / f"checkpoint{later}", (1e9, 1e9))
    assert newest(several)[0].name == f"checkpoint{later}"


def test_where_the_last_two_are_damaged(config, several, capsys):
    """The best and those with a number are left: the newest that can be read, and what was taken is said."""
    damage(several / "checkpoint.pkl", several / "checkpoint_previous.pkl")
    file, checkpoint = newest(several)
    assert file.name == "checkpoint0001.pkl" and checkpoint.epoch == 1
    damage(several / "checkpoint0001.pkl")
    capsys.readouterr()
    assert train(config.replace(resume="auto", epochs=2)) == 0
    captured = capsys.readouterr()
    assert captured.err.count("not a readable checkpoint") == 3
    assert f"Going on from {several / 'best.pkl'}." in captured.out
    assert [record["epoch"] for record in read_log(several / "log.txt")] == [0, 1]
    assert store.load(several / "checkpoint.pkl").epoch == 1
    damage(*several.glob("*.pkl"))
    with pytest.raises(DetrError, match="none of its checkpoints can be read"):
        train(config.replace(resume="auto"))


def run_with_files_up_to(size: int, config, *options: str) -> subprocess.CompletedProcess:
    """A run of which no file may grow beyond a size: what a full disk is like. Curves are drawn."""
    probe = ("import resource, sys; sys.argv = sys.argv[1:]; "
             f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
             f"sys.path.insert(0, {str(Path(__file__).parent)!r}); import numpy_twin; sys.exit(numpy_twin.main())")
    python, script, *rest = command(config, *options)
    return subprocess.run([python, "-c", probe, script, *rest], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "DRAW_CURVES": "1"})


def test_a_disk_without_room_for_checkpoints(config):
    """The run goes on, says so, and ends with an error."""
    out = Path(config.run.output_dir)
    train(config.replace(epochs=1, num_classes=200))  # larger than the log
    size = (out / "checkpoint.pkl").stat().st_size
    done = run_with_files_up_to(size - 100, config, "--resume", "auto")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "warning:" in done.stderr and "could not be written (File too large)" in done.stderr.splitlines()[-1]
    assert "curves" not in done.stderr
    assert store.load(out / "checkpoint.pkl").epoch == 0 and len(read_log(out / "log.txt")) == 4
    assert not list(out.glob(".*.writing"))


def test_a_disk_without_room_for_the_log(config):
    """One error, and no traceback of what could not be written before."""
    out = Path(config.run.output_dir)
    train(config.replace(epochs=1))
    size = (out / "log.txt").stat().st_size
    done = run_with_files_up_to(3 * size // 2, config, "--resume", "auto")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "the log cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert store.load(out / "checkpoint.pkl").epoch == 0


def test_a_disk_without_room_for_anything(config):
    done = run_with_files_up_to(100, config)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "config.json: cannot be written (File too large)" in done.stderr.splitlines()[-1]


def test_a_disk_without_room_for_the_curves(config):
    """All that was learned is there: a warning."""
    done = run_with_files_up_to(15_000, config)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "the curves cannot be drawn (File too large)" in done.stderr
    assert store.load(Path(config.run.output_dir) / "checkpoint.pkl").epoch == 3


def test_what_the_run_says_goes_to_a_full_disk(config):
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(config, "--eval_every", "4"), stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=60, env={**os.environ, "PYTHONUNBUFFERED": ""})
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    assert "error: the output: No space left on device. Make room." in done.stderr
    assert store.load(Path(config.run.output_dir) / "checkpoint.pkl").step == 5  # in an epoch that saves nothing itself


def test_a_folder_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DetrError, match="cannot be written"):
        train(config.replace(output_dir=str(tmp_path / "file" / "out")))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("but", [(), (".lock",)])
def test_a_folder_that_is_read_only(config, read_only, capsys, code, but):
    """Refused before anything is read or built, also where the lock of an earlier run is all that can be written."""
    train(config.replace(epochs=1))
    capsys.readouterr()
    with read_only(Path(config.run.output_dir), code, but):
        for work, resume in ((train, ""), (train, "auto"), (evaluate, "auto")):
            with pytest.raises(DetrError, match=rf"out: cannot be written \({os.strerror(code)}\)"):
                work(config.replace(resume=resume))
    assert "parameters" not in capsys.readouterr().out
    assert train(config.replace(epochs=2, resume="auto")) == 0


def test_a_folder_that_becomes_read_only(config, read_only, tmp_path):
    train(config.replace(epochs=1))
    folder = RunFolder(config.run.output_dir, ".pkl")
    with read_only(folder.path, errno.EROFS), pytest.raises(DetrError, match=r"earlier-1: cannot be written \(Read-o"):
        folder.set_aside()
    folder.close()


def test_a_half_file_that_is_not_ours_to_delete(config, monkeypatch):
    out = Path(config.run.output_dir)
    out.mkdir()
    (out / ".checkpoint.pkl.writing").write_text("")

    def unlink(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(DetrError, match=r"out: cannot be written \(Operation not permitted\)"):
        train(config)
