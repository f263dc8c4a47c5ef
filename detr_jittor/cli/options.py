"""The options of the command line, made from config/options.py, and the settings that they give."""

import argparse

from detr_jittor.checkpoint.architecture import settings_of, told
from detr_jittor.config.options import OPTIONS, Config, ModelConfig, checked, read_config
from detr_jittor.engine.start import FROZEN, NOTHING, WEIGHTS, Start, find_start

ALSO = {"coco_path": ("--data",)}  # other names of an option

# A checkpoint's settings are the base for a run that goes on from it, but not these: they belong to one run.
NOT_INHERITED = ("framework", "output_dir", "device", "resume", "weights", "save_every_steps", "start_epoch", "eval",
                 "frozen_weights", "world_size", "dist_url", "precision", "plain", "threads", "num_workers",
                 "max_steps", "max_bad_images")

# How pictures reach a model belongs to it: with other sizes or crops a trained detector loses most of its AP at once.
OF_PICTURES = ("min_size", "max_size", "augmentation")
OF_WEIGHTS = (*(name for name in ModelConfig.__dataclass_fields__ if name not in ("num_classes", "backbone_norm")),
              *OF_PICTURES)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every option of config/options.py, grouped as there, and --config.

    Options that the user does not give are absent from the parsed arguments, so that `config_of` knows which to take
    from a file.
    """
    parser.allow_abbrev = False
    parser.usage = "%(prog)s [options]"
    parser.add_argument("--config", metavar="FILE", help="take settings from the config.json of a run; options that "
                                                         "are given besides override it")
    groups = {}
    for name, (group, kind, field) in OPTIONS.items():
        if group not in groups:
            groups[group] = parser.add_argument_group(Config.__dataclass_fields__[group].type.__doc__)
        add_option(groups[group], name, kind, field)


def add_option(group, name: str, kind: type, field) -> None:
    text, default = field.metadata["help"], field.default
    if kind is bool:
        group.add_argument(f"--{name}", action="store_true", default=argparse.SUPPRESS, help=text)
        return
    shown = "" if default in (None, "") else f" [{default}]"
    group.add_argument(f"--{name}", *ALSO.get(name, ()), type=kind, default=argparse.SUPPRESS, help=text + shown,
                       choices=field.metadata["choices"] or None,
                       metavar=None if field.metadata["choices"] else kind.__name__.upper())


def given(args: argparse.Namespace) -> dict:
    """{option: value} of the options that the user gave."""
    return {name: checked(name, value, f"--{name}") for name, value in vars(args).items() if name in OPTIONS}


def config_of(args: argparse.Namespace) -> Config:
    """The settings: those that were given, over those of --config, over the defaults."""
    base = read_config(args.config) if args.config else Config()
    return base.replace(**given(args))


def config_and_start(args: argparse.Namespace) -> tuple[Config, Start]:
    """The settings, and what the run starts from.

    The checkpoint's own settings are the base then, so that a model need not be described again, unless there is a
    --config. Of --weights and --frozen_weights only those of the model and of how pictures reach it; where the file of
    --weights holds none, what its shapes tell.

    Errors: DetrError if a file cannot be read.
    """
    config = config_of(args)
    start = find_start(config)
    if start.mode == NOTHING or args.config:
        return config, start
    base, inherited = start.checkpoint.config, set(OPTIONS) - set(NOT_INHERITED)
    if start.mode == FROZEN:
        inherited = {*ModelConfig.__dataclass_fields__, *OF_PICTURES}
    elif start.mode == WEIGHTS:
        base = settings_of(start.checkpoint, start.file)
        for sentence in told(start.checkpoint, start.file) if base else ():
            print(sentence)
        inherited = {*OF_WEIGHTS, *(("dataset_file", "num_classes") if config.run.eval else ())}
    if base is None:
        return config, start
    values = {name: value for name, value in base.flat().items() if name in inherited}
    return Config().replace(**values).replace(**given(args)), start
