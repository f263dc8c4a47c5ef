"""DETR (arXiv 2005.12872) in Jittor, with a PyTorch twin that proves the port.

`from detr_jittor import Detector` is the way in from Python. It is imported when it is asked for, so that importing
the package costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detr_jittor.detector import Detector as Detector

__version__ = "0.1.0"
__all__ = ["Detector"]


def __getattr__(name: str):
    if name == "Detector":
        from detr_jittor.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
