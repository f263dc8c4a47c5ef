"""Packages that only some commands need, and the extra of pip that brings them."""

import importlib
from types import ModuleType

from detr_jittor.errors import DetrError


def package(name: str, extra: str, what: str) -> ModuleType:
    """A module of a package that is not always installed, or one of ours that imports such a package.

    Args:
        extra: as pyproject.toml names it.
        what: needs it, for the error: "the export".

    Errors: DetrError if it is not installed, with the command that installs it. That command works for every kind of
    installation: pip sees that the program is there and brings what the extra lacks.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DetrError(f"{what} needs the package {error.name or name} ({error}).",
                        f'Run: pip install "detr-jittor[{extra}]"') from None
