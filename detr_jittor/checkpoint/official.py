"""The seven models that the paper's authors published: their files, settings and results on COCO val2017."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from detr_jittor.checkpoint.download import fetch, has_hash
from detr_jittor.config.options import Config
from detr_jittor.errors import DetrError

SERVER = "https://dl.fbaipublicfiles.com/detr/"
IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")  # what the transformers library calls the weights in a folder
INSTEAD = "DETR_WEIGHTS"  # environment variable: a file or a folder that is taken instead of the download


@dataclass(frozen=True)
class Official:
    """A published model.

    Attributes:
        file: its name ends in the head of its SHA-256.
        options: the model options in which it differs from the defaults.
        results: published, in per cent: box AP, and of the panoptic ones mask AP and panoptic quality.
    """

    file: str
    options: dict
    results: dict[str, float]

    @property
    def config(self) -> Config:
        panoptic = {"dataset_file": "coco_panoptic"} if "masks" in self.options else {}
        return Config().replace(**self.options, **panoptic, num_classes=self.num_classes, backbone_norm="frozen")

    @property
    def num_classes(self) -> int:
        return 250 if "masks" in self.options else 91


def panoptic(file: str, box: float, mask: float, quality: float, **options) -> Official:
    return Official(file, {**options, "masks": True}, {"box AP": box, "mask AP": mask, "PQ": quality})


OFFICIAL = {
    "detr-r50": Official("detr-r50-e632da11.pth", {}, {"box AP": 42.0}),
    "detr-r50-dc5": Official("detr-r50-dc5-f0fb7ef5.pth", {"dilation": True}, {"box AP": 43.3}),
    "detr-r101": Official("detr-r101-2c7b67e5.pth", {"backbone": "resnet101"}, {"box AP": 43.5}),
    "detr-r101-dc5": Official("detr-r101-dc5-a2e86def.pth", {"backbone": "resnet101", "dilation": True},
                              {"box AP": 44.9}),
    "detr-r50-panoptic": panoptic("detr-r50-panoptic-00ce5173.pth", 38.8, 31.1, 43.4),
    "detr-r50-dc5-panoptic": panoptic("detr-r50-dc5-panoptic-da08f1b1.pth", 40.2, 31.9, 44.6, dilation=True),
    "detr-r101-panoptic": panoptic("detr-r101-panoptic-40021d53.pth", 40.1, 33.0, 45.1, backbone="resnet101"),
}


def official_file(name: str) -> Path:
    """The file of a published model: what DETR_WEIGHTS names, else from the cache or the network.

    Errors: DetrError if DETR_WEIGHTS names nothing that is there, or if it cannot be fetched.
    """
    file = OFFICIAL[name].file
    instead = os.environ.get(INSTEAD)
    if not instead:
        try:
            return fetch(SERVER + file)
        except DetrError as error:
            raise DetrError(error.what, f"{error.fix} Or name a file or its folder in {INSTEAD}.") from None
    path = Path(instead)
    if path.is_dir():
        path = path / file
    if not path.is_file():
        raise DetrError(f"{path}: no such file, and {INSTEAD} says to take it instead of the download of {name}.",
                        f"Put it there, or unset {INSTEAD}.")
    if path.name == file and not has_hash(path):
        raise DetrError(f"{path}: damaged, its SHA-256 is not what its name says.", "Download it again.")
    return path


def is_official(file: str | Path) -> bool:
    """Whether a file bears the name of a published model."""
    return Path(file).name in {model.file for model in OFFICIAL.values()}


def weights_path(wanted: str) -> Path:
    """The file that an option means: a published model by its name or address, the weights in a folder that the
    transformers library wrote, or a file.

    Errors: DetrError as above, for another address, and for a folder without such weights.
    """
    if wanted in OFFICIAL:
        return official_file(wanted)
    if re.match(r"\w+://", wanted):
        for name, model in OFFICIAL.items():
            if wanted in (SERVER + model.file, (SERVER + model.file).replace("https", "http")):
                return official_file(name)
        raise DetrError(f"{wanted}: only the published models are fetched from their addresses.",
                        f"Download it and pass the file, or name one of {', '.join(OFFICIAL)}.")
    path = Path(wanted)
    if os.path.isdir(path):
        if found := next((path / name for name in IN_FOLDERS if (path / name).is_file()), None):
            return found
        inside = [file.name for file in sorted(path.iterdir()) if file.suffix in (".pkl", ".pth", ".safetensors")]
        holds = f"holds {', '.join(inside[:5])}{', …' if len(inside) > 5 else ''}" if inside else "holds no weights"
        raise DetrError(f"{path}: is a folder that {holds}.", f"Pass a file, or a folder with {IN_FOLDERS[0]}.")
    return path
