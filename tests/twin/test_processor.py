"""What the processor can do, and the switch that limits it."""

import os

import pytest

from detr_jittor.errors import DetrError
from detr_jittor.twin import processor

ZEN3 = "fpu sse4_1 avx fma avx2"
GRANITE = ZEN3 + " avx512f avx512_bf16 amx_bf16"


@pytest.fixture(autouse=True)
def unlimited(monkeypatch):
    for name in ("DETR_ISA", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("flags, wanted, words, old", [
    (GRANITE, "", "AVX-512, bf16, AMX", False), (GRANITE, "avx2", "AVX2 (DETR_ISA=avx2)", False),
    (GRANITE, "avx", "AVX (DETR_ISA=avx)", True), (ZEN3, "", "AVX2", False),
    (ZEN3, "AVX512", "AVX2 (DETR_ISA=AVX512)", False),
    ("fpu sse4_1 avx", "", "AVX", True), ("fpu sse2", "", "", True)])
def test_what_is_used(monkeypatch, flags, wanted, words, old):
    monkeypatch.setattr(processor, "read_cpuinfo", lambda: f"model name\t: A CPU\nflags\t\t: {flags}\n")
    if wanted:
        monkeypatch.setenv("DETR_ISA", wanted)
    assert (processor.instruction_set(), processor.lacks_avx2(), processor.name()) == (words, old, "A CPU")
    assert processor.has_bfloat16() == ("bf16" in words)


def test_a_limit_reaches_every_library(monkeypatch):
    processor.prepare()
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ and processor.compiler_flags() == ""
    monkeypatch.setenv("DETR_ISA", "avx2")
    processor.prepare()
    assert (os.environ["ONEDNN_MAX_CPU_ISA"], os.environ["ATEN_CPU_CAPABILITY"]) == ("AVX2", "avx2")
    assert os.environ["MKL_ENABLE_INSTRUCTIONS"] == "AVX2"
    assert processor.compiler_flags() == "-march=haswell"


def test_an_unknown_limit_is_refused(monkeypatch):
    monkeypatch.setenv("DETR_ISA", "neon")
    with pytest.raises(DetrError, match=r"DETR_ISA=neon is no instruction set.*sse4.1, avx, avx2, avx512"):
        processor.prepare()
