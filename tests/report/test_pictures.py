"""Drawn detections: readable, inside the picture, and the picture itself untouched."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from detr_jittor.report import pictures
from detr_jittor.report.pictures import COLOURS, draw_detections, drawable, font_of, moved_inside, overlap, place
from detr_jittor.report.segments import draw_masks

GREY = (90, 90, 90)
CORNERS = [[0, 0, 30, 30], [600, 0, 640, 30], [0, 450, 30, 480], [600, 450, 640, 480], [-50, -50, 700, 500]]


def picture(width=640, height=480) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def draw(image, boxes, labels=None, scores=None, names=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    return draw_detections(image, boxes, labels, scores, names or {0: "cat"})


def test_a_box_is_drawn_where_it_is_in_the_colour_of_its_class():
    before = picture()
    drawn = np.asarray(draw(before, [[100, 200, 300, 400]], [1]))
    assert (np.asarray(before) == GREY).all()  # a copy
    rows, columns = np.nonzero((drawn == ImageColor.getrgb(COLOURS[1])).all(axis=2))
    assert 100 <= columns.min() <= 103 and 297 <= columns.max() <= 300 and 397 <= rows.max() <= 400
    changed = np.nonzero((drawn != GREY).any(axis=2))
    assert changed[0].min() >= 200 - 40 and changed[0].max() <= 400  # the label lies above
    assert (drawn[210:390, 110:290] == GREY).all()  # the object stays visible


def test_nothing_found_leaves_the_picture_as_it_is():
    assert (np.asarray(draw(picture(), [])) == GREY).all()


@pytest.mark.parametrize("factor, size", [(4, (128, 100)), (1, (480, 300)), (1, (3000, 2000)), (480, (1, 1))])
def test_small_pictures_are_enlarged_by_a_whole_factor(factor, size):
    drawn = draw(picture(*size), [[0, 0, *size]])
    assert drawn.size == (size[0] * factor, size[1] * factor)


def test_boxes_are_enlarged_with_their_picture():
    drawn = np.asarray(draw(picture(128, 100), [[32, 40, 96, 80]]))
    rows, columns = np.nonzero((drawn == ImageColor.getrgb(COLOURS[0])).all(axis=2))
    assert 128 <= columns.min() <= 130 and 382 <= columns.max() <= 384 and 318 <= rows.max() <= 320


def test_line_and_letters_grow_with_the_picture(monkeypatch):
    sizes = []
    monkeypatch.setattr(pictures, "font_of", lambda text, size: sizes.append(size) or font_of(text, size))
    for side in (600, 2400):
        drawn = np.asarray(draw(picture(side, side), [[side / 4, side / 4, side / 2, side / 2]]))
        sizes.append((drawn[side * 3 // 8] == ImageColor.getrgb(COLOURS[0])).all(axis=1).sum())  # both edges
    assert sizes == [16, 4, 63, 20]


@pytest.mark.parametrize("text", ["cat 0.99", "an extraordinarily long name of a class " * 3])
@pytest.mark.parametrize("box", CORNERS)
def test_labels_stay_inside_the_picture(box, text):
    (x1, y1, x2, y2), font = place(tuple(box), text, 14, (640, 480), [])
    assert x1 >= 0 and y1 >= 0 and x2 <= 639 and y2 <= 479
    assert font.getlength(text) <= x2 - x1


def test_labels_do_not_lie_over_each_other_while_there_is_room():
    plates = []
    for _ in range(4):  # four boxes in the same place
        plates.append(place((200, 200, 300, 300), "cat 0.99", 14, (640, 480), plates))
    assert not any(overlap(a[0], b[0]) for i, a in enumerate(plates) for b in plates[:i])


def test_a_rectangle_larger_than_the_picture_starts_at_its_edge():
    assert moved_inside((50, 50, 950, 60), (640, 480)) == (0, 50, 900, 60)


def test_boxes_outside_or_turned_inside_out_do_no_harm():
    draw(picture(), [*CORNERS, [700, 500, 800, 600], [-9, -9, -1, -1], [50, 50, 40, 40], [5, 5, 5, 5]])


def test_scores_and_names_are_written(monkeypatch):
    texts = []
    monkeypatch.setattr(pictures, "place", lambda frame, text, *rest: texts.append(text) or place(frame, text, *rest))
    boxes = [[9, 9, 90, 90], [200, 200, 300, 300]]
    draw(picture(), boxes, [0, 7], np.array([0.987, 0.5]))
    draw(picture(), boxes, [0, 7])
    assert texts == ["cat 0.99", "class 7 0.50", "cat", "class 7"]


def test_names_in_han_letters_do_not_fail():
    draw(picture(), [[9, 9, 90, 90]], names={0: "猫"})


@pytest.fixture
def no_han_font(monkeypatch):
    """A machine whose only font is matplotlib's own."""
    monkeypatch.setattr(pictures, "HAN_FONTS", ())
    for cached in (pictures.font_file, pictures.warn_of_fonts):
        cached.cache_clear()
    yield
    for cached in (pictures.font_file, pictures.warn_of_fonts):
        cached.cache_clear()


def test_letters_without_a_font_are_escapes_and_one_warning(no_han_font, capsys):
    """Empty squares would make a cat of a dog."""
    assert [drawable(name) for name in ("猫", "狗 2", "cat", "Straße", "кот", "a\n")] == [
        r"\u732b", r"\u72d7 2", "cat", "Straße", "кот", r"a\n"]
    told = capsys.readouterr().err
    assert told.count("warning: no font here") == 1 and "fonts-noto-cjk" in told and told.count("\n") == 1
    cat, dog = (draw(picture(), [[9, 9, 90, 90]], names={0: name}) for name in ("猫", "狗"))
    assert not np.array_equal(np.asarray(cat), np.asarray(dog))
    assert capsys.readouterr().err == ""


def test_a_font_that_has_the_letters_is_taken(no_han_font, monkeypatch, capsys):
    """Played with a font of matplotlib's that has a sign which DejaVu Sans lacks."""
    usual = pictures.font_manager.findfont("DejaVu Sans")
    sign = chr(min(pictures.letters(pictures.font_manager.findfont("STIXNonUnicode")) - pictures.letters(usual)))
    assert drawable(sign) != sign and pictures.font_file(frozenset("cat")) == usual
    pictures.font_file.cache_clear()
    monkeypatch.setattr(pictures, "HAN_FONTS", ("No such font", "STIXNonUnicode"))
    assert drawable(sign) == sign and "STIX" in font_of(sign, 14).path and pictures.font_file(frozenset("cat")) == usual


def test_where_masks_lie_over_each_other_the_best_is_seen():
    """Many of them do not add up to a colour through which nothing of the picture is seen."""
    masks = np.zeros((3, 60, 80), bool)
    masks[:2, 10:50, 10:40], masks[2, 10:50, 20:70] = True, True
    ground = Image.new("RGB", (80, 60), (100, 100, 100))
    drawn = np.asarray(draw_masks(ground, masks, ["#FF0000", "#00FF00", "#0000FF"]))
    assert drawn[30, 25].tolist() == [170, 55, 55] and drawn[30, 55].tolist() == [55, 55, 170]
    assert drawn[5, 5].tolist() == [100, 100, 100]
