"""Boxes with their class names, drawn on a picture so that they can be read. N boxes."""

import contextlib
import functools
import sys

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's colours, which stay apart for the colour-blind, then lighter and darker ones for further classes.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF",
           "#B2DF8A", "#A65628", "#984EA3", "#FB9A99", "#00CED1", "#999999", "#CAB2D6", "#F781BF")
SMALLEST = 480  # pixels: a picture whose longer side is shorter is enlarged, or its labels would cover it
CROWD = 15  # more boxes than these get smaller letters
HAN_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Source Han Sans SC",
             "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS")

Rectangle = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels


def draw_detections(image: Image.Image, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None,
                    names: dict[int, str]) -> Image.Image:
    """A copy of the picture with its boxes, one colour a class; lines and letters scale with the picture.

    Labels lie beside their boxes where there is room, never over each other as long as that can be, never outside the
    picture. A picture of less than 480 pixels is enlarged by a whole factor.

    Args:
        boxes: [N, 4] (x1, y1, x2, y2) in the picture's pixels. labels: [N]. scores: [N], or None for no scores.
            Best first: a better box's label chooses its place first and lies on top.
        names: label → class name; a label that is absent is called "class N".
    """
    texts = [names.get(label, f"class {label}") for label in labels.tolist()]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores)]
    return draw_boxes(image, boxes, texts, [COLOURS[label % len(COLOURS)] for label in labels.tolist()])


def draw_boxes(image: Image.Image, boxes: np.ndarray, texts: list[str], colours: list[str]) -> Image.Image:
    """As above, with what is written at each box [N] and its colour."""
    picture, factor = enlarged(image)
    draw = ImageDraw.Draw(picture)
    line = max(2, round((picture.width * picture.height) ** 0.5 / 250))
    frames = [inside(box, picture.size) for box in (np.asarray(boxes, float) * factor).tolist()]

    for frame, colour in reversed(list(zip(frames, colours))):
        draw.rectangle(frame, outline="black", width=line + 2)  # a dark rim: seen on a ground of any colour
        draw.rectangle(shrunk(frame, 1), outline=colour, width=line)
    draw_labels(picture, frames, texts, colours)
    return picture


def enlarged(image: Image.Image) -> tuple[Image.Image, int]:
    """A copy, and the whole factor by which it is enlarged if it is small."""
    factor = enlargement(image.size)
    size = (image.width * factor, image.height * factor)
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC), factor


def enlargement(size: tuple[int, int]) -> int:
    """The whole factor by which a picture of this (width, height) is enlarged."""
    return -(-SMALLEST // max(size)) if max(size) < SMALLEST else 1


def draw_labels(picture: Image.Image, frames: list[Rectangle], texts: list[str], colours: list[str]) -> None:
    """A label beside or in each frame, the first ones on top."""
    draw = ImageDraw.Draw(picture)
    size = max(10, round((picture.width * picture.height) ** 0.5 / (38 if len(frames) <= CROWD else 54)))
    plates, texts = [], [drawable(text) for text in texts]
    for frame, text in zip(frames, texts):
        plates.append(place(frame, text, size, picture.size, plates))
    for (rectangle, font), text, colour in reversed(list(zip(plates, texts, colours))):
        draw.rectangle(rectangle, fill=colour, outline="black")
        middle = ((rectangle[0] + rectangle[2]) / 2, (rectangle[1] + rectangle[3]) / 2)
        draw.text(middle, text, fill="black" if bright(colour) else "white", font=font, anchor="mm")


def place(frame: Rectangle, text: str, size: int, picture: tuple[int, int],
          taken: list) -> tuple[Rectangle, ImageFont.FreeTypeFont]:
    """Where a label goes: the place beside or in its box that hides least of other labels, and the font that fits."""
    font = font_of(text, size)
    while font.getlength(text) + size > picture[0] and size > 6:
        size -= 1
        font = font_of(text, size)
    width, height = round(font.getlength(text) + 0.6 * size), round(1.35 * size)
    x1, y1, x2, y2 = frame
    corners = [(x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x2 - width, y2),  # outside: above, below
               (x1, y1), (x2 - width, y1), (x1, y2 - height), (x2 - width, y2 - height)]  # inside
    places = [moved_inside((x, y, x + width, y + height), picture) for x, y in corners]
    places = [p for p, (_, y) in zip(places, corners) if p[1] == y] or places  # not those pushed back onto the box
    return min(places, key=lambda p: sum(overlap(p, other) for other, _ in taken)), font


def moved_inside(r: Rectangle, picture: tuple[int, int]) -> Rectangle:
    """The rectangle moved, not cut, so that it lies in the picture (at the upper left edge if it is larger)."""
    x, y = max(0, min(r[0], picture[0] - 1 - (r[2] - r[0]))), max(0, min(r[1], picture[1] - 1 - (r[3] - r[1])))
    return x, y, x + r[2] - r[0], y + r[3] - r[1]


def inside(r: Rectangle, picture: tuple[int, int]) -> Rectangle:
    """The rectangle cut at the picture's edges; of whole pixels, the right one not left of the left one."""
    x1, y1 = (min(max(0, round(v)), side - 1) for v, side in zip(r[:2], picture))
    x2, y2 = (min(max(low, round(v)), side - 1) for v, low, side in zip(r[2:], (x1, y1), picture))
    return x1, y1, x2, y2


def shrunk(r: Rectangle, by: int) -> Rectangle:
    x1, y1 = r[0] + by, r[1] + by
    return x1, y1, max(x1, r[2] - by), max(y1, r[3] - by)


def overlap(a: Rectangle, b: Rectangle) -> float:
    """The area that two rectangles share, in pixels."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def bright(colour: str) -> bool:
    red, green, blue = (int(colour[i:i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue > 125


def font_of(text: str, size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own DejaVu Sans, or for letters that it lacks, a font of this machine that has them."""
    return ImageFont.truetype(font_file(frozenset(text)), size)


def drawable(text: str) -> str:
    """A text as it can be drawn here: letters that no font has are escapes, and it is said once which font to install.

    Empty squares would make all such names alike.
    """
    has = letters(font_file(frozenset(text)))
    if all(ord(c) in has for c in text):
        return text
    warn_of_fonts()
    return "".join(c if ord(c) in has else c.encode("unicode_escape").decode() for c in text)


@functools.cache
def warn_of_fonts() -> None:
    print("warning: no font here has all letters of the class names, which are drawn as escapes such as \\u732b; "
          "install one, for Chinese fonts-noto-cjk (Debian, Ubuntu) or google-noto-sans-cjk-fonts (Fedora).",
          file=sys.stderr)


@functools.cache
def font_file(wanted: frozenset[str]) -> str:
    """The first font that has all of these letters, else the one that has most of them."""
    usual = font_manager.findfont("DejaVu Sans")
    if not missing(usual, wanted):
        return usual
    files = [usual]
    for family in HAN_FONTS:
        with contextlib.suppress(ValueError):
            files.append(font_manager.findfont(family, fallback_to_default=False))
    return min(files, key=lambda file: missing(file, wanted))


def missing(file: str, wanted: frozenset[str]) -> int:
    has = letters(file)
    return sum(ord(c) not in has for c in wanted)


@functools.cache
def letters(file: str) -> frozenset[int]:
    """The characters that a font has."""
    return frozenset(font_manager.get_font(file).get_charmap())
