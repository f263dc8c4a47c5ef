"""Stage 2: the same weights under the same names with the same start values, and the same ones trained."""

from detr_jittor.align.measure import Item, exact
from detr_jittor.align.stage import Stage
from detr_jittor.align.trial import JITTOR, PYTORCH, Trial
from detr_jittor.config.options import Config

# Trainable parameters of the reference code's models, with 91 classes.
PUBLISHED = {"resnet50": 41_302_368, "resnet101": 60_242_272}
PUBLISHED_MASKS = 1_202_073 + 131_584  # the mask head and its attention map


def run(trial: Trial) -> Stage:
    jittor, pytorch = (trial.once("structure", name, "structure") for name in (JITTOR, PYTORCH))
    items = [
        exact("trainable parameters", jittor["n_parameters"], pytorch["n_parameters"]),
        exact("numbers in all", jittor["numbers"], pytorch["numbers"]),
    ]
    published = published_count(trial.config)
    if published:
        items.append(exact("trainable parameters, as published", jittor["n_parameters"], published))
    trained = {name: set(of["trained"]) for name, of in ((JITTOR, jittor), (PYTORCH, pytorch))}
    for name in pytorch["shapes"] | jittor["shapes"]:
        shapes = jittor["shapes"].get(name), pytorch["shapes"].get(name)
        kinds = ["trained" if name in trained[of] else "fixed" for of in (JITTOR, PYTORCH)]
        begun = jittor["start"].get(name) == pytorch["start"].get(name)
        same = shapes[0] == shapes[1] and kinds[0] == kinds[1]
        notes = [f"{of} {shape}, {kind}" for of, shape, kind in zip((JITTOR, PYTORCH), shapes, kinds)]
        note = "; ".join(notes) if not same else kinds[0] if begun else "other start values from the same seed"
        items.append(Item(name, same and begun, shapes[1] or (), note=note))
    return Stage("structure", items, [f"{len(pytorch['shapes'])} weights, {len(trained[PYTORCH])} of them trained"])


def published_count(config: Config) -> int | None:
    """The trainable parameters of the reference code's model of this size; None for a size that it does not have."""
    standard = Config().replace(backbone=config.model.backbone, num_classes=config.model.num_classes,
                                dilation=config.model.dilation, dropout=config.model.dropout, backbone_norm="frozen",
                                masks=config.model.masks)
    if config.model != standard.model or config.model.backbone not in PUBLISHED or not config.optim.lr_backbone > 0:
        return None
    head = PUBLISHED_MASKS if config.model.masks else 0
    if config.run.frozen_weights:
        return head
    return PUBLISHED[config.model.backbone] + (config.model.num_classes - 91) * (config.model.hidden_dim + 1) + head
