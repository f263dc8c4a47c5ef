"""COCO's own layout, written."""

import json
from pathlib import Path

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.writers.names import place_picture


def write(folder: Path, splits: dict[str, CocoIndex], names: dict[str, list[str]], copy: bool) -> list[str]:
    """Write annotations/, train2017/, val2017/ and so on. Ids stay as they are.

    Returns: what is lost, in words.
    """
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split, index in splits.items():
        content = index.ground_truth()
        for image, record, name in zip(index.images, content["images"], names[split]):
            place_picture(image.path, folder / f"{split}2017" / name, copy)
            record["file_name"] = name
        for annotation, difficult in zip(content["annotations"], index.objects.difficult.tolist()):
            if difficult:
                annotation["difficult"] = 1
        (folder / f"{split}2017").mkdir(exist_ok=True)
        text = json.dumps(content, ensure_ascii=False)
        (folder / "annotations" / f"instances_{split}2017.json").write_text(text, "utf-8")
    return []
