"""A sheet of pictures with their annotated boxes, and a page about all splits: is a dataset what one thinks it is?"""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.decode import read_image
from detr_jittor.data.transforms import size_for
from detr_jittor.errors import DetrError
from detr_jittor.report import page
from detr_jittor.report.pictures import COLOURS, draw_detections, drawable, font_of

TILE = 480  # pixels that a picture's longer side takes on the sheet
MARGIN = 12
CAPTION = 24
SWATCH = 14
COLUMNS = 4
PAPER = (245, 245, 245)


def contact_sheet(index: CocoIndex, places: Iterable[int], legend: bool = True) -> Image.Image:
    """The pictures at these places of the index with all their boxes, crowds included, and their names below.

    Below is which colour stands for which class, of those on the sheet, with a `legend`. A picture that cannot be read
    is an empty tile with the reason below it.
    """
    places = list(places)
    tiles = [tile(index, place) for place in places]
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    across, down = TILE + MARGIN, TILE + CAPTION + MARGIN
    width = columns * across + MARGIN
    lines = legend_lines(colours_of(index, places), width) if legend else []
    sheet = Image.new("RGB", (width, rows * down + MARGIN + len(lines) * CAPTION), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate((picture, drawable(text)) for picture, text in tiles):
        x, y = MARGIN + number % columns * across, MARGIN + number // columns * down
        sheet.paste(picture, (x + (TILE - picture.width) // 2, y + TILE - picture.height))
        draw.text((x + TILE // 2, y + TILE + CAPTION // 2), caption, fill="black", font=font_of(caption, 14),
                  anchor="mm")
    for number, line in enumerate(lines):
        for x, colour, name in line:
            y = rows * down + MARGIN + number * CAPTION
            draw.rectangle((x, y, x + SWATCH, y + SWATCH), fill=colour, outline="black")
            draw.text((x + SWATCH + 6, y + SWATCH // 2), name, fill="black", font=font_of(name, 14), anchor="lm")
    return sheet


def colours_of(index: CocoIndex, places: Iterable[int]) -> list[tuple[str, str]]:
    """(colour, name) of the classes in some pictures, in the order of their labels."""
    shown = sorted({int(label) for place in places for label in index.annotations(place).labels})
    names = index.classes.name_of()
    return [(COLOURS[label % len(COLOURS)], names[label]) for label in shown]


def legend_lines(entries: list[tuple[str, str]], width: int) -> list[list[tuple[int, str, str]]]:
    """Lines of (x, colour, name) that fit into a width."""
    lines, x = [], width
    for colour, name in entries:
        name = drawable(name)
        needed = SWATCH + 6 + round(font_of(name, 14).getlength(name)) + 18
        if x + needed > width:
            lines.append([])
            x = MARGIN
        lines[-1].append((x, colour, name))
        x += needed
    return lines


def show_page(name: str, splits: dict[str, CocoIndex], places: dict[str, np.ndarray], remarks: list[str]) -> str:
    """A page of HTML with a sheet a split, its classes with their colours and numbers, and what is odd in it.

    Args: name: of the dataset; places: of the pictures of each split; remarks: sentences.
    """
    first = next(iter(splits.values()))
    figures = [(f"{len(index):,}", f"pictures, {split}") for split, index in splits.items()]
    figures += [(f"{sum(len(index.objects) for index in splits.values()):,}", "objects"),
                (str(len(first.classes.names)), "classes")]
    parts = [page.paragraph(first.found, "lead"), page.cards(figures)]
    if remarks:
        parts += [page.heading("What is odd in it"),
                  page.Table(["where, and what"], [[remark] for remark in remarks], text=True).html()]
    for split, index in splits.items():
        content = io.BytesIO()
        contact_sheet(index, places[split], legend=False).save(content, "JPEG", quality=88)
        parts += [page.heading(f"{split}: {len(places[split])} of {len(index)} pictures"),
                  page.legend(colours_of(index, places[split])),
                  page.embedded(content.getvalue(), "jpeg", f"pictures of {split} with their boxes")]
    counts = {split: np.bincount(index.objects.labels, minlength=index.classes.num_classes)
              for split, index in splits.items()}
    rows = [[name, *(f"{of_split[label]:,}" for of_split in counts.values())]
            for name, label in zip(first.classes.names, first.classes.labels)]
    parts += [page.heading("Objects of each class"), page.Table(["class", *splits], rows).html()]
    return page.page(f"Dataset {name}", parts)


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
