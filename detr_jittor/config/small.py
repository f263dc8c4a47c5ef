"""Settings for a small set of pictures, by what is in it: --preset small."""

import math
from dataclasses import dataclass

from detr_jittor.config.options import OPTIONS, Config
from detr_jittor.config.presets import BOX_DEMO

FEW = 2000  # pictures: with more, start from published weights instead
WORK = 8e7  # steps of training times pixels of a picture
MINUTES = 11  # in which two cores do it if the pictures are crowded; without AVX-512 half as many again
STEPS = 1000, 4000  # from fewest to most
OBJECT = 32  # pixels that an object of middling size should have at least, two places of stride 16
SIDES = (160, 224)  # short sides that are chosen from
SMALLEST = 96  # for pictures that are not even so large


@dataclass(frozen=True)
class Contents:
    """What a set of pictures holds."""

    pictures: int
    most: int  # objects in a picture
    shape: float  # long side of a picture by its short side, of the longest
    short: int  # side of a picture in pixels, in the middle of all
    size: float  # of an object, the root of its area by the picture's short side, in the middle of all


def small(contents: Contents) -> Config:
    """The demo's settings with the box decoder, with queries, copies, epochs and picture size for these contents."""
    wanted = OBJECT / max(contents.size, 1e-3)
    side = math.ceil(min(max(wanted, SIDES[0]), SIDES[1], max(contents.short, SMALLEST)) / 32) * 32
    longest = math.ceil(side * min(contents.shape, 4 / 3))
    steps = min(max(WORK / (side * longest), STEPS[0]), STEPS[1])
    epochs = max(8, math.ceil(steps * BOX_DEMO.optim.batch_size / max(contents.pictures, 1)))
    return BOX_DEMO.replace(
        num_queries=min(max(math.ceil(2 * contents.most / 10) * 10, 10), 300),
        denoising=min(max(150 // max(contents.most, 1), 3), 15),
        min_size=side, max_size=longest, epochs=epochs,
        lr_drop=max(epochs * 4 // 5, 1), eval_every=max(epochs // 5, 1))


def advice(contents: Contents) -> str:
    """Which settings fit such a set, and why, in sentences."""
    if contents.pictures > FEW:
        return (f"no preset is for {contents.pictures:,} pictures: begin with published weights (--weights detr-r50), "
                "or train with the defaults")
    config = small(contents)
    steps = config.optim.epochs * math.ceil(contents.pictures / config.optim.batch_size)
    minutes = math.ceil(MINUTES * steps * config.data.min_size * config.data.max_size / WORK)
    return (f"--preset small fits: from {contents.pictures:,} pictures DETR's own decoder does not learn from scratch. "
            f"It gives --decoder box, {config.model.num_queries} queries for up to {contents.most} objects, pictures "
            f"of {config.data.min_size} to {config.data.max_size} pixels, as objects are {100 * contents.size:.0f} % "
            f"of their short side, and {config.optim.epochs} epochs: up to {minutes} minutes on two cores, half as "
            "many again without AVX-512")


def chosen(config: Config) -> dict:
    """{option: value} of what settings have otherwise than the defaults"""
    return {name: value for name, value in config.flat().items() if value != OPTIONS[name][2].default}
