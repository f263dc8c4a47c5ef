"""A sheet of batches as the model gets them: is what augmentation makes of a dataset what one thinks it is?"""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from detr_jittor.data.show import COLUMNS, MARGIN, PAPER, TILE
from detr_jittor.data.transforms import MEAN, STD
from detr_jittor.report.pictures import draw_detections
from detr_jittor.twin import boxes as box
from detr_jittor.types import Batch, Classes

PADDING = 128


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
