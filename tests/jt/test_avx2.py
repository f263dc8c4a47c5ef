"""What depends on the instruction set, once more as on a processor that has AVX2 and no AVX-512."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detr_jittor.twin import processor

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run_limited(limit: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, text=True, capture_output=True, timeout=1200,
                          env=os.environ | {"DETR_ISA": limit, "PYTHONPATH": str(ROOT)})


@pytest.mark.skipif("avx512f" not in processor.flags() or processor.limit() is not None,
                    reason="without AVX-512 these tests run limited anyway")
@pytest.mark.parametrize("file", ["test_kernels_backbone.py", "test_kernels_transformer.py", "test_traps.py",
                                  "test_backbones_train.py"])
def test_limited_to_avx2(file):
    done = run_limited("avx2", "-m", "pytest", f"tests/jt/{file}", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


CODE = """
from small import NUM_CLASSES, SMALL, small_batch
from detr_jittor.jt.twin import JittorTwin

twin = JittorTwin(SMALL, NUM_CLASSES)
print(twin.kernels, twin.train_step(small_batch(1), 0, 1.0)["loss"])
"""


def test_an_older_processor_gets_the_plain_operators():
    """AVX without AVX2 and FMA"""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n{CODE}"
    old, new = (run_limited(limit, "-c", code) for limit in ("avx", "avx2"))
    assert old.returncode == new.returncode == 0, (old.stderr[-2000:], new.stderr[-2000:])
    words, loss = old.stdout.splitlines()[-1].rsplit(" ", 1)
    assert words == "plain Jittor operators (the processor lacks AVX2)"
    assert float(loss) == pytest.approx(float(new.stdout.split()[-1]), rel=1e-5)
