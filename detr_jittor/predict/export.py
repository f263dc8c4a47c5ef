"""A model as an ONNX file that holds all that its user must know, and how ONNX Runtime runs it.

The file takes pictures of any number and size, scaled, normalised and padded as for the twins:
    images [B, 3, H, W] float32 and mask [B, H, W] bool, true in the padding
and gives what the last decoder layer says:
    logits [B, Q, C + 1], boxes [B, Q, 4], and of a model with masks: masks [B, Q, H / 4, W / 4]
"""

import json
from pathlib import Path

import numpy as np

from detr_jittor import extras
from detr_jittor.data.transforms import MEAN, STD
from detr_jittor.errors import DetrError, writing
from detr_jittor.predict.predictor import Predictor
from detr_jittor.report.replacing import replacing
from detr_jittor.twin.seeding import generator
from detr_jittor.types import Batch, Outputs

AGREEMENT = 1e-4  # of the largest output or of 1, whichever is more; measured: 1e-5
TRIALS = ((1, 75, 133), (2, 128, 96))  # B, H, W of the pictures with which a new file is tried


def export(predictor: Predictor, path: Path) -> float:
    """Write the model of a predictor of the PyTorch twin as an ONNX file.

    The file's metadata say how pictures are prepared (mean, std, min_size, max_size), the labels' names, and whether
    each class has a probability of its own, the sigmoid of its logit (each).

    Returns: the largest difference between ONNX Runtime's outputs and the twin's, on pictures of noise.

    Errors: DetrError if a package is missing, the outputs differ, or the file cannot be written; then it is not there.
    """
    onnx, to_onnx = package("onnx"), package("detr_jittor.pt.export").to_onnx
    model = onnx.load_from_string(to_onnx(predictor.twin.model, predictor.twin.config.model.masks))
    onnx.helper.set_model_props(model, metadata(predictor))
    content = model.SerializeToString()
    difference = max(disagreement(session(content), predictor.twin, noise(*size)) for size in TRIALS)
    if not difference <= AGREEMENT:
        raise DetrError(f"ONNX Runtime's outputs differ from PyTorch's by {difference:.1e}.",
                        "Nothing was written; try other versions of torch and onnxruntime.")
    with writing(f"{path}:", "Choose another place."), replacing(path) as temporary:
        temporary.write_bytes(content)
    return difference


def metadata(predictor: Predictor) -> dict[str, str]:
    """What the file says of itself, as JSON: names by label (labels without a category are absent), and the scaling."""
    recipe = predictor.recipe
    values = {"names": predictor.classes.name_of(), "mean": [round(v, 3) for v in MEAN.tolist()],
              "std": [round(v, 3) for v in STD.tolist()], "min_size": recipe.min_size, "max_size": recipe.max_size,
              "each": predictor.twin.config.model.has_focal}
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def session(model: str | bytes):
    """ONNX Runtime with a file or its content, on the CPU."""
    return package("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])


def predict(onnx_session, batch: Batch) -> Outputs:
    """What the file says of a batch."""
    outputs = Outputs(*onnx_session.run(None, {"images": batch.images, "mask": batch.mask}))
    outputs.each = json.loads(onnx_session.get_modelmeta().custom_metadata_map.get("each", "false"))
    return outputs


def disagreement(onnx_session, twin, batch: Batch) -> float:
    """The largest difference of an output from the twin's, relative to its largest value, if that is above 1."""
    found, wanted = predict(onnx_session, batch), twin.predict(batch)
    pairs = [(getattr(found, name), getattr(wanted, name)) for name in ("logits", "boxes", "masks")]
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in pairs if b is not None)


def noise(b: int, h: int, w: int) -> Batch:
    """Pictures of noise, the last one half padding."""
    images, mask = generator(0).standard_normal((b, 3, h, w), np.float32), np.zeros((b, h, w), bool)
    images[-1, :, :, w // 2:], mask[-1, :, w // 2:] = 0, True
    return Batch(images, mask, [])


def package(name: str):
    """A module that only the export needs. Errors: DetrError if it is not installed."""
    return extras.package(name, "export", "the export")
