"""The published models by the names of the reference code's hub:

    from detr_jittor.predict.hub import detr_resnet50
    found = detr_resnet50().detect(pixels)  # pixels [H, W, 3] uint8; of the panoptic models `segment(pixels)`

Each function returns a `Predictor`, whose `twin` is the model. Weights are fetched once into a cache folder; the
environment variable DETR_WEIGHTS names a file or folder to take instead.
"""

from functools import partial

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import OFFICIAL, official_file
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.postprocess import detections
from detr_jittor.evaluate.segmentation import THRESHOLD, panoptic
from detr_jittor.frameworks.load import load_twin
from detr_jittor.predict.predictor import Predictor


def detr_resnet50(pretrained: bool = True, num_classes: int = 91, return_postprocessor: bool = False,
                  framework: str = "jittor"):
    """DETR with ResNet-50: 42.0 box AP on COCO val2017.

    Args:
        pretrained: with the published weights, which are of 91 classes; else as initialised.
        return_postprocessor: return (predictor, function from `Outputs` and targets to `Detections`) instead.

    Errors: DetrError if the weights cannot be fetched or do not fit.
    """
    return detector("detr-r50", pretrained, num_classes, return_postprocessor, framework)


def detr_resnet50_dc5(pretrained: bool = True, num_classes: int = 91, return_postprocessor: bool = False,
                      framework: str = "jittor"):
    """With dilation in the last stage: 43.3 box AP. As `detr_resnet50`."""
    return detector("detr-r50-dc5", pretrained, num_classes, return_postprocessor, framework)


def detr_resnet101(pretrained: bool = True, num_classes: int = 91, return_postprocessor: bool = False,
                   framework: str = "jittor"):
    """DETR with ResNet-101: 43.5 box AP. As `detr_resnet50`."""
    return detector("detr-r101", pretrained, num_classes, return_postprocessor, framework)


def detr_resnet101_dc5(pretrained: bool = True, num_classes: int = 91, return_postprocessor: bool = False,
                       framework: str = "jittor"):
    """With dilation in the last stage: 44.9 box AP. As `detr_resnet50`."""
    return detector("detr-r101-dc5", pretrained, num_classes, return_postprocessor, framework)


def detr_resnet50_panoptic(pretrained: bool = True, num_classes: int = 250, threshold: float = THRESHOLD,
                           return_postprocessor: bool = False, framework: str = "jittor"):
    """DETR with ResNet-50 and masks: 43.4 PQ on COCO val2017.

    Args:
        threshold: segments have a larger score.
        return_postprocessor: return (predictor, function from `Outputs` and targets to `Segmentation`) instead.

    Errors: as `detr_resnet50`.
    """
    return segmenter("detr-r50-panoptic", pretrained, num_classes, threshold, return_postprocessor, framework)


def detr_resnet50_dc5_panoptic(pretrained: bool = True, num_classes: int = 250, threshold: float = THRESHOLD,
                               return_postprocessor: bool = False, framework: str = "jittor"):
    """With dilation in the last stage: 44.6 PQ. As `detr_resnet50_panoptic`."""
    return segmenter("detr-r50-dc5-panoptic", pretrained, num_classes, threshold, return_postprocessor, framework)


def detr_resnet101_panoptic(pretrained: bool = True, num_classes: int = 250, threshold: float = THRESHOLD,
                            return_postprocessor: bool = False, framework: str = "jittor"):
    """DETR with ResNet-101 and masks: 45.1 PQ. As `detr_resnet50_panoptic`."""
    return segmenter("detr-r101-panoptic", pretrained, num_classes, threshold, return_postprocessor, framework)


def detector(name: str, pretrained: bool, num_classes: int, return_postprocessor: bool, framework: str):
    predictor = published(name, pretrained, num_classes, framework)
    return (predictor, detections) if return_postprocessor else predictor


def segmenter(name: str, pretrained: bool, num_classes: int, threshold: float, return_postprocessor: bool,
              framework: str):
    predictor = published(name, pretrained, num_classes, framework)
    predictor.threshold = threshold
    postprocess = partial(panoptic, classes=predictor.classes, threshold=threshold)
    return (predictor, postprocess) if return_postprocessor else predictor


def published(name: str, pretrained: bool, num_classes: int, framework: str) -> Predictor:
    """A published model. Errors: DetrError."""
    model = OFFICIAL[name]
    config = model.config.replace(framework=framework, num_classes=num_classes)
    if not pretrained:
        return Predictor(Checkpoint(load_twin(framework)(config, num_classes).state()), config, name)
    if num_classes != model.num_classes:
        raise DetrError(f"{name}: the published weights are of {model.num_classes} classes, not {num_classes}.",
                        f"Pass pretrained=False, or fine-tune them: detr-jittor train --weights {name}.")
    file = official_file(name)
    checkpoint = store.load(file)
    try:
        return Predictor(checkpoint, config, file)
    except DetrError as error:
        raise DetrError(f"{file}: {error.what.removeprefix(f'{file}: ')}", error.fix) from None
