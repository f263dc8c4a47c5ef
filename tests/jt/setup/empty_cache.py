"""Two first starts at once on a cache that is empty: `python -m pytest tests/jt/setup/empty_cache.py`.

They compile Jittor's core, which takes minutes, so this is no part of the suite: .ci/run has it in its second half.
"""

import shutil

import pytest
from test_first_start import finish, is_right, start

from detr_jittor.bench.cold import core


@pytest.mark.timeout(1800)
def test_two_first_starts_at_once_on_an_empty_cache(tmp_path):
    """One compiles the core while the other one waits; both are right, and so is a third, which compiles nothing."""
    home = tmp_path / "home"
    home.mkdir()
    try:
        both = [start(home) for _ in range(2)]
        ends = [finish(process) for process in both]
        assert [process.returncode for process in both] == [0, 0], [err[-2000:] for _, err in ends]
        assert all(is_right(out) for out, _ in ends)
        made = core(home)
        assert len(made) == 1, made
        third = start(home)
        out, err = finish(third)
        assert third.returncode == 0 and is_right(out), (out, err[-2000:])
        assert core(home) == made
    finally:
        shutil.rmtree(home, ignore_errors=True)  # some hundred megabytes
