"""What the page says, without a browser."""

import string

import numpy as np
import pytest

from detr_jittor.app.answers import FLOOR, KEPT, Answer, Models, object_at
from detr_jittor.app.serve import is_local, serve
from detr_jittor.app.words import WORDS, preferred
from detr_jittor.data.decode import read_image
from detr_jittor.detector import Detector
from detr_jittor.errors import DetrError


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


def test_the_smallest_box_is_meant():
    boxes = np.array([[0, 0, 100, 100], [40, 40, 60, 60], [0, 0, 45, 45]], np.float32)
    points = ((50, 50), (42, 42), (10, 10), (90, 5), (101, 5))
    assert [object_at(boxes, *point) for point in points] == [1, 1, 2, 0, None]


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
