"""Which instructions the processor has, and a switch that limits everything to fewer.

`DETR_ISA=avx2 detr-jittor …` computes on any x86-64 machine as on one without AVX-512: our kernels, Jittor's operators,
oneDNN and PyTorch. It has to be set before either framework is imported.
"""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from detr_jittor.errors import DetrError

VARIABLE = "DETR_ISA"


@dataclass(frozen=True)
class InstructionSet:
    """One generation of x86-64 processors."""

    label: str
    flag: str  # in /proc/cpuinfo
    compiler: str  # g++ -march
    onednn: str  # ONEDNN_MAX_CPU_ISA
    pytorch: str  # ATEN_CPU_CAPABILITY
    mkl: str  # MKL_ENABLE_INSTRUCTIONS: PyTorch multiplies matrices with it


SETS = {  # each with all before it
    "sse4.1": InstructionSet("SSE4.1", "sse4_1", "penryn", "SSE41", "default", "SSE4_2"),
    "avx": InstructionSet("AVX", "avx", "sandybridge", "AVX", "default", "AVX"),
    "avx2": InstructionSet("AVX2", "avx2", "haswell", "AVX2", "avx2", "AVX2"),
    "avx512": InstructionSet("AVX-512", "avx512f", "skylake-avx512", "AVX512_CORE", "avx512", "AVX512"),
}
BFLOAT16 = {"bf16": "avx512_bf16", "AMX": "amx_bf16"}  # what comes on top, where there is no limit


def flags() -> set[str]:
    """The processor's own, as Linux names them."""
    found = re.search(r"^flags\s*:\s*(.*)$", read_cpuinfo(), re.MULTILINE)
    return set(found[1].split()) if found else set()


def name() -> str:
    found = re.search(r"^model name\s*:\s*(.*)$", read_cpuinfo(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def read_cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def limit() -> InstructionSet | None:
    """What DETR_ISA allows, None where it is not set. Errors: DetrError for a word that it does not know."""
    wanted = os.environ.get(VARIABLE, "").lower()
    if not wanted:
        return None
    if wanted not in SETS:
        raise DetrError(f"{VARIABLE}={wanted} is no instruction set.", f"Choose from {', '.join(SETS)}, or unset it.")
    return SETS[wanted]


def instruction_set() -> str:
    """The newest that is used, in words: `AVX2`, `AVX-512, bf16`, … "" for none of SETS."""
    has, most = flags(), limit()
    allowed = [s for s in SETS.values() if s.flag in has]
    if most:
        allowed = [s for s in allowed if [*SETS.values()].index(s) <= [*SETS.values()].index(most)]
    found = [s.label for s in allowed[-1:]] + [label for label, flag in BFLOAT16.items() if flag in has and not most]
    return ", ".join(found) + (f" ({VARIABLE}={os.environ[VARIABLE]})" if most else "")


def lacks_avx2() -> bool:
    """Whether this x86-64 processor is older than AVX2, or is treated as if it were."""
    most = limit()
    return "avx2" not in flags() or (most is not None and most.label in ("SSE4.1", "AVX"))


def has_bfloat16() -> bool:
    """Whether it multiplies bfloat16, and may."""
    return limit() is None and BFLOAT16["bf16"] in flags()


def compiler_flags() -> str:
    """For g++, after its -march=native"""
    most = limit()
    return f"-march={most.compiler}" if most else ""


def prepare() -> None:
    """Tell the libraries of the limit. To be called before they are loaded."""
    if most := limit():
        os.environ["ONEDNN_MAX_CPU_ISA"] = most.onednn
        os.environ["ATEN_CPU_CAPABILITY"] = most.pytorch
        os.environ["MKL_ENABLE_INSTRUCTIONS"] = most.mkl
