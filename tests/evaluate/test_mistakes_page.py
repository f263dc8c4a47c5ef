"""The page of what went wrong, and the sheets: they show what was counted, and need nothing beside them."""

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageColor

from detr_jittor.config.options import Config
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.splits import open_split
from detr_jittor.errors import DetrError
from detr_jittor.evaluate import mistakes, mistakes_page
from detr_jittor.evaluate.coco_ap import CocoEvaluator
from detr_jittor.evaluate.results import Results
from detr_jittor.types import Detections


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(results, index) of the demo set's objects, of which every third is found with a shift and every fourth is called
    by another name."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_set(folder, train=1, val=14, size=64)
    index = open_split(Config().replace(coco_path=str(folder)).data, "val")
    found, number = [], 0
    for place, image in enumerate(index.images):
        objects = index.annotations(place)
        boxes, labels = objects.boxes.astype(np.float32).copy(), objects.labels.copy()
        boxes[:, 2:] += boxes[:, :2]
        for row in range(len(boxes)):
            number += 1
            boxes[row] += (number % 3 == 0) * boxes[row, 2:].max() / 2
            if number % 4 == 0:
                labels[row] = index.classes.labels[(index.classes.labels.index(labels[row]) + 1) % 4]
        scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
        found.append(Detections(image.id, scores, labels, boxes))
    evaluator = CocoEvaluator(index)
    evaluator.add(found)
    return Results(evaluator.summarize(), mistakes=evaluator.mistakes(sample=5)), index


def test_the_page(evaluated, tmp_path):
    results, index = evaluated
    page = mistakes_page.write_mistakes(tmp_path, results, index)
    text = page.read_text()
    assert page == tmp_path / "mistakes" / "index.html"
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and "<script" not in text  # offline
    told = json.loads((tmp_path / "mistakes/mistakes.json").read_text())
    assert told == results.mistakes.to_json()
    for kind, count in told["mistakes"].items():
        assert kind == "right" or f"<td>{kind}</td><td>{count}</td>" in text
    assert told["mistakes"]["wrong class"] > 3 and told["mistakes"]["right"] > 10
    for name in ("precision_recall", "f1", "confusion"):
        assert min(Image.open(tmp_path / "mistakes" / f"{name}.png").size) > 300
    captions = re.findall(r"<p>(\d+\.jpg): ([^<]*)</p>", text)
    assert [name for name, _ in captions] == [mistakes_page.record_of(j, index).path[-10:]
                                              for j in results.mistakes.worst]
    for (_, words), judged in zip(captions, results.mistakes.worst):
        counts = [(int(n), kind) for n, kind in re.findall(r"(\d+) ([a-z ]+)", words)]
        assert sum(n for n, kind in counts if kind != "right") == judged.mistakes > 0
    assert text.count("data:image/jpeg") == len(captions) == min(mistakes.WORST, len(captions))


def test_a_pair_shows_truth_and_prediction(evaluated):
    """In the colours of their kinds: along the upper edge of each box."""
    results, index = evaluated
    judged = next(j for j in results.mistakes.worst if mistakes.MISSED in j.object_kinds)
    pixels = np.asarray(mistakes_page.draw_pair(judged, index)).astype(int)
    record = mistakes_page.record_of(judged, index)
    assert pixels.shape == (480, 964, 3) == (480, 2 * 480 * record.width // record.height + 4, 3)
    factor = 480 / record.height
    t = int(np.flatnonzero(judged.object_kinds == mistakes.MISSED)[0])
    for half, box, kind in ((0, judged.objects[t], mistakes.MISSED), (484, judged.boxes[-1], int(judged.kinds[-1]))):
        x1, _, x2, y2 = (box * factor).round().astype(int)
        colour = np.array(ImageColor.getrgb(mistakes_page.COLOUR_OF[kind]))
        edge = pixels[max(y2 - 4, 0):min(y2 + 4, 480), half + x1 + 8:half + min(x2, 480) - 8]
        edge = edge if edge.size else pixels[470:, half + x1:half + x2]
        assert (np.abs(edge - colour).sum(axis=2) < 30).any()


def test_sheets(evaluated, tmp_path):
    results, index = evaluated
    mistakes_page.write_sheet(tmp_path / "sheet.jpg", results.mistakes.sample, index)
    assert Image.open(tmp_path / "sheet.jpg").size == (2 * 964 + 12, 3 * (480 + mistakes_page.CAPTION))
    mistakes_page.write_sheet(tmp_path / "none.jpg", [], index)
    assert not (tmp_path / "none.jpg").exists()


def test_a_picture_that_is_gone_is_said(evaluated, tmp_path, monkeypatch):
    results, index = evaluated

    def gone(path, size):
        raise DetrError(f"{path}: cannot be read (gone).", "Replace it.")

    monkeypatch.setattr(mistakes_page, "read_image", gone)
    text = mistakes_page.write_mistakes(tmp_path, results, index).read_text()
    assert text.count("cannot be read (gone)") == len(results.mistakes.worst) and "data:image/jpeg" not in text
    assert mistakes_page.draw_sheet(results.mistakes.sample, index) is None


def test_many_classes_and_odd_names(tmp_path):
    """Of many classes the best and the worst are named; names may hold what a formula, a page or a font stumbles at."""
    from detr_jittor.report import mistake_plots

    grid = mistakes.GRID
    curves = [(f"class {k} $x_{k}$ <b> 猫" + "y" * k, grid * k / 40, k / 40) for k in range(40)]
    mistake_plots.plot_curves(tmp_path / "many.png", "many", grid, curves, ("recall", "precision"), np.mean)
    confusion = np.random.default_rng(1).integers(0, 9, (41, 41))
    shown = mistake_plots.plot_confusion(tmp_path / "confusion.png", confusion, [name for name, *_ in curves])
    assert shown == mistake_plots.MOST_CELLS
    assert min(Image.open(tmp_path / "confusion.png").size) > 1000
    mistake_plots.plot_curves(tmp_path / "none.png", "none", grid, [], ("recall", "precision"), np.mean)
    assert (tmp_path / "none.png").stat().st_size > 1000
