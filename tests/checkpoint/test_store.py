"""A checkpoint survives whatever happens while the next one is written."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_samples import assert_equal, sample

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.folder import RunFolder, newest
from detr_jittor.errors import DetrError

HERE = Path(__file__).parent


class Killer:
    """Counts what a save does to the disk, and kills the process at the N-th thing; a write is half done then."""

    def __init__(self, at: int = 0):
        self.at, self.done = at, 0

    def count(self) -> None:
        self.done += 1
        if self.done == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(self, function):
        def call(*arguments, **options):
            self.count()
            return function(*arguments, **options)
        return call

    def file(self, file):
        write = file.write

        class File:
            def write(_, data):
                if self.done + 1 == self.at:
                    write(bytes(data)[: len(data) // 2])
                    file.flush()
                self.count()
                return write(data)

            def __getattr__(_, name):
                return getattr(file, name)

        return File()

    def save(self, folder: RunFolder) -> None:
        """Save step 22 and name it best, with everything counted. Call this in a process of its own."""
        for name in ("replace", "link", "fsync"):
            setattr(os, name, self.counted(getattr(os, name)))
        write, check = store.WRITERS[folder.suffix], store.CHECKS[folder.suffix]
        store.WRITERS[folder.suffix] = lambda file, record: write(self.file(file), record)
        store.CHECKS[folder.suffix] = self.counted(check)
        folder.save(at_step(22))
        folder.also_as("best")


def in_a_child(work) -> int:
    """Run `work` in a fork. Returns: how it ended, as subprocess has it; 99 for an exception."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_step(step: int):
    checkpoint = sample()
    checkpoint.step = step
    return checkpoint


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_killed_anywhere(tmp_path, suffix):
    """From the first write to the last rename: a good checkpoint is there, of this step or the one before."""
    folder = RunFolder(tmp_path, suffix)
    folder.save(at_step(20))
    folder.save(at_step(21))
    good = {file.name: file.read_bytes() for file in tmp_path.glob(f"*{suffix}")}

    def dry_run():
        killer = Killer()
        killer.save(folder)
        (tmp_path / "count").write_text(str(killer.done))

    assert in_a_child(dry_run) == 0
    count, seen = int((tmp_path / "count").read_text()), []
    for at in sorted({*range(1, count + 1, max(1, count // 20)), *range(max(1, count - 10), count + 1)}):
        for file in tmp_path.glob(f"*{suffix}"):
            file.unlink()
        for name, content in good.items():
            (tmp_path / name).write_bytes(content)
        assert in_a_child(lambda at=at: Killer(at).save(folder)) == -signal.SIGKILL, at
        file, checkpoint = newest(tmp_path)
        assert file.name == f"checkpoint{suffix}"
        assert_equal(checkpoint, at_step(checkpoint.step))
        assert store.load(folder.file("checkpoint_previous")).step in (20, 21)
        seen.append(checkpoint.step)
    assert seen[0] == 21 and seen[-1] == 22 and seen == sorted(seen) and len(seen) >= 8
    folder.close()
    RunFolder(tmp_path, suffix).close()
    assert not list(tmp_path.glob(".*.writing"))


def test_the_last_two_and_the_best_are_kept(tmp_path, checkpoint):
    folder = RunFolder(tmp_path, ".pkl")
    for step in (1, 2, 3):
        folder.save(at_step(step))
        if step == 2:
            folder.also_as("best")
    assert {p.name: store.load(p).step for p in tmp_path.glob("*.pkl")} == {
        "checkpoint.pkl": 3, "checkpoint_previous.pkl": 2, "best.pkl": 2}
    assert (tmp_path / "best.pkl").samefile(tmp_path / "checkpoint_previous.pkl")


def test_names_without_links(tmp_path, monkeypatch):
    """On a file system without hard links they are copies."""
    def no_link(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_link)
    folder = RunFolder(tmp_path, ".pth")
    folder.save(at_step(1))
    folder.save(at_step(2))
    folder.also_as("best")
    assert [store.load(folder.file(n)).step for n in ("checkpoint", "checkpoint_previous", "best")] == [2, 1, 2]


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_what_is_written_is_read_back(tmp_path, checkpoint, suffix, monkeypatch):
    """A bit that changes between memory and disk is found before the old checkpoint goes."""
    path = tmp_path / f"a{suffix}"
    store.save(path, checkpoint)
    before = path.read_bytes()

    def spoil(descriptor):
        for temporary in tmp_path.glob(".*.writing"):
            content = bytearray(temporary.read_bytes())
            content[content.find(checkpoint.state.model["query_embed.weight"].tobytes())] ^= 1
            temporary.write_bytes(content)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(DetrError, match="could not be written"):
        store.save(path, checkpoint)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_what_a_power_failure_could_take_is_flushed(tmp_path, checkpoint, monkeypatch):
    """The whole file before it gets its name, and the folder, which holds the name, before the save returns."""
    path, events, flush, rename = tmp_path / "a.pkl", [], os.fsync, os.replace

    def flushed(descriptor):
        what = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(what.st_mode) else what.st_size)
        flush(descriptor)

    def renamed(source, target):
        events.append("renamed")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    store.save(path, checkpoint)
    assert events == [path.stat().st_size, "renamed", "folder"]


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_full_disk(tmp_path, checkpoint, suffix):
    store.save(tmp_path / f"a{suffix}", checkpoint)
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(HERE)!r})
from checkpoint_samples import sample
from detr_jittor.checkpoint import store
from detr_jittor.errors import DetrError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    store.save({str(tmp_path / f"a{suffix}")!r}, sample())
except DetrError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "could not be written (File too large)" in done.stdout and done.returncode == 0, done.stderr
    assert_equal(store.load(tmp_path / f"a{suffix}"), checkpoint)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_vanished(tmp_path, checkpoint):
    folder = RunFolder(tmp_path / "run", ".pkl")
    folder.save(checkpoint)
    for file in folder.path.iterdir():
        file.unlink()
    folder.path.rmdir()
    with pytest.raises(DetrError, match="could not be written"):
        folder.save(checkpoint)
    with pytest.raises(DetrError, match="cannot be written"):
        folder.also_as("best")


def test_one_run_at_a_time(tmp_path):
    first = RunFolder(tmp_path, ".pkl")
    with pytest.raises(DetrError, match="another run is writing there"):
        RunFolder(tmp_path, ".pth")
    first.close()
    RunFolder(tmp_path, ".pth").close()


def test_an_earlier_run_is_set_aside(tmp_path, checkpoint):
    """With the other framework's checkpoint, which may be of more steps than the new run's first."""
    for name in ("checkpoint.pkl", "checkpoint.pth", "best.pkl", "checkpoint0099.pkl"):
        store.save(tmp_path / name, checkpoint)
    (tmp_path / "log.txt").write_text("{}\n")
    (tmp_path / "notes.txt").write_text("mine")
    folder = RunFolder(tmp_path, ".pkl")
    assert folder.set_aside().name == "earlier-1"
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "notes.txt", "earlier-1"}
    assert {p.name for p in (tmp_path / "earlier-1").iterdir()} == {
        "checkpoint.pkl", "checkpoint.pth", "best.pkl", "checkpoint0099.pkl", "log.txt"}
    assert folder.set_aside() is None
    folder.save(checkpoint)
    assert folder.set_aside().name == "earlier-2"


@pytest.mark.parametrize("name, fault", [
    ("missing.pkl", "no such file"), (f"missing{'g' * 300}.pkl", "no such file"),
    ("a.txt", "is no format of checkpoints"), ("folder.pkl", "no such file"),
    ("empty.pkl", "it is empty"), ("empty.pth", "it is empty"), ("text.pth", "not a readable checkpoint"),
    ("text.safetensors", "not a readable checkpoint")])
def test_files_that_are_no_checkpoints(tmp_path, name, fault):
    (tmp_path / "folder.pkl").mkdir()
    if "missing" not in name and "folder" not in name:
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"<!DOCTYPE html><title>404</title>")
    with pytest.raises(DetrError, match=fault) as error:
        store.load(tmp_path / name)
    assert name in str(error.value)


@pytest.mark.parametrize("field, value", [("step", -1), ("batches", -1), ("batches", 7), ("epoch", -2)])
def test_a_place_in_the_run_that_cannot_be(tmp_path, checkpoint, field, value):
    """An epoch of six batches of which seven are done would never end."""
    setattr(checkpoint, field, value)
    store.save(tmp_path / "a.pkl", checkpoint)
    with pytest.raises(DetrError, match=r"a\.pkl: not a readable checkpoint: damaged \("):
        store.load(tmp_path / "a.pkl")


def test_unknown_format_is_refused_before_anything_is_written(tmp_path, checkpoint):
    with pytest.raises(DetrError, match="is no format of checkpoints"):
        store.save(tmp_path / "a.ckpt", checkpoint)
    assert not list(tmp_path.iterdir())
