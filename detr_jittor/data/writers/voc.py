"""Pascal VOC's layout, written: Annotations/, JPEGImages/, ImageSets/Main/."""

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.records import ImageRecord
from detr_jittor.data.writers.names import place_picture

CLOSE = 0.01  # pixels that no one calls rounding


def write(folder: Path, splits: dict[str, CocoIndex], names: dict[str, list[str]], copy: bool) -> list[str]:
    """Corners are rounded to whole pixels, which count from 1.

    Returns: what is lost, in words.
    """
    crowds = rounded = 0
    for split, index in splits.items():
        name_of, stems = index.classes.name_of(), []
        for place, (image, name) in enumerate(zip(index.images, names[split])):
            place_picture(image.path, folder / "JPEGImages" / name, copy)
            root, objects = head(image, name), index.annotations(place)
            for row in range(len(objects)):
                box = objects.boxes[row].tolist()
                crowds += bool(objects.iscrowd[row])
                rounded += any(abs(v - round(v)) > CLOSE for v in box)
                add_object(root, name_of[int(objects.labels[row])], box, image,
                           bool(objects.difficult[row] or objects.iscrowd[row]))
            indent(root)
            file = (folder / "Annotations" / name).with_suffix(".xml")
            file.parent.mkdir(parents=True, exist_ok=True)
            ElementTree(root).write(file, "utf-8", xml_declaration=True)
            stems.append(file.stem)
        list_of = folder / "ImageSets" / "Main" / f"{split}.txt"
        list_of.parent.mkdir(parents=True, exist_ok=True)
        list_of.write_text("".join(f"{stem}\n" for stem in stems), "utf-8")
    (folder / "class_names.txt").write_text(
        "".join(f"{name}\n" for name in next(iter(splits.values())).classes.names), "utf-8")
    return [f"{count} {what}" for count, what in (
        (crowds, "crowds are marked difficult, as VOC has no crowds"),
        (rounded, "boxes are rounded to whole pixels, as VOC has no others")) if count]


def head(image: ImageRecord, name: str) -> Element:
    root = Element("annotation")
    SubElement(root, "folder").text = "JPEGImages"
    SubElement(root, "filename").text = name
    size = SubElement(root, "size")
    for key, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        SubElement(size, key).text = str(value)
    SubElement(root, "segmented").text = "0"
    return root


def add_object(root: Element, name: str, box: list[float], image: ImageRecord, difficult: bool) -> None:
    item = SubElement(root, "object")
    x1, y1 = (min(max(round(v), 0), side - 1) for v, side in zip(box, (image.width, image.height)))
    x2, y2 = (min(max(round(v + w), low + 1), side) for v, w, low, side in zip(
        box, box[2:], (x1, y1), (image.width, image.height)))
    at_edge = x1 == 0 or y1 == 0 or x2 == image.width or y2 == image.height
    for key, value in (("name", name), ("pose", "Unspecified"), ("truncated", int(at_edge)),
                       ("difficult", int(difficult))):
        SubElement(item, key).text = str(value)
    frame = SubElement(item, "bndbox")
    for key, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
        SubElement(frame, key).text = str(value)
