"""Damaged exports: whatever is wrong with a file of a layout, it is read or refused, and never ends in a traceback."""

import contextlib
import random

import pytest
from made_exports import EXPORTS, pictures

from detr_jittor.config.options import Config
from detr_jittor.data.splits import open_splits
from detr_jittor.errors import DetrError

TEXTS = (".json", ".txt", ".xml", ".yaml", ".data", ".names")
TRIALS = 6


def damaged(content: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, left out or put in, or its end cut off."""
    place, length = chance.randrange(len(content) + 1), chance.randrange(1, 30)
    middle = chance.choice([content[place:place + length], b"", chance.randbytes(length)])
    return content[:place] + middle + chance.choice([content[place + length:], content[place:], b""])


@pytest.mark.parametrize("export", EXPORTS)
def test_no_damage_ends_in_a_traceback(tmp_path, export):
    EXPORTS[export](tmp_path, pictures())
    chance, refused = random.Random(export), 0
    files = sorted(file for file in tmp_path.rglob("*") if file.suffix in TEXTS)
    for _ in range(TRIALS):
        file = chance.choice(files)
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, chance))
        for masks in (False, True):
            with contextlib.suppress(DetrError):
                open_splits(Config().replace(coco_path=str(tmp_path)).data, masks)
                refused -= 1
            refused += 1
        file.write_bytes(whole)
    train, _ = open_splits(Config().replace(coco_path=str(tmp_path)).data)
    assert refused and len(train) >= 12
