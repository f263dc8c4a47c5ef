"""A disk that is full and a folder that is read-only, for real, in namespaces of this test: what is played elsewhere.

Where the machine does not allow namespaces these tests are skipped and say why.
"""

import shlex
import subprocess
from pathlib import Path

import pytest
from test_training import command

from detr_jittor.checkpoint import store
from detr_jittor.report.log import read_log

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

DISK = ("unshare", "--user", "--map-root-user", "--mount")  # may mount, for itself
NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534")  # may do no more than the files' modes say


def inside(namespace: tuple[str, ...], script: str) -> subprocess.CompletedProcess:
    """Run a shell script in a namespace of its own. Skips where there can be none."""
    try:
        probe = subprocess.run([*namespace, "true"], capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("there is no unshare on this machine")
    if probe.returncode:
        pytest.skip(f"this machine allows no such namespace: {probe.stderr.strip()}")
    return subprocess.run([*namespace, "sh", "-euc", script], capture_output=True, text=True, timeout=100)


def statuses(done: subprocess.CompletedProcess) -> list[str]:
    return [line.removeprefix("status ") for line in done.stdout.splitlines() if line.startswith("status ")]


def run(config, *options: str) -> str:
    """A run as a line of a script, which tells its exit status."""
    return f"{shlex.join(command(config, '--num_classes', '2000', *options))} && echo status 0 || echo status $?"


@pytest.mark.parametrize("free, told", [
    (0, "log.txt: cannot be written (No space left on device)"),
    (16, "checkpoint.pkl: the checkpoint could not be written (No space left on device)")],
    ids=["nothing", "the log alone"])
def test_a_full_disk(config, tmp_path, free, told):
    """One epoch; then there is room for so many kB; then there is room again, and the run goes on to its end."""
    out, kept = Path(config.run.output_dir), tmp_path / "kept"
    out.mkdir()
    filler = shlex.quote(str(out / "filler"))
    first, rest = run(config, "--epochs", "1"), run(config, "--resume", "auto")
    done = inside(DISK, f"""
        mount -t tmpfs -o size=4m none {shlex.quote(str(out))}
        {first}
        dd if=/dev/zero of={filler} bs=4k 2>&1 | grep -o 'No space left on device'
        truncate -s -{free}k {filler}
        {rest}
        rm {filler}
        cp -r {shlex.quote(str(out))} {shlex.quote(str(kept))}-full
        {rest}
        cp -r {shlex.quote(str(out))} {shlex.quote(str(kept))}""")
    assert done.returncode == 0 and "No space left on device" in done.stdout, done.stderr
    assert statuses(done) == ["0", "2", "0"], done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert store.load(tmp_path / "kept-full" / "checkpoint.pkl").epoch == 0
    assert not list((tmp_path / "kept-full").glob(".*.writing"))
    assert store.load(kept / "checkpoint.pkl").epoch == 3 and len(read_log(kept / "log.txt")) == 4
    assert not list(out.iterdir())  # it was another disk


def test_a_disk_that_is_mounted_read_only(config):
    out = Path(config.run.output_dir)
    quoted = shlex.quote(str(out))
    out.mkdir()
    done = inside(DISK, f"mount -t tmpfs none {quoted}; {run(config, '--epochs', '1')}; mount -o remount,ro {quoted}; "
                        f"{run(config, '--resume', 'auto')}")
    assert statuses(done) == ["0", "2"], done.stderr
    assert f"{out}: cannot be written (Read-only file system)" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("resume", ["", "auto"])
def test_a_folder_that_this_user_may_only_read(config, resume):
    """Somebody who is not root, whom modes stop."""
    out = Path(config.run.output_dir)
    assert statuses(inside(NOBODY, run(config, "--epochs", "1"))) == ["0"]
    out.chmod(0o555)
    try:
        done = inside(NOBODY, run(config, "--resume", resume) if resume else run(config))
    finally:
        out.chmod(0o755)
    assert statuses(done) == ["2"], done.stderr
    assert f"{out}: cannot be written (Permission denied)" in done.stderr and "Traceback" not in done.stderr
    assert store.load(out / "checkpoint.pkl").epoch == 0
