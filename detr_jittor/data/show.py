"""Sheets of pictures with their annotated boxes, to see whether a dataset, or what training makes of it, is what one
thinks it is.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.decode import read_image
from detr_jittor.data.transforms import MEAN, STD, size_for
from detr_jittor.errors import DetrError
from detr_jittor.report.pictures import draw_detections, drawable, font_of
from detr_jittor.twin import boxes as box
from detr_jittor.types import Batch, Classes

TILE = 480  # pixels that a picture's longer side takes on the sheet
MARGIN = 12
CAPTION = 24
COLUMNS = 4
PAPER = (245, 245, 245)
PADDING = 128


def contact_sheet(index: CocoIndex, places: Iterable[int]) -> Image.Image:
    """The pictures at these places of the index with all their boxes, crowds included, and their names below.

    A picture that cannot be read is an empty tile with the reason below it.
    """
    tiles = [tile(index, place) for place in places]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    across, down = TILE + MARGIN, TILE + CAPTION + MARGIN
    sheet = Image.new("RGB", (columns * across + MARGIN, rows * down + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate((picture, drawable(text)) for picture, text in tiles):
        x, y = MARGIN + number % columns * across, MARGIN + number // columns * down
        sheet.paste(picture, (x + (TILE - picture.width) // 2, y + TILE - picture.height))
        draw.text((x + TILE // 2, y + TILE + CAPTION // 2), caption, fill="black", font=font_of(caption, 14),
                  anchor="mm")
    return sheet


def batch_sheet(batches: Iterable[Batch], classes: Classes) -> Image.Image:
    """The pictures of batches as the model gets them, augmented, with their boxes; the padding is grey."""
    tiles = [tile_of(batch, place, classes) for batch in batches for place in range(len(batch))]
    columns = min(COLUMNS, len(tiles))
    across, down = (max(getattr(tile, side) for tile in tiles) + MARGIN for side in ("width", "height"))
    sheet = Image.new("RGB", (columns * across + MARGIN, -(-len(tiles) // columns) * down + MARGIN), PAPER)
    for number, picture in enumerate(tiles):
        sheet.paste(picture, (MARGIN + number % columns * across, MARGIN + number // columns * down))
    return sheet


def tile_of(batch: Batch, place: int, classes: Classes) -> Image.Image:
    """A picture of a batch, its normalisation taken back, as large as a tile."""
    target, (height, width) = batch.targets[place], batch.mask.shape[1:]
    pixels = (batch.images[place].transpose(1, 2, 0) * STD + MEAN) * 255  # [H, W, 3]
    pixels[batch.mask[place]] = PADDING
    picture = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    factor = TILE / max(height, width)
    picture = picture.resize([max(1, round(side * factor)) for side in (width, height)], Image.Resampling.BICUBIC)
    sides = np.array(target.size[::-1] * 2) * factor  # of this picture, without the padding
    return draw_detections(picture, box.cxcywh_to_xyxy(target.boxes) * sides, target.labels, None, classes.name_of())


def tile(index: CocoIndex, place: int) -> tuple[Image.Image, str]:
    """A picture with its boxes, as large as a tile, and what is to be written below it."""
    record, objects = index.images[place], index.annotations(place)
    name = f"image {record.id}  {record.path.rpartition('/')[2]}"
    try:
        picture = Image.fromarray(read_image(record.path, (record.height, record.width)))
    except DetrError as error:
        return Image.new("RGB", (TILE, TILE), "white"), shortened(error.what)
    height, width = size_for(picture.height, picture.width, TILE, TILE)
    scale = np.array([width / record.width, height / record.height] * 2)
    boxes = objects.boxes.copy()
    boxes[:, 2:] += boxes[:, :2]
    names = index.classes.name_of()
    drawn = draw_detections(picture.resize((width, height), Image.Resampling.BICUBIC), boxes * scale, objects.labels,
                            None, names)
    drawn.thumbnail((TILE, TILE))
    return drawn, f"{name}  {record.width}×{record.height}  {len(objects)} objects"


def shortened(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else "…" + text[1 - longest:]
