"""One of Pascal VOC's XML files."""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from detr_jittor.data.columns import number, shortened
from detr_jittor.data.faults import Fault

DECLARED = re.compile(rb'^\s*<\?xml[^>]*?encoding=["\']([A-Za-z0-9._-]+)["\'][^>]*\?>')
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class Annotation:
    """What a file says of its picture.

    Attributes:
        picture: the name of the picture; empty if it has none.
        size: (height, width), or None where it has none.
        from_zero: whether something shows that corners count from 0: decimals, or the name of a tool that writes so.
        objects: {"number": from 1, "name", "corners": [x1, y1, x2, y2], "difficult", "polygon", "swapped"}.
    """

    picture: str
    size: tuple[int, int] | None
    from_zero: bool = False
    objects: list[dict] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_annotation(file: Path, called: str) -> Annotation | Fault:
    """Args: called: how the file is called in messages."""
    try:
        root = parsed(file.read_bytes())
    except OSError as error:
        return Fault(called, f"cannot be read ({error.strerror})", "Look at the file.")
    except (ParseError, ValueError, LookupError, DefusedXmlException, RecursionError) as error:
        return Fault(called, f"is not valid XML ({shortened(str(error))})", "Correct it.")
    picture = text_of(root, "filename") or PurePosixPath(text_of(root, "path").replace("\\", "/")).name
    found = Annotation(picture, size_of(root), text_of(root, "owner/name") == "Label Studio")
    for place, item in enumerate(root.findall("object"), 1):
        if text_of(item, "deleted") != "1":  # by the LabelMe of MIT
            add_object(found, item, place, f"{called} object {place}")
    return found


def parsed(content: bytes) -> Element:
    """An encoding that Python's parser does not know, such as GBK, is decoded before."""
    declared = DECLARED.match(content.removeprefix(b"\xef\xbb\xbf"))
    if declared and declared[1].lower() not in (b"utf-8", b"utf8", b"utf-16", b"us-ascii", b"ascii", b"iso-8859-1"):
        text = content.removeprefix(b"\xef\xbb\xbf")[declared.end():].decode(declared[1].decode("ascii"))
        return fromstring(text)
    return fromstring(content)


def text_of(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def size_of(root: Element) -> tuple[int, int] | None:
    """(height, width), or None where they are missing or 0, as some tools write them."""
    sides = [number(text_of(root, f"size/{key}") or text_of(root, f"imagesize/{other}"))
             for key, other in (("height", "nrows"), ("width", "ncols"))]
    return tuple(map(int, sides)) if all(side and side >= 1 for side in sides) else None


def add_object(found: Annotation, item: Element, place: int, called: str) -> None:
    name, polygon = text_of(item, "name"), polygon_of(item)
    texts = [text_of(item, f"bndbox/{key}") for key in CORNERS]
    corners = [number(t) for t in texts]
    found.from_zero |= any("." in t for t in texts)
    if item.find("bndbox") is None and polygon:
        found.from_zero = True
        corners = [min(polygon[::2]), min(polygon[1::2]), max(polygon[::2]), max(polygon[1::2])]
    if not name:
        found.faults.append(Fault(called, "has no name", "Give the name of its class."))
        return
    if None in corners:
        found.faults.append(Fault(f"{called} ({', '.join(texts)})", "has no bndbox of four numbers xmin, ymin, xmax, "
                                  "ymax", "Give it one."))
        return
    x1, y1, x2, y2 = corners
    found.objects.append({
        "number": place, "name": name, "corners": [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)],
        "difficult": int(text_of(item, "difficult") in ("1", "true", "True")), "polygon": polygon,
        "swapped": x1 > x2 or y1 > y2})


def polygon_of(item: Element) -> list[float]:
    """[x, y, …] of <polygon>, in which Roboflow writes x1, y1, x2, … and others <pt><x/><y/></pt>."""
    polygon = item.find("polygon")
    if polygon is None:
        return []
    leaves = [leaf for leaf in polygon.iter() if leaf.tag[:1] in "xy" and not len(leaf)]
    values = [number(leaf.text or "") for leaf in leaves]
    return values if len(values) >= 6 and len(values) % 2 == 0 and None not in values else []
