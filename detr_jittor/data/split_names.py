"""Which split a file or folder is of, by its name."""

import re
from pathlib import PurePosixPath

SPLITS = ("train", "val", "test")
WORDS = {"train": "train", "training": "train", "trainval": "trainval", "val": "val", "valid": "val",
         "validation": "val", "validate": "val", "dev": "val", "test": "test", "testing": "test"}
# Of one name the last word counts: "instances_train2017", "my-set-valid", "Test set"
WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(WORDS, key=len, reverse=True))})(?=\d*(?:[^a-z]|$))")


def split_of_name(name: str) -> str:
    """ "train", "val", "test" or "trainval"; empty for a name that says nothing of it."""
    found = WORD.findall(name.lower())
    return WORDS[found[-1]] if found else ""


def split_of_folders(path: str) -> str:
    """By the folders of a relative path, of which the last that says something counts."""
    return next(filter(None, map(split_of_name, reversed(PurePosixPath(path).parts[:-1]))), "")


def split_of(path: str) -> str:
    """By the name of a file, or else by its folders."""
    return split_of_name(PurePosixPath(path).stem) or split_of_folders(path)
