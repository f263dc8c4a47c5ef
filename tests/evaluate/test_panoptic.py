"""Panoptic quality against its definition, on random sets and on cases worked out by hand.

A dataset is {image id: (segment ids [H, W], {segment id: (category id, iscrowd)})}.
"""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from detr_jittor.errors import DetrError
from detr_jittor.evaluate.panoptic import ClassQuality, PanopticEvaluator, PanopticSummary
from detr_jittor.evaluate.segmentation import panoptic
from detr_jittor.types import Classes, Outputs, Target

CATEGORIES = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "dog", "isthing": 1},
              {"id": 200, "name": "grass", "isthing": 0}]


def write(folder, truth):
    (folder / "truth").mkdir()
    annotations = []
    for image, (segments, info) in truth.items():
        colours = np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(colours).save(folder / f"truth/{image}.png")
        annotations.append({"image_id": image, "file_name": f"{image}.png", "segments_info": [
            {"id": s, "category_id": c, "iscrowd": crowd, "area": int((segments == s).sum()), "bbox": [0, 0, 1, 1]}
            for s, (c, crowd) in info.items()]})
    images = [{"id": image, "file_name": f"{image}.jpg", "height": m.shape[0], "width": m.shape[1]}
              for image, (m, _) in truth.items()]
    (folder / "truth.json").write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": CATEGORIES}))
    return PanopticEvaluator(folder / "truth.json", folder / "truth", folder / "found")


def quality(folder, truth, found):
    evaluator = write(folder, truth)
    for image, (segments, info) in found.items():
        evaluator.add(image, segments, {s: c for s, (c, _) in info.items()})
    return evaluator.summarize()


def by_definition(truth, found):
    """{category id: [sum of IoU, TP, FP, FN]}: arXiv 1801.00868, section 4, with its rules for void and crowds."""
    counts = {c["id"]: [0.0, 0, 0, 0] for c in CATEGORIES}
    for image, (true, true_info) in truth.items():
        guess, guess_info = found[image]
        matched = set()
        for g, (category, _) in guess_info.items():
            mine, void = guess == g, true == 0
            for t, (true_category, crowd) in true_info.items():
                common = (mine & (true == t)).sum()
                union = (mine & ~void).sum() + (true == t).sum() - common
                if true_category == category and not crowd and common / union > 0.5:
                    counts[category][0] += common / union
                    counts[category][1] += 1
                    matched |= {("true", t), ("guess", g)}
            crowds = np.isin(true, [t for t, (c, crowd) in true_info.items() if crowd and c == category])
            if ("guess", g) not in matched and (mine & (void | crowds)).sum() <= 0.5 * mine.sum():
                counts[category][2] += 1
        for t, (category, crowd) in true_info.items():
            counts[category][3] += ("true", t) not in matched and not crowd
    return counts


def random_set(seed):
    """Blocks of random categories, with void and one crowd of a category at most; shifted and relabelled guesses."""
    random = np.random.default_rng(seed)
    truth, found = {}, {}
    for image in range(1, 9):
        blocks = random.integers(0, 12, (4, 5)) * 4099  # ids beyond one byte, 0 is void
        true = np.kron(blocks, np.ones((8, 8), np.int64))
        info = {int(s): (int(random.choice([1, 2, 200])), 0) for s in np.unique(true) if s}
        crowd = int(random.choice(list(info)))
        info[crowd] = (1, 1)
        guess = np.roll(true, random.integers(-3, 4, 2), axis=(0, 1))
        guess_info = {s: (c if random.random() < 0.8 else int(random.choice([1, 2, 200])), 0)
                      for s, (c, _) in info.items()}
        guess[guess == int(random.choice(list(info)))] = 0
        guess[:3, :9] = 7  # a false one
        guess_info[7] = (2, 0)
        truth[image] = (true, info)
        found[image] = (guess, {s: c for s, c in guess_info.items() if (guess == s).any()})
    return truth, found


@pytest.mark.parametrize("seed", range(4))
def test_random_sets_by_the_definition(tmp_path, seed, capfd):
    truth, found = random_set(seed)
    summary = quality(tmp_path, truth, found)
    assert capfd.readouterr() == ("", "")
    expected = by_definition(truth, found)
    assert min(min(counts[1:]) for counts in expected.values()) > 0  # the set has every kind of outcome
    for of_class in summary.classes:
        overlap, tp, fp, fn = expected[of_class.category_id]
        assert (of_class.tp, of_class.fp, of_class.fn) == (tp, fp, fn)
        assert of_class.pq == pytest.approx(overlap / (tp + fp / 2 + fn / 2), abs=1e-12)
    for name, ids in (("All", (1, 2, 200)), ("Things", (1, 2)), ("Stuff", (200,))):
        group, counts = summary.groups[name], [expected[i] for i in ids]
        assert group.n == len(ids)
        assert group.pq == pytest.approx(np.mean([o / (tp + fp / 2 + fn / 2) for o, tp, fp, fn in counts]), abs=1e-12)
        assert group.sq == pytest.approx(np.mean([o / tp for o, tp, _, _ in counts]), abs=1e-12)
        assert group.rq == pytest.approx(np.mean([tp / (tp + fp / 2 + fn / 2) for _, tp, fp, fn in counts]), abs=1e-12)


def strip(*ids):
    """A picture of equal stripes."""
    return np.repeat(np.array([ids], np.int64), 4, axis=0)


CAT, DOG, CROWD = (1, 0), (2, 0), (1, 1)


@pytest.mark.parametrize("true, guess, pq, counts", [
    ((strip(5, 5, 5, 6), {5: CAT, 6: DOG}), (strip(1, 1, 1, 2), {1: CAT, 2: DOG}), 1, (1, 0, 0)),
    ((strip(5, 5, 5, 6), {5: CAT, 6: DOG}), (strip(1, 1, 2, 2), {1: CAT, 2: DOG}), 2 / 3, (1, 0, 0)),
    ((strip(5, 5, 6, 6), {5: CAT, 6: DOG}), (strip(1, 2, 2, 2), {1: CAT, 2: DOG}), 0, (0, 1, 1)),  # IoU of just 1/2
    ((strip(5, 5, 6, 6), {5: CAT, 6: DOG}), (strip(1, 1, 2, 2), {1: DOG, 2: CAT}), 0, (0, 1, 1)),  # wrong class
    ((strip(5, 5, 0, 0), {5: CAT}), (strip(1, 1, 1, 1), {1: CAT}), 1, (1, 0, 0)),  # void is not held against it
    ((strip(0, 0, 0, 5), {5: DOG}), (strip(1, 1, 1, 0), {1: CAT}), -1, (0, 0, 0)),  # nor a false one on void
    ((strip(5, 5, 5, 6), {5: CROWD, 6: DOG}), (strip(1, 1, 0, 2), {1: CAT, 2: DOG}), -1, (0, 0, 0)),  # nor on a crowd
    ((strip(5, 5, 6, 6), {5: CROWD, 6: DOG}), (strip(1, 1, 1, 1), {1: CAT}), 0, (0, 1, 0)),  # but half is too little
])
def test_cats_by_hand(tmp_path, true, guess, pq, counts):
    cat = quality(tmp_path, {1: true}, {1: guess}).classes[0]
    assert cat.pq == pytest.approx(pq, abs=1e-12)
    assert (cat.tp, cat.fp, cat.fn) == counts


def test_a_picture_without_prediction_has_all_segments_missed(tmp_path):
    truth = {1: (strip(5, 5), {5: CAT}), 2: (strip(5, 6), {5: CAT, 6: DOG})}
    summary = quality(tmp_path, truth, {1: (strip(1, 1), {1: CAT})})
    assert [(c.name, c.tp, c.fp, c.fn) for c in summary.classes] == [
        ("cat", 1, 0, 1), ("dog", 0, 0, 1), ("grass", 0, 0, 0)]
    assert summary.groups["All"].n == 2 and summary.groups["All"].pq == pytest.approx((1 / 1.5 + 0) / 2)


def test_how_it_is_written_down(tmp_path):
    truth = {1: (strip(5, 5, 5, 6), {5: CAT, 6: DOG})}
    summary = quality(tmp_path, truth, {1: (strip(1, 1, 2, 2), {1: CAT, 2: DOG})})
    assert summary.table().splitlines() == [
        "          |    PQ     SQ     RQ     N",
        "--------------------------------------",
        "All       |  33.3   33.3   50.0     2",
        "Things    |  33.3   33.3   50.0     2",
        "Stuff     |     -      -      -     0",
    ]
    assert summary.class_table().splitlines() == [
        "class      PQ  found  false  missed",
        "cat    0.6667      1      0       0",
        "dog    0.0000      0      1       1",
        "grass       -      0      0       0",
    ]
    data = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    assert data["All"]["n"] == 2 and data["classes"][2]["pq"] is None
    assert data["Stuff"] == {"pq": None, "sq": None, "rq": None, "n": 0}


def test_a_prediction_of_another_size_is_an_error(tmp_path):
    evaluator = write(tmp_path, {1: (strip(5, 5), {5: CAT})})
    evaluator.add(1, strip(1, 1, 1), {1: 1})
    with pytest.raises(DetrError, match=r"truth.json: cannot be evaluated"):
        evaluator.summarize()


@pytest.mark.parametrize("info", [{5: CAT}, {}], ids=["with segments", "without"])
@pytest.mark.parametrize("spoil", [
    lambda file: file.unlink(), lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(file.read_bytes()[:50]), lambda file: Image.new("RGB", (3, 3)).save(file)],
    ids=["missing", "empty", "cut", "another size"])
def test_a_picture_whose_truth_cannot_be_read_is_left_out(tmp_path, spoil, info):
    """The loader gives none of these to the model, unless there are no segments to read."""
    truth = {1: (strip(5, 5), info), 2: (strip(5, 6), {5: CAT, 6: DOG}), 3: (strip(0, 0), {})}
    evaluator = write(tmp_path, truth)
    spoil(tmp_path / "truth" / "1.png")
    evaluator.add(2, strip(1, 2), {1: 1, 2: 2})
    if not info:
        evaluator.add(1, strip(1, 1), {1: 1})
    summary = evaluator.summarize()
    assert summary.left_out == 1
    assert [(c.name, c.tp, c.fp, c.fn) for c in summary.classes][:2] == [("cat", 1, 0, 0), ("dog", 1, 0, 0)]
    assert "without 1 pictures whose true segments cannot be read" in summary.table()


def test_a_picture_whose_truth_lacks_a_segment_is_left_out(tmp_path):
    evaluator = write(tmp_path, {1: (strip(5, 5), {5: CAT, 6: DOG}), 2: (strip(5, 6), {5: CAT, 6: DOG})})
    summary = evaluator.summarize()
    assert summary.left_out == 1 and [c.fn for c in summary.classes] == [1, 1, 0]


def test_no_truth_at_all(tmp_path):
    evaluator = write(tmp_path, {1: (strip(5, 5), {5: CAT})})
    (tmp_path / "truth/1.png").unlink()
    summary = evaluator.summarize()
    assert summary.left_out == 1 and summary.groups["All"].n == 0 and summary.groups["All"].pq == -1


@pytest.mark.parametrize("names", [("a/1.png", "b/1.png"), ("1.jpg", "2.jpg"), ("1", "2.psd")])
def test_any_name_of_a_file(tmp_path, names):
    """Predictions are named by their pictures, so that the truth's names lose or replace none."""
    truth = {1: (strip(5, 6), {5: CAT, 6: DOG}), 2: (strip(9, 9), {9: DOG})}
    evaluator = write(tmp_path, truth)
    for annotation, name in zip(evaluator.truth["annotations"], names):
        (tmp_path / "truth" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "truth" / annotation["file_name"]).rename(tmp_path / "truth" / name)
        annotation["file_name"] = name
    for image, (segments, info) in truth.items():
        evaluator.add(image, segments, {s: c for s, (c, _) in info.items()})
    summary = evaluator.summarize()
    assert [(c.tp, c.fp, c.fn) for c in summary.classes] == [(1, 0, 0), (2, 0, 0), (0, 0, 0)]
    assert summary.groups["All"].pq == 1


def test_whatever_the_index_takes_can_be_evaluated(tmp_path):
    """Flags that are true, no area or a wrong one, fields that no one knows: the index reads them."""
    evaluator = write(tmp_path, {1: (strip(5, 5, 6, 6), {5: CAT, 6: CROWD}), 2: (strip(5, 6), {5: CAT, 6: DOG})})
    for segment in (s for a in evaluator.truth["annotations"] for s in a["segments_info"]):
        segment.update(iscrowd=bool(segment["iscrowd"]), area=None if segment["id"] == 5 else 1, more=float("nan"))
    evaluator.truth["categories"][0]["isthing"] = True
    evaluator.truth["images"][0]["more"] = float("inf")
    evaluator.add(1, strip(1, 1, 2, 2), {1: 1, 2: 1})
    evaluator.add(2, strip(1, 2), {1: 1, 2: 2})
    summary = evaluator.summarize()
    assert [(c.tp, c.fp, c.fn) for c in summary.classes] == [(2, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert summary.groups["All"].pq == 1


def test_a_name_forges_no_lines():
    table = PanopticSummary({}, [ClassQuality(1, "red\nblue\x1b[2K", 0.5, 1, 2, 3)]).class_table()
    assert table.splitlines()[1:] == [r"red\nblue\x1b[2K  0.5000      1      2       3"]


def test_a_folder_that_cannot_be_written(tmp_path):
    evaluator = write(tmp_path, {1: (strip(5, 5), {5: CAT})})
    evaluator.add(1, strip(1, 1), {1: 1})
    found = evaluator.found()
    shutil.rmtree(tmp_path / "found")
    for fails in (lambda: evaluator.add(1, strip(1, 1), {1: 1}), evaluator.found, lambda: evaluator.take(found),
                  evaluator.summarize):
        with pytest.raises(DetrError, match=r"found: segments cannot be written \(No such file"):
            fails()
    (tmp_path / "found").write_bytes(b"")
    with pytest.raises(DetrError, match="cannot be written"):
        PanopticEvaluator(tmp_path / "truth.json", tmp_path / "truth", tmp_path / "found")


@pytest.mark.parametrize("first", [0, 2**53, 2**62])
def test_large_ids_of_pictures(tmp_path, first):
    """Neighbours from 2^53 on are one number in floating point; here they stay two."""
    truth, found = random_set(3)
    counts = by_definition(truth, found)
    classes = {c.category_id: (c.tp, c.fp, c.fn) for c in quality(
        tmp_path, {first + i: x for i, x in truth.items()}, {first + i: x for i, x in found.items()}).classes}
    assert classes == {category: tuple(numbers[1:]) for category, numbers in counts.items()}


@pytest.mark.parametrize("stuff, pieces", [((5,), [5, 7, 7]), ((7,), [5, 5, 7]), ((), [5, 5, 7, 7]), ((5, 7), [5, 7])])
def test_stuff_is_what_the_file_says_whatever_the_ids(stuff, pieces):
    """Two queries of each of two labels: of stuff they are one segment."""
    logits = np.full((1, 4, 9), -9.0, np.float32)
    logits[0, range(4), [5, 5, 7, 7]] = 9
    masks = np.full((1, 4, 8, 8), -9.0, np.float32)
    for query in range(4):
        masks[0, query, 2 * query:2 * query + 2] = 9
    target = Target(1, *[np.zeros(0)] * 4, size=(8, 8), orig_size=(8, 8))
    classes = Classes((5, 7), ("wall", "cup"), (5, 7), 8, stuff)
    found, = panoptic(Outputs(logits, np.zeros((1, 4, 4), np.float32), masks), [target], classes)
    assert found.labels[np.unique(found.numbers) - 1].tolist() == pieces


def test_without_a_word_of_the_file_cocos_numbers_count():
    classes = Classes((90, 92), ("toothbrush", "banner"), (90, 92), 250)
    assert [classes.is_stuff(label) for label in classes.labels] == [False, True]
    assert Classes.from_json(classes.to_json()) == classes
    told = Classes((90, 92), ("toothbrush", "banner"), (90, 92), 250, (90,))
    assert [told.is_stuff(label) for label in told.labels] == [True, False]
    assert Classes.from_json(json.loads(json.dumps(told.to_json()))) == told
