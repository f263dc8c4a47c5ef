"""Every layout that is found out: the same pictures, boxes and names come out of each, or the fault is told."""

import numpy as np
import pytest
from made_exports import EXPORTS, NAMES, WHOLE, pictures

from detr_jittor.config.options import Config
from detr_jittor.data.splits import open_splits

MADE = pictures()


def opened(root, **options):
    return open_splits(Config().replace(coco_path=str(root), **options).data)


def objects_of(index) -> dict[str, list]:
    """{stem: [(name, box)]} of all pictures."""
    name_of = index.classes.name_of()
    found = {}
    for place, image in enumerate(index.images):
        rows = index.annotations(place)
        stem = next(m.stem for m in MADE if f"{m.stem}." in image.path.replace("_jpg", ".").replace(" ", "."))
        assert (image.width, image.height) == next((m.width, m.height) for m in MADE if m.stem == stem)
        found[stem] = [(name_of[label], box) for label, box in zip(rows.labels.tolist(), rows.boxes.tolist())]
    return found


@pytest.mark.parametrize("export", EXPORTS)
def test_the_same_objects_come_out_of_each(tmp_path, export):
    EXPORTS[export](tmp_path / "my set", MADE)
    train, val = opened(tmp_path / "my set")
    found = {"train": objects_of(train), "val": objects_of(val)}
    if export in WHOLE:
        assert len(train) + len(val) == len(MADE) and 3 <= len(val) <= 5
        assert any(f"no validation split: {len(val)} of 18" in remark for remark in train.remarks)
        found = {split: found["train"] | found["val"] for split in found}
    assert set(NAMES) <= set(train.classes.names) and set(val.classes.names) == set(train.classes.names)
    for made in MADE:
        objects = found[made.split][made.stem]
        assert len(objects) == len(made.objects) + (export == "cvat_voc" and made is MADE[0])
        for (name, box), (label, *wanted) in zip(objects, made.objects):
            assert name == NAMES[label] and np.abs(np.subtract(box, wanted)).max() < 1e-3
