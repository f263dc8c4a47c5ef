"""`from detr_jittor import Detector`, with the small model of test_predict, whose answer is known."""

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_predict import CLASSES, CONFIG, checkpoint

from detr_jittor import Detector
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.store import save
from detr_jittor.config.small import chosen
from detr_jittor.data.demo import write_demo_set
from detr_jittor.errors import DetrError
from detr_jittor.predict import sources
from detr_jittor.predict.found import Found
from detr_jittor.types import State

BOX = [25.0, 30.0, 75.0, 50.0]  # of a picture of 100 × 80


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoint.pth"
    save(path, checkpoint())
    return path


@pytest.fixture(scope="module")
def detector(weights) -> Detector:
    return Detector(weights, framework="pytorch", device="cpu")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    Image.effect_noise((100, 80), 60).save(path)
    return path


def test_importing_the_package_loads_nothing():
    code = ("import sys, detr_jittor; assert 'Detector' in dir(detr_jittor); "
            "assert not {'numpy', 'PIL', 'jittor', 'torch', 'matplotlib'} & set(sys.modules); "
            "from detr_jittor import Detector; assert not {'jittor', 'torch', 'supervision'} & set(sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_one_picture_of_any_kind(detector, file):
    image = Image.open(file)
    grey = np.asarray(image)
    for picture in (file, str(file), image, grey, np.dstack([grey] * 3), np.dstack([grey] * 4)):
        found = detector.predict(picture)
        assert isinstance(found, Found) and (found.width, found.height) == (100, 80)
        assert np.allclose(found.boxes, [BOX] * 4, atol=1e-4)
        assert found.names == ["dog"] * 4 and found.labels.tolist() == [7] * 4
        assert np.allclose(found.scores, found.scores[0]) and 0.87 < found.scores[0] < 0.89
        assert found.masks is None and np.array_equal(found.pixels[:, :, 0], grey)
        assert found.path == (file if isinstance(picture, (str, Path)) else None)


def test_the_threshold_is_the_smallest_score(detector, file):
    assert len(detector.predict(file, threshold=0.87)) == 4 and len(detector.predict(file, threshold=0.89)) == 0


def test_a_picture_in_memory_is_turned_as_its_file_is(detector, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((100, 80), 60).save(tmp_path / "a.jpg", exif=exif)
    for picture in (tmp_path / "a.jpg", Image.open(tmp_path / "a.jpg")):
        found = detector.predict(picture)
        assert (found.width, found.height) == (80, 100) == found.pixels.shape[1::-1]


def test_lists_keep_their_order_and_go_through_together(detector, file, monkeypatch):
    sizes, predict = [], detector.predictor.twin.predict
    monkeypatch.setattr(detector.predictor.twin, "predict", lambda batch: sizes.append(len(batch)) or predict(batch))
    arrays = [np.full((40 + 10 * k, 60, 3), 50, np.uint8) for k in range(4)]
    found = detector.predict([*arrays, file, file], batch_size=4)
    assert [f.height for f in found] == [40, 50, 60, 70, 80, 80] and sizes == [4, 2]
    assert [f.path for f in found] == [None] * 4 + [file] * 2 and np.array_equal(found[1].pixels, arrays[1])
    for f in found:  # boxes in each picture's own pixels, whatever the padding
        assert np.allclose(f.boxes[0] / ([f.width, f.height] * 2), [0.25, 0.375, 0.75, 0.625], atol=1e-4)
    assert [f.height for f in detector.predict(np.stack(arrays[:1] * 3))] == [40] * 3
    assert detector.predict([]) == []


def test_a_folder_is_read_ahead_by_other_processes(detector, file, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(sources, "Pool", lambda count, real=sources.Pool: started.append(count) or real(count))
    for k in range(7):
        Image.new("RGB", (60 + k, 50)).save(file.parent / f"b{k}.jpg")
    (file.parent / "bad.jpg").write_bytes(b"\xff\xd8 cut off")
    (file.parent / "notes.txt").write_text("x")
    found = detector.predict(file.parent, batch_size=2, workers=1)
    assert started == [1]
    assert [(f.path.name, f.width) for f in found] == [("a.png", 100), *((f"b{k}.jpg", 60 + k) for k in range(7))]
    out, err = capsys.readouterr()
    assert "bad.jpg: not a readable picture" in err and "8 pictures; 1 other files" in out.replace("9 pic", "8 pic")
    alone = detector.predict(file.parent, batch_size=2, workers=0)
    assert started == [1] and all(np.array_equal(a.boxes, b.boxes) for a, b in zip(found, alone))


def test_a_stream_is_computed_as_it_is_asked_for(detector, file, monkeypatch):
    calls, predict = [], detector.predictor.twin.predict
    monkeypatch.setattr(detector.predictor.twin, "predict", lambda batch: calls.append(1) or predict(batch))
    stream = detector.predict([file] * 3, batch_size=1, stream=True)
    assert next(stream).names == ["dog"] * 4 and calls == [1]
    assert len(list(stream)) == 2 and len(calls) == 3


def test_what_is_given_back_for_other_tools(detector, file, tmp_path):
    found = detector.predict(file)
    record = found.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert (record["file"], record["width"], record["height"]) == (str(file), 100, 80)
    assert record["detections"][0] == {"category_id": 7, "category": "dog", "score": round(float(found.scores[0]), 4),
                                       "bbox": [25.0, 30.0, 50.0, 20.0]}
    assert found.to_coco(5) == [{"image_id": 5, **row} for row in record["detections"]]
    theirs = found.to_supervision()
    assert np.array_equal(theirs.xyxy, found.xyxy) and np.array_equal(theirs.class_id, found.class_id)
    assert np.array_equal(theirs.confidence, found.confidence) and theirs.data["class_name"].tolist() == found.names
    first = next(iter(found))
    assert (first.name, first.label, first.mask) == ("dog", 7, None) and np.allclose(first.box, BOX, atol=1e-4)
    assert len(found[0]) == 1 and len(found[found.scores > 0.9]) == 0 and len(found[[0, 2]]) == 2
    assert repr(found) == "a.png 100×80: 4 objects (dog 0.88, dog 0.88, dog 0.88, dog 0.88)"


def test_it_is_drawn_saved_and_shown(detector, file, tmp_path, monkeypatch):
    found = detector.predict(file)
    assert found.save(tmp_path / "new" / "out.png") == tmp_path / "new" / "out.png"
    drawn = Image.open(tmp_path / "new" / "out.png")
    assert drawn.size == (500, 400) and np.array_equal(drawn, Image.open(io.BytesIO(found._repr_png_())))
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image.size))
    found.show()
    assert shown == [(500, 400)]
    with pytest.raises(DetrError, match="names no format of pictures"):
        found.save(tmp_path / "out.xyz")


def test_shown_in_a_notebook(detector, file, monkeypatch):
    class Shell:
        kernel = None

    class Module:
        get_ipython = Shell
        display = type(sys)("IPython.display")

    displayed = []
    Module.display.display = displayed.append
    monkeypatch.setitem(sys.modules, "IPython", Module)
    monkeypatch.setitem(sys.modules, "IPython.display", Module.display)
    detector.predict(file).show()
    assert [image.size for image in displayed] == [(500, 400)]


def test_where_it_looks(detector, file):
    looked = detector.attention(file)
    assert len(looked.found) == 4 and looked.look.objects.shape[0] == 4
    assert repr(looked).startswith("Looked: a.png 100×80: 4 objects (dog 0.88")
    assert looked.objects().size[0] == looked.draw().size[0] and looked.points([(10, 10), (999, 999)]) is not None
    with pytest.raises(DetrError, match="takes one picture"):
        detector.attention([file])


def test_masks_and_segments(tmp_path):
    """A model with masks gives one for each object; a panoptic one segments with the boxes around them."""
    config = CONFIG.replace(backbone_stages=4, masks=True, hidden_dim=128, nheads=8)
    save(tmp_path / "masks.pth", checkpoint(config))
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    found = Detector(tmp_path / "masks.pth", framework="pytorch").predict(picture)
    assert found.masks.shape == (4, 48, 64) and found.to_supervision().mask.shape == (4, 48, 64)
    assert found.to_coco()[0]["area"] == found.masks[0].sum() == next(iter(found)).mask.sum()
    save(tmp_path / "panoptic.pth", checkpoint(config.replace(dataset_file="coco_panoptic")))
    found = Detector(tmp_path / "panoptic.pth", framework="pytorch").predict(picture)
    assert len(found) == len(found.masks) == len(found.to_dict()["segments"]) >= 1
    for segment, mask in zip(found.to_dict()["segments"], found.masks):
        assert segment.keys() >= {"id", "isthing", "bbox", "segmentation"} and segment["area"] == mask.sum()
    assert found.masks.any(axis=(1, 2)).all() and found.draw().size == (512, 384)
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x1, y1, x2, y2)
    assert np.array_equal(found[-1].masks[0], found.masks[-1]) and len(found[-1]) == 1


def saying(label: int) -> Checkpoint:
    """The model of test_predict, which says this label."""
    made = checkpoint()
    bias = np.zeros(9, np.float32)
    bias[label] = 5
    return Checkpoint(State({**made.state.model, "class_embed.bias": bias}, {}), config=CONFIG, classes=CLASSES)


@pytest.mark.parametrize("framework", ["jittor", "pytorch"])
def test_two_detectors_in_several_threads(framework, tmp_path):
    """Each thread gets what its own detector says, whatever the others do."""
    detectors = []
    for label in (3, 7):
        save(tmp_path / f"{label}.pkl", saying(label))
        detectors.append(Detector(tmp_path / f"{label}.pkl", framework=framework, device="cpu"))
    picture = np.zeros((80, 100, 3), np.uint8)
    said: dict[int, set] = {}

    def ask(number: int) -> None:
        names = [detectors[number % 2].predict(picture, threshold=0.5).names for _ in range(5)]
        names += [detectors[number % 2].attention(picture).found.names]
        said[number] = {name for of_picture in names for name in of_picture}

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert said == {0: {"cat"}, 1: {"dog"}, 2: {"cat"}, 3: {"dog"}}


@pytest.mark.parametrize("ask, message", [
    (lambda d: d.predict("missing.png"), "missing.png: cannot be read"),
    (lambda d: d.predict([np.zeros((9, 9, 3), np.uint8), "missing.png"]), "missing.png: cannot be read"),
    (lambda d: d.predict(np.zeros((9, 9, 3))), r"shape \[9, 9, 3\] and type float64 is no picture"),
    (lambda d: d.predict(np.zeros((9, 9, 2), np.uint8)), r"shape \[9, 9, 2\]"),
    (lambda d: d.predict(3), "int is no picture"), (lambda d: d.predict([None]), "NoneType is no picture"),
    (lambda d: d.predict(b"a.png"), "bytes is no picture"),
    (lambda d: d.predict("a.png", threshold=70), "threshold 70 is no score"),
    (lambda d: d.predict("a.png", batch_size=0), "batch_size 0"),
    (lambda d: d.train("folder", epoch=3), "there is no option 'epoch'"),
    (lambda d: d.export("mine.pt"), "mine.pt: is not the name of an ONNX file"),
    (lambda d: Detector().predict("a.png"), "this detector has no weights yet"),
    (lambda d: Detector(framework="tf"), "Choose from jittor, pytorch"),
    (lambda d: Detector("missing.pkl"), "missing.pkl: no such file"),
])
def test_faults_are_said(detector, ask, message):
    with pytest.raises(DetrError, match=message):
        ask(detector)


def test_a_folder_without_a_readable_picture(detector, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DetrError, match="none of the 1 pictures could be read"):
        detector.predict(tmp_path)


def check_what_training_drew(folder: Path, detector: Detector) -> None:
    """The sheets and the page, and in the checkpoint the thresholds that the page tells."""
    assert Image.open(folder / "train_batch.jpg").size == (12 + 4 * 492, 12 + 2 * 492)  # 8 pictures of 2 steps
    assert Image.open(folder / "val_best.jpg").width == 2 * (2 * 480 + 4) + 12
    told = json.loads((folder / "mistakes/mistakes.json").read_text())
    of_name = {row["name"]: row["threshold"] for row in told["classes"]}
    found = {detector.names[label]: score for label, score in detector.predictor.thresholds.items()}
    assert found == pytest.approx(of_name, abs=1e-4) and len(found) == 4
    assert "<h2>Kinds of mistakes</h2>" in (folder / "mistakes/index.html").read_text()


@pytest.mark.slow
def test_train_evaluate_predict_export(tmp_path, monkeypatch):
    """From scratch, then on from what was learned, and each time the detector has what the run wrote."""
    write_demo_set(tmp_path / "set", train=16, val=4, size=64)
    tiny = chosen(CONFIG.replace(backbone_weights="none", backbone_norm="batch", num_workers=0, max_steps=2,
                                 batch_size=4, epochs=1))
    del tiny["device"]
    detector = Detector(framework="pytorch", device="cpu")
    assert repr(detector) == "Detector (no weights yet, pytorch)"
    best = detector.train(tmp_path / "set", output_dir=tmp_path / "first", **tiny)
    assert best == tmp_path / "first" / "best.pth" == detector.file
    assert set(detector.names.values()) >= {"circle"} or len(detector.names) > 1
    results = detector.evaluate(tmp_path / "set", num_workers=0)
    assert results.ap == pytest.approx(json.loads((tmp_path / "first/log.txt").read_text().splitlines()[-1])
                                       ["test_coco_eval_bbox"][0], abs=1e-6)
    assert "IoU=0.50:0.95" in str(results) and results.mistakes is None
    check_what_training_drew(tmp_path / "first", detector)
    results = detector.evaluate(tmp_path / "set", num_workers=0, output_dir=tmp_path / "evaluated")
    assert results.mistakes.thresholds == pytest.approx(detector.predictor.thresholds, abs=1e-3)
    assert (tmp_path / "evaluated/mistakes/index.html").is_file()
    (first,) = detector.predict(sorted((tmp_path / "set/val2017").iterdir())[:1], threshold=0)
    assert len(first) == CONFIG.model.num_queries
    again = detector.train(tmp_path / "set", output_dir=tmp_path / "second", max_steps=1, num_workers=0, batch_size=4,
                           epochs=1)
    assert again.parent.name == "second" == detector.file.parent.name
    assert json.loads((tmp_path / "second/config.json").read_text())["weights"] == str(best)
    assert detector.export(tmp_path / "mine.onnx").stat().st_size > 10_000
