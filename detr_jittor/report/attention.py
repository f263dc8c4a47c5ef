"""Where a model looks, over the picture: objects and the decoder (figure 6 of the paper), points and the encoder
(figure 3). N objects, P points, h × w places of the feature map.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from detr_jittor.report.pictures import COLOURS, draw_detections
from detr_jittor.types import Look

SIDE = 480  # pixels: the longer side of a panel
GAP = 6  # pixels between panels
COLUMNS = 4
MOST_OBJECTS = 15  # that have a panel of their own, the best ones
DIMMED = 0.45  # brightness of the picture below the colours

Point = tuple[int, int]  # x, y in the picture's pixels


def draw_objects(image: Image.Image, look: Look, names: dict[int, str]) -> Image.Image:
    """One panel with all objects, each in a colour of its own, then one for each of the best.

    Args:
        names: label → class name.
    """
    found, panel = look.found, panel_of(image)
    factor = panel.width / image.width
    shares = [share(a, look.extent, panel.size) for a in look.objects]
    texts = {k: names.get(label, f"class {label}") for k, label in enumerate(found.labels.tolist())}

    def drawn(rows: list[int]) -> Image.Image:
        tinted = tint(panel, [(shares[k], colour_of(k)) for k in reversed(rows)])
        # by number instead of by label, so that every object has its own colour
        return draw_detections(tinted, found.boxes[rows] * factor, np.array(rows, int), found.scores[rows], texts)

    everything = list(range(len(shares)))
    return sheet([drawn(everything), *(drawn([k]) for k in everything[:MOST_OBJECTS] if len(everything) > 1)])


def draw_points(image: Image.Image, look: Look, points: list[Point]) -> Image.Image:
    """One panel with the points, then one for each: where that place of the picture looks."""
    panel = panel_of(image)
    factor, size = panel.width / image.width, (image.width, image.height)
    places = [tuple((np.array(p) * look.extent[::-1] // size).astype(int)) for p in points]  # [P] (across, downwards)
    maps = [share(look.places[y, x], look.extent, panel.size) for x, y in places]
    spots = [((x + 0.5) * factor, (y + 0.5) * factor) for x, y in points]
    first = panel.copy()
    for k, spot in enumerate(spots):
        mark(first, spot, colour_of(k))
    panels = [tint(panel, [(a, colour_of(k))]) for k, a in enumerate(maps)]
    for k, (drawn, spot) in enumerate(zip(panels, spots)):
        mark(drawn, spot, colour_of(k))
    return sheet([first, *panels])


def share(attention: np.ndarray, extent: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """[h, w] → [height, width] of `size` (width, height): the attention in 0 … 1, its largest value 1."""
    scaled = Image.fromarray(attention / max(attention.max(), 1e-12))
    large = scaled.resize(size, Image.Resampling.BICUBIC, box=(0, 0, extent[1], extent[0]))
    return np.asarray(large).clip(0, 1)


def tint(panel: Image.Image, layers: Iterable[tuple[np.ndarray, str]]) -> Image.Image:
    """The picture, grey and dimmed, with shares [height, width] of colours, the last one on top."""
    grey = np.asarray(panel.convert("L"), np.float32)[:, :, None] * DIMMED  # [height, width, 1]
    pixels = np.repeat(grey, 3, axis=2)
    for part, colour in layers:
        part = 0.85 * part[:, :, None]
        pixels = pixels * (1 - part) + np.float32(ImageColor.getrgb(colour)) * part
    return Image.fromarray(pixels.round().astype(np.uint8))


def mark(panel: Image.Image, spot: tuple[float, float], colour: str) -> None:
    """A ringed dot."""
    (x, y), draw = spot, ImageDraw.Draw(panel)
    for radius, fill in ((9, "black"), (7, "white"), (5, colour)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def colour_of(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def panel_of(image: Image.Image) -> Image.Image:
    """The picture with its longer side as that of a panel."""
    factor = SIDE / max(image.size)
    size = tuple(max(1, round(side * factor)) for side in image.size)
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def sheet(panels: list[Image.Image]) -> Image.Image:
    """The panels in rows."""
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = panels[0].width + GAP, panels[0].height + GAP
    whole = Image.new("RGB", (columns * width - GAP, rows * height - GAP), "white")
    for number, panel in enumerate(panels):
        whole.paste(panel, (number % columns * width, number // columns * height))
    return whole
