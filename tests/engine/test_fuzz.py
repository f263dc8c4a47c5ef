"""Broken files for every reader, seconds of it in each test run; `FUZZ_MINUTES=10 pytest tests/engine/test_fuzz.py -s`.

Pictures, annotation files, panoptic ones too, checkpoints and settings, with bytes changed, cut or doubled, or values
exchanged. Each must be read or end in a DetrError.
"""

import collections
import json
import os
import random
import time
from pathlib import Path

from bad_input import JPEG, PICTURES, write_panoptic
from numpy_twin import NumpyTwin

from detr_jittor.checkpoint import pickle_file, store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config, read_config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.decode import read_image
from detr_jittor.data.panoptic import Layout, read_panoptic
from detr_jittor.data.segments import Segment, segment_masks
from detr_jittor.errors import DetrError

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0.05))
SEED = int(os.environ.get("FUZZ_SEED", 0))
STRANGE = [None, True, -1, 0, 1, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 1000, [], {}, [[]],
           "../../passwd", "\ud83d", "a\0b", "\n\x1b[2K"]


def changed(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, a piece cut out or doubled, the end cut off."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at, length = rng.randrange(len(content) + 1), rng.choice((1, 1, 4, 64))
        piece = content[at:at + length]
        content[at:at + length] = rng.choice((rng.randbytes(len(piece)), b"", piece * 2, bytes(len(piece)),
                                              b"\xff" * len(piece)))
    return bytes(content[:rng.randint(0, len(content))] if rng.random() < 0.2 else content)


def exchanged(value, rng: random.Random):
    """The same JSON with one value in it replaced."""
    if isinstance(value, (list, dict)) and value and rng.random() < 0.9:
        value = value.copy()
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value[key] = exchanged(value[key], rng)
        return value
    return rng.choice(STRANGE)


def seeds(coco: Path, folder: Path) -> dict[str, list[bytes]]:
    """Good files to begin with, by the suffix that names their reader."""
    pictures = [JPEG, (coco / "train2017" / "1.png").read_bytes()]
    for name in ("CMYK", "grey and alpha", "palette", "16-bit PNG", "animated", "turned by EXIF, annotated as stored"):
        PICTURES[name].make(folder / "picture")
        pictures.append((folder / "picture").read_bytes())
    found = {".jpg": pictures, ".coco": [(coco / "annotations" / "instances_train2017.json").read_bytes()],
             ".panoptic": [(coco.parent / "panoptic/annotations/panoptic_train2017.json").read_bytes()],
             ".segments": [(coco.parent / "panoptic/panoptic_train2017/1.png").read_bytes()],
             ".config": [Config().to_json().encode()]}
    for suffix in store.WRITERS:
        store.save(folder / f"a{suffix}", Checkpoint(NumpyTwin(Config(), 3).state(), config=Config()))
        found[suffix] = [(folder / f"a{suffix}").read_bytes()]
    found[".pkl"].append(found[".pkl"][0][:-pickle_file.TRAILER])  # without its checksum, which hides the reader
    return found


def test_read_or_refused(coco, tmp_path):
    rng, counts, end = random.Random(SEED), collections.Counter(), time.monotonic() + 60 * MINUTES
    panoptic = write_panoptic(coco)
    readers = {".jpg": read_image, ".config": read_config,
               ".coco": lambda path: CocoIndex.read(path, coco / "train2017", masks=rng.random() < 0.3),
               ".panoptic": lambda path: read_panoptic(
                   Layout(path, panoptic / "panoptic_train2017", coco / "train2017", tmp_path / "none"), True),
               ".segments": lambda path: segment_masks([Segment(str(path), 5), Segment(str(path), 1792)], 32, 48)}
    files = seeds(coco, tmp_path)
    while time.monotonic() < end:
        suffix = rng.choice(list(files))
        content = rng.choice(files[suffix])
        if suffix in (".coco", ".panoptic", ".config") and rng.random() < 0.8:
            content = json.dumps(exchanged(json.loads(content), rng)).encode()
        else:
            content = changed(content, rng)
        path = tmp_path / f"tried{suffix}"  # stays there if its reader fails
        path.write_bytes(content)
        try:
            readers.get(suffix, store.load)(path)
            counts[suffix, "read"] += 1
        except DetrError as error:
            assert "\n" not in str(error)
            counts[suffix, "refused"] += 1
    print(f"\n{sum(counts.values())} files, seed {SEED}: {dict(sorted(counts.items()))}")
    assert {suffix for suffix, what in counts if what == "refused"} == set(files) or MINUTES < 0.02
