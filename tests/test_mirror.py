"""The twins are one program written twice: jt/ and pt/ have the same files, classes, methods, arguments, defaults and
state-dict keys. What may differ is named here, with the reason; an entry that no longer applies fails too.
"""

import ast
from pathlib import Path

import pytest

from detr_jittor.config.options import Config
from detr_jittor.jt.detr import DETR as JittorDETR
from detr_jittor.jt.segmentation import DETRsegm as JittorDETRsegm

from detr_jittor.pt.detr import DETR as PyTorchDETR  # isort: skip  (jittor first)
from detr_jittor.pt.segmentation import DETRsegm as PyTorchDETRsegm  # isort: skip

ROOT = Path(__file__).parents[1] / "detr_jittor"
JT, PT = ROOT / "jt", ROOT / "pt"

ONLY_JT = {
    "layers.py": "layers that PyTorch has and Jittor has not, or not exactly",
    "kernels": "what Jittor lacks on this hardware",
    "setup": "makes `import jittor` work on a bare machine",
}

ONLY_PT = {"export.py": "ONNX, which Jittor cannot write"}

# What one side has and the other has not, or with other arguments: "file: name" → the reason.
EXTRAS = {
    "backbone.py: FrozenBatchNorm2d.forward": "in Jittor the norm runs convolution, norm, sum and ReLU as one kernel",
    "backbone.py: BatchNorm2d.forward": "likewise; PyTorch inherits it",
    "backbone.py: BlockConvolution": "holds the weight for that kernel; PyTorch has nn.Conv2d",
    "backbone.py: BlockConvolution.__init__": "likewise",
    "dropout.py: Dropout.rate": "the fused kernels ask for the probability in force",
    "dropout.py: mix32": "seeding.mix32 in PyTorch operators; Jittor's is in kernels/",
    "dropout.py: keep_mask": "seeding.keep_mask in PyTorch operators; Jittor's is in kernels/",
    "sampling.py: bilinear": "a kernel samples in Jittor; the plain one is in kernels/",
    "sampling.py: samples": "likewise",
    "processes.py: COMMAND": "each has a launcher of its own",
    "processes.py: exchanging": "torchrun's processes are told that another has ended; mpirun ends them",
    "processes.py: PATIENCE": "likewise: how long they wait",
    "processes.py: Together.leave": "MPI leaves by itself when its process ends",
    **dict.fromkeys(("timing.py: Gradient", "timing.py: Gradient.forward", "timing.py: Gradient.grad"),
                    "jt.grad takes the gradient of a loss; PyTorch's takes that of the value too"),
    "twin.py: Twin.to_float64": "the truth of the alignment",
}


def source_files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.suffix == ".py" or (p.is_dir() and p.name != "__pycache__")}


def signature(function: ast.FunctionDef) -> str:
    """The names, order and defaults of the arguments; annotations may name each framework's own types."""
    arguments = ast.parse(f"def f({ast.unparse(function.args)}): pass").body[0].args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    return ast.unparse(arguments)


def contents(file: Path) -> dict[str, str]:
    """{name: signature} of the classes, methods and functions of a file, and {name: value} of its constants."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = signature(node)
        elif isinstance(node, ast.Assign) and node.targets[0].id.isupper():
            found[node.targets[0].id] = ast.unparse(node.value)
        elif isinstance(node, ast.ClassDef):
            found[common(node.name)] = "class"
            found.update(methods(node))
    return found


def methods(node: ast.ClassDef) -> dict[str, str]:
    found = {}
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef):
            found[f"{common(node.name)}.{common(inner.name)}"] = signature(inner)
        elif isinstance(inner, ast.Assign) and inner.targets[0].id == "expansion":
            found[f"{node.name}.expansion"] = ast.unparse(inner.value)
    return found


def common(name: str) -> str:
    """Jittor's modules have `execute` where PyTorch's have `forward`, and the twins bear their own names."""
    return {"execute": "forward", "JittorTwin": "Twin", "PyTorchTwin": "Twin"}.get(name, name)


def differences(jt: dict[str, str], pt: dict[str, str]) -> set[str]:
    return {name for name in jt.keys() | pt.keys() if jt.get(name) != pt.get(name)}


def all_differences() -> dict[str, str]:
    shared = source_files(JT) & source_files(PT)
    found = {}
    for file in sorted(shared):
        jt, pt = contents(JT / file), contents(PT / file)
        found.update({f"{file}: {n}": f"jt {jt.get(n)!r}, pt {pt.get(n)!r}" for n in differences(jt, pt)})
    return found


def test_the_same_files():
    assert source_files(PT) - source_files(JT) == ONLY_PT.keys()
    assert source_files(JT) - source_files(PT) == ONLY_JT.keys()


def test_the_same_classes_methods_arguments_and_defaults():
    found = all_differences()
    assert {n: found[n] for n in found.keys() - EXTRAS.keys()} == {}
    assert EXTRAS.keys() - found.keys() == set(), "no longer needed"


@pytest.mark.parametrize("fault", ["def forward(self, x, scale=2): pass", "def extra(self): pass", ""])
def test_a_difference_is_found(fault):
    one = "class A:\n    def __init__(self, n=1): pass\n    def {}(self, x, scale=1): pass"
    jt, pt = ast.parse(one.format("execute")), ast.parse(one.format("forward"))
    assert methods(jt.body[0]) == methods(pt.body[0])
    pt.body[0].body[1:] = ast.parse(fault).body
    assert differences(methods(jt.body[0]), methods(pt.body[0]))


def test_neither_imports_the_other():
    for folder, strangers in ((JT, ("torch", "detr_jittor.pt")), (PT, ("jittor", "detr_jittor.jt"))):
        for file in folder.rglob("*.py"):
            assert [name for name in imports(file) if name.startswith(strangers)] == [], file


def test_each_framework_is_imported_in_its_own_folder_only():
    for file in set(ROOT.rglob("*.py")) - set(JT.rglob("*.py")) - set(PT.rglob("*.py")):
        roots = {name.split(".")[0] for name in imports(file)}
        assert not roots & {"torch", "jittor", "jittor_core", "torchvision", "transformers"}, file


def imports(file: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    return names


@pytest.mark.parametrize("options", [
    {"backbone": "resnet18"}, {"backbone": "resnet50"}, {"backbone": "resnet101", "dilation": True},
    {"backbone": "resnet34", "backbone_stages": 3, "backbone_norm": "batch"},
    {"backbone": "resnet18", "position_embedding": "learned", "pre_norm": True, "enc_layers": 1, "dec_layers": 2},
])
def test_the_same_state_dict(options):
    config = Config().replace(**options).model
    jt, pt = ({n: tuple(v.shape) for n, v in cls(config, 91).state_dict().items()}
              for cls in (JittorDETR, PyTorchDETR))
    assert jt == pt
    assert len(jt) > 100


def test_the_same_state_dict_with_masks():
    config = Config().replace(masks=True).model
    jt, pt = ({n: tuple(v.shape) for n, v in cls(config, 250).state_dict().items()}
              for cls in (JittorDETRsegm, PyTorchDETRsegm))
    assert jt == pt
    assert {n.split(".")[0] for n in jt} == {"detr", "bbox_attention", "mask_head"}
