"""The settings of a run: what was given for it, over those of the checkpoint that it starts from."""

from typing import Any

from detr_jittor.checkpoint.architecture import settings_of, told
from detr_jittor.config.options import OPTIONS, Config, ModelConfig
from detr_jittor.config.presets import PRESETS
from detr_jittor.config.small import advice, chosen, small
from detr_jittor.data.splits import open_split
from detr_jittor.engine.start import FROZEN, NOTHING, WEIGHTS, Start, find_start

# A checkpoint's settings are the base for a run that goes on from it, but not these: they belong to one run.
NOT_INHERITED = ("framework", "output_dir", "device", "resume", "weights", "save_every_steps", "start_epoch", "eval",
                 "frozen_weights", "world_size", "dist_url", "precision", "plain", "threads", "num_workers",
                 "max_steps", "max_bad_images", "track")

# How pictures reach a model belongs to it: with other sizes or crops a trained detector loses most of its AP at once.
OF_PICTURES = ("min_size", "max_size", "augmentation")
FILES_OF_SPLITS = ("train_json", "val_json", "train_images", "val_images")
OF_WEIGHTS = (*(name for name in ModelConfig.__dataclass_fields__ if name not in ("num_classes", "backbone_norm")),
              *OF_PICTURES)


def settings_and_start(given: dict[str, Any], base: Config | None = None) -> tuple[Config, Start]:
    """The settings, and what the run starts from.

    The checkpoint's own settings are the base then, so that a model need not be described again, unless there is
    another `base`. Of `weights` and `frozen_weights` only those of the model and of how pictures reach it; where the
    file of `weights` holds none, what its shapes tell.

    Args:
        given: {option: value} of what was asked for, which comes before all others.

    Errors: DetrError if a file cannot be read.
    """
    config = (base or Config()).replace(**given)
    start = find_start(config)
    if start.mode == NOTHING or base:
        return config, start
    found, inherited = start.checkpoint.config, set(OPTIONS) - set(NOT_INHERITED)
    if start.mode == FROZEN:
        inherited = {*ModelConfig.__dataclass_fields__, *OF_PICTURES}
    elif start.mode == WEIGHTS:
        found = settings_of(start.checkpoint, start.file)
        for sentence in told(start.checkpoint, start.file) if found else ():
            print(sentence)
        inherited = {*OF_WEIGHTS, *(("dataset_file", "num_classes") if config.run.eval else ())}
    if found is None:
        return config, start
    if "coco_path" in given:  # another dataset, in place of that of the checkpoint's run
        inherited -= set(FILES_OF_SPLITS)
    values = {name: value for name, value in found.flat().items() if name in inherited}
    return Config().replace(**values).replace(**given), start


def preset(name: str, config: Config, decoder: str) -> dict[str, Any]:
    """{option: value} of a preset: "small", chosen by what the dataset holds (which is said), or that of a decoder."""
    if name != "small":
        return chosen(PRESETS[decoder][name])
    contents = open_split(config.data, "train").contents()
    print(f"{advice(contents)}.")
    return chosen(small(contents))
