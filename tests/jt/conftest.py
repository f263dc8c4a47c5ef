import pytest

from detr_jittor.jt.kernels import fast
from detr_jittor.twin import threads


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """The kernels divide their work among threads."""
    threads.tell_openmp(2)
    yield
    threads.tell_openmp(threads.count())


@pytest.fixture
def bfloat16():
    if not fast.multiply_bfloat16(True):
        pytest.skip("the processor has no bfloat16")
    yield
    assert fast.multiply_bfloat16(False)
