"""From the name of a framework to the folder of its twin. Only the framework that is asked for is imported."""

import importlib
from types import ModuleType

from detr_jittor.config.options import FRAMEWORKS
from detr_jittor.errors import DetrError
from detr_jittor.twin.contract import Twin

FOLDERS = {"jittor": "detr_jittor.jt", "pytorch": "detr_jittor.pt"}


def load_twin(framework: str) -> type[Twin]:
    """The twin of a framework. Errors: DetrError for a name that is none."""
    name = {"jittor": "JittorTwin", "pytorch": "PyTorchTwin"}
    return getattr(part(framework, "twin"), name[framework])


def part(framework: str, name: str) -> ModuleType:
    """A file of a twin's folder, such as "capture" or "timing".

    Errors: DetrError for a name that is no framework, and for PyTorch's where it is not installed.
    """
    if framework not in FRAMEWORKS:
        raise DetrError(f"there is no framework {framework!r}.", f"Choose from {', '.join(FRAMEWORKS)}.")
    try:
        return importlib.import_module(f"{FOLDERS[framework]}.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DetrError("the PyTorch twin needs the package torch, which is not installed.",
                        'Run: pip install "detr-jittor[pytorch]"') from None
