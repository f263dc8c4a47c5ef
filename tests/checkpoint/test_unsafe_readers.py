"""No file is read by what can execute it: NumPy's, pickle's and the frameworks' loading, eval and their like."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "detr_jittor"
UNSAFE = {"numpy.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load", "torch.jit.load",
          "torch.hub.load", "torch.serialization.load", "jittor.load", "jittor.hub.load", "pandas.read_pickle",
          "eval", "exec", "compile", "__import__", "os.system", "os.popen"}
UNSAFE_MODULES = ("joblib", "yaml", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "_pickle")
ALLOWED = {  # what the processes of one run send each other; no file
    ("data/transport.py", "pickle.loads"), ("jt/processes.py", "pickle.loads"),
    # texts, lists and mappings only, for data.yaml; another loader would have another name
    *(("data/layouts/names.py", name) for name in ("yaml", "yaml.load", "yaml.BaseLoader", "yaml.YAMLError")),
    ("data/writers/yolo.py", "yaml"), ("data/writers/yolo.py", "yaml.safe_dump")}


def dotted(node: ast.expr) -> str:
    """"np.load" of an expression that is names and dots, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return inner and f"{inner}.{node.attr}"


def unsafe(source: str) -> set[str]:
    """The names among the above that a program uses, under whatever name it imported them."""
    nodes, stands_for, found = list(ast.walk(ast.parse(source))), {}, set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                first = name.name.split(".")[0]
                stands_for |= {name.asname: name.name} if name.asname else {first: first}
                found.add(name.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            stands_for |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    for node in nodes:
        if isinstance(getattr(node, "ctx", None), ast.Load) and (name := dotted(node)):
            first, *rest = name.split(".")
            found.add(".".join([stands_for.get(first, first), *rest]))
    found |= set(stands_for.values())
    return {name for name in found if name in UNSAFE or name.split(".")[0] in UNSAFE_MODULES}


def test_nothing_unsafe_is_used():
    used = {(str(file.relative_to(PACKAGE)), name) for file in PACKAGE.rglob("*.py")
            for name in unsafe(file.read_text(encoding="utf-8"))}
    assert used == ALLOWED


@pytest.mark.parametrize("program, name", [
    ("import numpy as np\nnp.load('a.npy', allow_pickle=True)", "numpy.load"),
    ("import numpy\nnumpy.load(f)", "numpy.load"), ("from torch import load", "torch.load"),
    ("from pickle import loads as read\nread(b)", "pickle.loads"), ("import pickle\nread = pickle.load", "pickle.load"),
    ("def f():\n    import jittor as jt\n    return jt.load(path)", "jittor.load"),
    ("import joblib", "joblib"), ("import yaml as y\ny.safe_load(f)", "yaml"), ("eval(text)", "eval"),
    ("read = exec", "exec"), ("import os as o\no.system('x')", "os.system")])
def test_it_would_be_seen(program, name):
    assert any(found == name or found.startswith(f"{name}.") for found in unsafe(program))


@pytest.mark.parametrize("program", [
    "model.eval()", "import re\nre.compile('x')", "import json\njson.load(f)", "twin.load(state)", "run(eval=True)",
    "from detr_jittor.checkpoint import store\nstore.load(path)", "import pickle\npickle.dumps(x)"])
def test_what_is_safe_stays_allowed(program):
    assert unsafe(program) == set()
