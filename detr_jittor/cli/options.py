"""The options of the command line, made from config/options.py, and the settings that they give."""

import argparse

from detr_jittor.config.options import OPTIONS, Config, checked, read_config
from detr_jittor.engine.settings import settings_and_start
from detr_jittor.engine.start import Start

ALSO = {"coco_path": ("--data",)}  # other names of an option


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
    """The settings, and what the run starts from, as `settings_and_start` has them. Errors: DetrError."""
    return settings_and_start(given(args), read_config(args.config) if args.config else None)
