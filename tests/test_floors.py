"""Imports point down the floors that ARCHITECTURE.md states, and nothing runs in a circle.

Lazy imports count, and so do modules that are named in a text, as `importlib.import_module` takes them.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "detr_jittor"
NAMED = re.compile(rf"{PACKAGE}(\.\w+)+\.?")


def floors() -> dict[str, int]:
    """{room: floor}, counted from the top, as the fenced line of ARCHITECTURE.md with an arrow to `twin` has them."""
    text = next(block for block in re.findall(r"```\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.S)
                if "→ twin →" in " ".join(block.split()))
    in_turn = enumerate(" ".join(text.split()).split(" → "))
    return {room: floor for floor, rooms in in_turn for room in rooms.split(" · ")}


def modules() -> dict[str, str]:
    """{module: source} of the package and main.py."""
    files = {file.relative_to(ROOT): file for file in [ROOT / "main.py", *(ROOT / PACKAGE).rglob("*.py")]}
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): file.read_text(encoding="utf-8")
            for path, file in files.items()}


def named(source: str) -> Iterator[str]:
    """What a module imports, or names so that it can be imported: "detr_jittor.data.coco.CocoIndex"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import that begins with a dot"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            yield node.value.rstrip(".")


def arrows(sources: dict[str, str]) -> set[tuple[str, str]]:
    """(module, module that it imports) within the package."""
    found = set()
    for module, source in sources.items():
        for name in named(source):
            while name and name not in sources:
                name = name.rpartition(".")[0]
            if name and name != module:
                found.add((module, name))
    return found


def room(module: str) -> str:
    """The folder or the file below the root that a module belongs to."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and parts[1] != "__main__" else f"{parts[0]}.py"


def upward(sources: dict[str, str], order: dict[str, int]) -> set[str]:
    """The arrows between rooms that do not point down. The package itself leads to the Python interface alone, above
    all rooms."""
    places = {"main.py": -1, **order, f"{PACKAGE}.py": -1}
    return {f"{a} → {b}" for a, b in arrows(sources)
            if room(a) != room(b) and not a.endswith("__main__") and places[room(a)] >= places[room(b)]}


def circle(sources: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, if there are some."""
    graph: dict[str, set[str]] = {}
    for a, b in arrows(sources):
        graph.setdefault(a, set()).add(b)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_room_has_a_floor():
    rooms = {room(module) for module in modules()} - {"main.py", f"{PACKAGE}.py"}
    assert rooms == floors().keys() - {"main.py"}


def test_imports_point_down():
    assert upward(modules(), floors()) == set()


def test_nothing_runs_in_a_circle():
    assert circle(modules()) == []


@pytest.mark.parametrize("module, fault", [
    ("data.coco", "import detr_jittor.engine.start"),
    ("data.coco", "def f():\n    from detr_jittor.evaluate import coco_ap"),
    ("twin.contract", "importlib.import_module('detr_jittor.jt.twin')"),
    ("twin.contract", "importlib.import_module(f'detr_jittor.{folder}.twin' + 'detr_jittor.pt.')"),
    ("jt.twin", "from detr_jittor.pt.twin import PyTorchTwin"),
    ("errors", "from detr_jittor.types import State"),
    ("predict.found", "from detr_jittor import Detector"),
])
def test_an_arrow_that_does_not_point_down_is_found(module, fault):
    sources = modules()
    sources[f"{PACKAGE}.{module}"] += f"\n{fault}\n"
    assert len(upward(sources, floors())) == 1


def test_a_circle_within_a_room_is_found():
    sources = modules()
    assert "detr_jittor.data.batch" in sources["detr_jittor.data.loader"]
    sources["detr_jittor.data.batch"] += "\nfrom detr_jittor.data.loader import Loader\n"
    assert {"detr_jittor.data.batch", "detr_jittor.data.loader"} <= set(circle(sources))
