"""Plants a fault: a source file of this package is changed while it is imported, in this process only.

So a faulty copy of the Jittor twin runs without a file being written, and a fault reads like a line of a diff.
"""

import importlib.abc
import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fault:
    name: str
    stage: str  # the stage that must catch it
    file: str  # relative to the package, e.g. "jt/criterion.py"
    changes: tuple[tuple[str, str], ...]  # (text, what stands in its place); each text occurs exactly once
    decoder: str = "detr"  # of the model that has the part, as `selftest.small_config` has it

    @property
    def module(self) -> str:
        return "detr_jittor." + self.file.removesuffix(".py").replace("/", ".")

    def apply(self, source: str) -> str:
        """Errors: ValueError if a text does not occur exactly once, so that no fault goes stale unnoticed."""
        for old, new in self.changes:
            if source.count(old) != 1:
                raise ValueError(f"fault {self.name!r}: {self.file} has {source.count(old)} × {old!r}, not once")
            source = source.replace(old, new)
        return source


class FaultyLoader(SourceFileLoader):
    """Reads a source file with a fault in it; past the bytecode cache, which knows only the sound file."""

    def __init__(self, fault: Fault, name: str, path: str):
        super().__init__(name, path)
        self.fault = fault

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.source_to_code(self.fault.apply(Path(path).read_text(encoding="utf-8")), path)


class FaultFinder(importlib.abc.MetaPathFinder):
    def __init__(self, fault: Fault):
        self.fault = fault

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.fault.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        loader = FaultyLoader(self.fault, fullname, spec.origin)
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


def plant(fault: Fault) -> None:
    """From here on this process imports the faulty file. Errors: RuntimeError if it has the sound one already."""
    if fault.module in sys.modules:
        raise RuntimeError(f"{fault.module} has been imported before the fault was planted")
    sys.meta_path.insert(0, FaultFinder(fault))
