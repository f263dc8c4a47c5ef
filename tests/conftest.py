"""What all tests share."""

import os

import pytest
from hypothesis import settings

# `make test` runs two workers, on two processors as a rule: a second thread of each would only wait for its turn. Tests
# in which it matters ask for `all_processors`, and those of the kernels have a fixture of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow at times: no deadline for a single example.
settings.register_profile("detr", deadline=None)
settings.load_profile("detr")

# Each takes a minute or more; the longest first. A worker gets whole files: one of these at the end would leave the
# other worker idle.
LONGEST = ["test_processes.py", "test_processes_stop.py", "test_bench_run.py", "test_readme.py", "test_box_twins.py",
           "test_golden.py", "test_align_command.py", "test_resume_twins.py", "test_avx2.py", "test_wheel.py",
           "test_twins.py", "test_self_test.py", "test_fine_tuning_twins.py", "test_first_start.py",
           "test_processes_masks.py", "test_browser.py", "test_box_runs.py"]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [*LONGEST, item.path.name].index(item.path.name))


@pytest.fixture(scope="module")
def all_processors():
    """The processes that a module's tests start compute with as many threads as a user's."""
    with pytest.MonkeyPatch.context() as m:
        m.delenv("OMP_NUM_THREADS", raising=False)
        yield
