from pathlib import Path

import pytest

from detr_jittor.jt.kernels import fast
from detr_jittor.jt.kernels.cuda import library
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


@pytest.fixture(autouse=True)
def emulated_card(monkeypatch):
    """The kernels in CUDA run on the processor: the same sources, with another head."""
    def compiled(header: str, code: str) -> dict[str, str]:
        emulation = Path(__file__).with_name("emulation.h")
        return {"cpu_header": f'#include "{emulation}"\n{header}', "cpu_src": code}

    monkeypatch.setattr(library, "compiled", compiled)
