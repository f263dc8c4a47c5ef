"""What the page says, without a browser."""

import string

import numpy as np
import pytest
from PIL import Image

from detr_jittor.app.answers import FLOOR, KEPT, Answer, Models, apart, object_at
from detr_jittor.app.serve import is_local, serve
from detr_jittor.app.words import WORDS, preferred
from detr_jittor.data.decode import read_image
from detr_jittor.detector import Detector
from detr_jittor.errors import DetrError
from detr_jittor.predict.found import Found
from detr_jittor.report.attention import draw_objects
from detr_jittor.types import Classes, Detections, Look, Outputs, Segmentation


@pytest.fixture(scope="module")
def answer(weights, picture) -> Answer:
    return Answer(Detector(weights, framework="pytorch", device="cpu"), read_image(picture))


def test_another_threshold_computes_nothing_anew(answer, monkeypatch):
    monkeypatch.setattr(answer.predictor.twin, "predict", None)
    monkeypatch.setattr(answer.predictor.twin, "attend", None)
    assert [len(answer.found(threshold)) for threshold in (0.0, FLOOR, 0.9, 0.95)] == [4, 4, 4, 0]
    assert answer.found(0.5).names == ["dog"] * 4


def test_a_click_on_an_object_and_beside_it(answer):
    name, on_it = answer.look_at(0.5, 50, 40)
    nothing, beside = answer.look_at(0.5, 5, 5)
    above, _ = answer.look_at(0.95, 50, 40)  # where no object is shown
    assert (name, nothing, above) == ("dog", "", "")
    assert on_it.size == (480, 384) and beside.size != on_it.size  # one panel, and the points beside theirs


def test_the_attention_is_computed_once(answer, monkeypatch):
    answer.looked()
    monkeypatch.setattr(answer.predictor.twin, "attend", None)
    assert answer.look_at(0.5, 30, 35)[0] == "dog"


CLASSES = Classes.of_categories([{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}])
BOXES = np.array([[0, 0, 100, 100], [40, 40, 60, 60], [0, 0, 45, 45]], np.float32)


def found_with(what) -> Found:
    return Found(np.zeros((101, 101, 3), np.uint8), (101, 101), what, CLASSES)


def test_the_smallest_box_is_meant():
    found = found_with(Detections(0, np.ones(3), np.array([3, 7, 3]), BOXES))
    points = ((50, 50), (42, 42), (10, 10), (90, 5), (100.5, 5))
    assert [object_at(found, *point) for point in points] == [1, 1, 2, 0, None]


def test_what_is_drawn_at_the_point_is_meant():
    """The smallest mask, else the smallest box; the segment, and none where there is none, whatever the boxes say."""
    masks = np.zeros((3, 101, 101), bool)
    masks[0, :, :50], masks[1, 41:60, 41:60], masks[2, :10, :10] = True, True, True
    found = found_with(Detections(0, np.ones(3), np.array([3, 7, 3]), BOXES, masks))
    assert [object_at(found, *point) for point in ((5, 5), (20, 5), (45, 50), (55, 50), (90, 5))] == [2, 0, 1, 1, 0]
    numbers = np.zeros((101, 101), np.int64)
    numbers[:50], numbers[60:, 30:] = 1, 2
    found = found_with(Segmentation(numbers, np.array([3, 7]), np.ones(2)))
    assert [object_at(found, *point) for point in ((70, 10), (70, 80), (10, 80), (70, 55))] == [0, 1, None, None]


@pytest.mark.parametrize("kind", ["masks", "panoptic"])
def test_a_click_shows_the_attention_of_the_query_that_is_meant(kind, with_masks, picture):
    """Also of a segment, whose box is not that of its query; and without the masks of all objects in memory."""
    answer = Answer(Detector(with_masks[kind], framework="pytorch", device="cpu"), read_image(picture))
    found, looked = answer.found(0.5), answer.looked()
    assert looked.found.masks is None and len(looked.found) == 4
    if kind == "panoptic":
        y, x = np.argwhere(found.segmentation.numbers == len(found))[0]
        query = found.segmentation.queries[-1]
    else:
        y, x = np.argwhere(found.masks[object_at(found, 50, 40)])[0]
        query = found.detections.queries[object_at(found, x, y)]
    name, drawing = answer.look_at(0.5, x, y)
    place = int(np.flatnonzero(looked.found.detections.queries == query)[0])
    expected = draw_objects(Image.fromarray(answer.pixels), Look(
        looked.look.found.rows(np.array([place])), looked.look.objects[[place]], None, looked.look.extent),
        answer.predictor.classes.name_of())
    assert name == "dog" and np.array_equal(drawing, expected)


def test_how_far_twins_are_apart(answer):
    outputs = answer.outputs
    others = Outputs(outputs.logits, outputs.boxes + np.float32([0.01, 0, 0, 0]), np.ones((1, 4, 2, 2)))
    masks = np.ones((1, 4, 2, 2))
    masks[0, 0] = -1
    assert apart(answer, outputs, Outputs(outputs.logits, others.boxes)) == "Δ score ≤ 0.0e+00, Δ box ≤ 1.0e+00 px"
    assert apart(answer, others, Outputs(outputs.logits, others.boxes, masks)).endswith(" px, Δ mask 2.5e-01")


def test_the_models_that_were_used_last_stay(weights, cat, tmp_path):
    models = Models(framework="pytorch", device="cpu")
    assert models.get(str(weights)) is models.get(str(weights))
    models.get(str(cat))
    with pytest.raises(DetrError, match="no such file"):
        models.get(str(tmp_path / "none.pth"))
    assert len(models.loaded) == 2 <= KEPT


def test_both_languages_say_the_same():
    for key, texts in WORDS.items():
        english, chinese = ({field for _, field, _, _ in string.Formatter().parse(text) if field} for text in texts)
        assert english == chinese and len(texts) == 2, key


@pytest.mark.parametrize("header, language", [
    ("zh-CN,zh;q=0.9,en;q=0.8", "中文"), ("zh", "中文"), ("en-US,en;q=0.9,zh;q=0.8", "English"), (None, "English")])
def test_the_language_is_the_browsers(header, language):
    assert preferred(header) == language


@pytest.mark.parametrize("host, local", [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.3.2.1", True),
                                         ("0.0.0.0", False), ("::", False), ("192.168.1.2", False), ("x.org", False)])
def test_which_addresses_are_this_machine_alone(host, local):
    assert is_local(host) == local


def test_a_folder_that_is_none():
    with pytest.raises(DetrError, match="no such folder"):
        serve("", runs="/no/such", wait=False)
