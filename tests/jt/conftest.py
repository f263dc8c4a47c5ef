import pytest

from detr_jittor.jt.kernels import fast


@pytest.fixture
def bfloat16():
    if not fast.multiply_bfloat16(True):
        pytest.skip("the processor has no bfloat16")
    yield
    assert fast.multiply_bfloat16(False)
