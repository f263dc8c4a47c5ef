"""What went wrong, in pictures: a page that shows it all offline, and sheets of truth beside prediction."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.decode import read_image
from detr_jittor.errors import DetrError, writing
from detr_jittor.evaluate.mistakes import (
    BADLY_PLACED,
    DOUBLED,
    GRID,
    IGNORED,
    INVENTED,
    KINDS,
    MISSED,
    MISTAKES,
    RIGHT,
    WRONG_CLASS,
    Judged,
    Mistakes,
)
from detr_jittor.evaluate.results import Results
from detr_jittor.evaluate.summary import number
from detr_jittor.report.log import write_whole
from detr_jittor.report.page import Table, cards, embedded, folded, heading, legend, page, paragraph, picture
from detr_jittor.report.pictures import draw_boxes, drawable, font_of
from detr_jittor.report.replacing import replacing

FOLDER = "mistakes"  # within the output folder
SIDE = 480  # pixels: the longer side of a picture on a sheet
CAPTION = 26
# Okabe and Ito's colours
COLOUR_OF = {RIGHT: "#009E73", MISSED: "#E69F00", DOUBLED: "#56B4E9", WRONG_CLASS: "#CC79A7",
             BADLY_PLACED: "#F0E442", INVENTED: "#D55E00", IGNORED: "#999999"}
MEANT = {
    MISSED: "an object for which there is no detection",
    DOUBLED: "one more detection of an object that was found already",
    WRONG_CLASS: "a detection that lies on an object of another class",
    BADLY_PLACED: "the right class, but less than half of the object and the box together are shared",
    INVENTED: "a detection where there is no such object",
}
MOST_ROWS = 25  # classes whose tables are not folded up
CONFUSIONS = 15  # the most frequent ones that have a line


def write_mistakes(folder: Path, results: Results, index: CocoIndex) -> Path:
    """Write the page, its figures and mistakes.json into a folder of the output folder. Returns: the page.

    Errors: DetrError if they cannot be written.
    """
    from detr_jittor.report.mistake_plots import plot_confusion, plot_curves  # matplotlib: most of a second

    mistakes, place = results.mistakes, folder / FOLDER
    with writing(f"{place}:"):
        place.mkdir(parents=True, exist_ok=True)
        with_objects = [c for c in mistakes.classes if c.objects]
        plot_curves(place / "precision_recall.png", "Precision over recall, at IoU 0.50 (figures: AP50)", GRID,
                    [(c.name, c.precision, float(c.precision.mean())) for c in with_objects], ("recall", "precision"),
                    np.mean)
        plot_curves(place / "f1.png", "F1 over the threshold, at IoU 0.50 (figures: the best F1)", GRID,
                    [(c.name, c.f1, c.best[0]) for c in with_objects], ("smallest score", "F1"), np.max)
        shown = plot_confusion(place / "confusion.png", mistakes.confusion, [c.name for c in mistakes.classes])
        write_whole(place / "mistakes.json", json.dumps(mistakes.to_json(), indent=1, ensure_ascii=False) + "\n")
        write_whole(place / "index.html", page("What went wrong", parts(place, results, index, shown)))
    return place / "index.html"


def parts(place: Path, results: Results, index: CocoIndex, shown: int) -> list[str]:
    """The page, top to bottom."""
    mistakes, stats = results.mistakes, results.bbox.stats
    names = ["AP", "AP50", "AP75", "AP of small objects", "AP of medium ones", "AP of large ones"]
    tables = class_table(mistakes).html() + mistakes_table(mistakes).html()
    confusion = f"{shown} of {len(mistakes.classes)} classes" if shown < len(mistakes.classes) else "all classes"
    return [
        paragraph(f"{index.name}: {len(index)} pictures. AP is COCO's. All else is of the boxes at an IoU of 0.50, and "
                  "counts the detections that reach their class's own threshold, that from which its F1 is best.",
                  "note"),
        cards([(number(value), name) for value, name in zip(stats, names)]),
        heading("Kinds of mistakes"), kinds_table(mistakes).html(),
        heading("Classes"), tables if len(mistakes.classes) <= MOST_ROWS else folded("The tables by class", tables),
        heading("What is taken for what"),
        paragraph(f"{confusion[0].upper()}{confusion[1:]}; a row's colours are shares of that row. The last row is "
                  "what was found where no such object is left, the last column what was not found.", "note"),
        picture(place / "confusion.png", "confusion matrix", own_size=True),
        *([confusion_table(mistakes).html()] if off_diagonal(mistakes) else []),
        heading("Precision and recall"), picture(place / "precision_recall.png", "precision over recall by class"),
        heading("Which threshold"), picture(place / "f1.png", "F1 over the threshold by class"),
        heading(f"The {len(mistakes.worst)} pictures with most mistakes"),
        paragraph("Left the truth, right what was found.", "note"),
        legend([(COLOUR_OF[kind], KINDS[kind]) for kind in (RIGHT, *MISTAKES)]),
        *(worst_part(judged, index) for judged in mistakes.worst),
    ]


def kinds_table(mistakes: Mistakes) -> Table:
    totals = mistakes.counts.sum(axis=0)
    rows = [[KINDS[kind], f"{totals[kind]:,}", MEANT[kind]] for kind in MISTAKES]
    objects = sum(c.objects for c in mistakes.classes)
    return Table(["kind", "count", "what it is"], rows, f"{totals[RIGHT]:,} of {objects:,} objects were found.",
                 text=True)


def class_table(mistakes: Mistakes) -> Table:
    rows = [[c.name, f"{c.objects:,}", *map(number, c.ap), f"{c.threshold:.2f}", *(f"{value:.2f}" for value in c.best)]
            for c in mistakes.classes]
    return Table(["class", "objects", "AP", "small", "medium", "large", "threshold", "F1", "precision", "recall"], rows)


def mistakes_table(mistakes: Mistakes) -> Table:
    shown = (RIGHT, *MISTAKES)
    rows = [[c.name, *(f"{counts[kind]:,}" for kind in shown)] for c, counts in zip(mistakes.classes, mistakes.counts)]
    return Table(["class", *(KINDS[kind] for kind in shown)], rows)


def off_diagonal(mistakes: Mistakes) -> list[tuple[int, int, int]]:
    """(count, true row, said row) of what was taken for another class, the most frequent first"""
    cells = mistakes.confusion[:-1, :-1] * (1 - np.eye(len(mistakes.classes), dtype=int))
    return sorted(((int(cells[t, s]), int(t), int(s)) for t, s in np.argwhere(cells)), reverse=True)[:CONFUSIONS]


def confusion_table(mistakes: Mistakes) -> Table:
    names = [c.name for c in mistakes.classes]
    objects = [c.objects for c in mistakes.classes]
    rows = [[names[true], names[said], f"{count:,}", f"{100 * count / max(objects[true], 1):.0f} %"]
            for count, true, said in off_diagonal(mistakes)]
    return Table(["true", "said", "count", "of all such objects"], rows)


def worst_part(judged: Judged, index: CocoIndex) -> str:
    """A picture of the page with its caption; where it cannot be read, the reason."""
    try:
        pair = draw_pair(judged, index)
    except DetrError as error:
        return paragraph(str(error), "note")
    file = io.BytesIO()
    pair.save(file, "jpeg", quality=85)
    path = record_of(judged, index).path
    return paragraph(f"{path.rpartition('/')[2]}: {told(judged)}") + embedded(file.getvalue(), "jpeg", path)


def record_of(judged: Judged, index: CocoIndex):
    return next(image for image in index.images if image.id == judged.image_id)


def told(judged: Judged) -> str:
    """How many of which kind, in words."""
    counts = {kind: int((judged.kinds == kind).sum()) for kind in (RIGHT, *MISTAKES)}
    counts[MISSED] = int((judged.object_kinds == MISSED).sum())
    return ", ".join(f"{count} {KINDS[kind]}" for kind, count in counts.items() if count) or "nothing there or found"


def draw_pair(judged: Judged, index: CocoIndex) -> Image.Image:
    """The picture twice: with its objects, and with what was found. Errors: DetrError if it cannot be read."""
    record, names = record_of(judged, index), index.classes.name_of()
    image = Image.fromarray(read_image(record.path, (record.height, record.width)))
    factor = SIDE / max(image.size)
    image = image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BICUBIC)

    def drawn(boxes: np.ndarray, labels: np.ndarray, kinds: np.ndarray, scores: np.ndarray | None) -> Image.Image:
        texts = [" ".join([names.get(label, f"class {label}"), *([] if scores is None else [f"{scores[k]:.2f}"]),
                           *([] if kind in (RIGHT, IGNORED) else [KINDS[kind]])])
                 for k, (label, kind) in enumerate(zip(labels.tolist(), kinds.tolist()))]
        return draw_boxes(image, boxes * factor, texts, [COLOUR_OF[kind] for kind in kinds.tolist()])

    halves = [drawn(judged.objects, judged.object_labels, judged.object_kinds, None),
              drawn(judged.boxes, judged.labels, judged.kinds, judged.scores)]
    pair = Image.new("RGB", (2 * image.width + 4, image.height), "white")
    for place, half in enumerate(halves):
        pair.paste(half, (place * (image.width + 4), 0))
    return pair


def draw_sheet(judged: list[Judged], index: CocoIndex) -> Image.Image | None:
    """Pairs of truth and prediction below each other in two columns, with file names; None if none can be read."""
    tiles = []
    for of_picture in judged:
        try:
            tiles.append((draw_pair(of_picture, index), record_of(of_picture, index).path.rpartition("/")[2],
                          told(of_picture)))
        except DetrError:
            continue  # the evaluation has told it
    if not tiles:
        return None
    rows = [tiles[i:i + 2] for i in range(0, len(tiles), 2)]
    width = 2 * SIDE + 4
    heights = [max(pair.height for pair, *_ in row) + CAPTION for row in rows]
    sheet = Image.new("RGB", (2 * width + 12, sum(heights)), "white")
    draw, y = ImageDraw.Draw(sheet), 0
    for row, height in zip(rows, heights):
        for column, (pair, name, words) in enumerate(row):
            x, text = column * (width + 12), drawable(f"{name}: {words}")
            sheet.paste(pair, (x, y + CAPTION))
            draw.text((x + 4, y + CAPTION // 2), text, fill="black", font=font_of(text, 15), anchor="lm")
        y += height
    return sheet


def write_sheet(path: Path, judged: list[Judged], index: CocoIndex) -> None:
    """Write such a sheet as JPEG, whole at every moment. Errors: OSError."""
    if sheet := draw_sheet(judged, index):
        with replacing(path) as temporary:
            sheet.save(temporary, "jpeg", quality=90)
