"""`detr-jittor export`: ONNX Runtime must say what both twins say, at sizes and batches that the tracer never saw."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import NUM_CLASSES, SMALL, WITH_MASKS, small_state

from detr_jittor.__main__ import main
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.store import save
from detr_jittor.data.batch import collate
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.recipe import Recipe
from detr_jittor.data.records import ImageRecord
from detr_jittor.data.transforms import Sample
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.predict import export
from detr_jittor.predict.predictor import Predictor
from detr_jittor.twin.seeding import generator
from detr_jittor.types import Batch, Classes

import onnx  # isort: skip  (after jittor)
import onnxruntime  # isort: skip  # noqa: F401 - a test of both never skips

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip

pytestmark = pytest.mark.slow

COCO_MINI = Path(__file__).parents[3] / "shared" / "coco-mini"
CLASSES = Classes.of_categories([{"id": 3, "name": "cat"}, {"id": 10, "name": "狗"}])
TINY = SMALL.replace(backbone_stages=3, hidden_dim=16, nheads=2, dim_feedforward=16, enc_layers=1, dec_layers=1,
                     num_queries=4, min_size=48, max_size=64)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Image.Image]:
    """Real ones where they are at hand, upright and broad."""
    folder = COCO_MINI
    if not folder.is_dir():
        folder = tmp_path_factory.mktemp("pictures")
        write_demo_set(folder, train=4, val=4, size=320)
        sizes = ((320, 320), (320, 200), (180, 320), (320, 240))
        return [Image.open(file).convert("RGB").crop((0, 0, *size))
                for file, size in zip(sorted((folder / "val2017").iterdir()), sizes)]
    files = sorted((folder / "val2017").iterdir())[:40]
    pictures = [Image.open(file).convert("RGB") for file in files]
    return sorted(pictures, key=lambda p: p.width / p.height)[:: max(1, len(pictures) // 4)]


def batch_of(pictures: list[Image.Image], min_size: int, max_size: int) -> Batch:
    recipe, nothing = Recipe("none", min_size, max_size), np.zeros(0, np.float32)
    samples = [recipe(Sample(p, nothing.reshape(0, 4), nothing.astype(int), nothing, nothing.astype(bool)),
                      generator(0)) for p in pictures]
    return collate(samples, [ImageRecord(i, "", p.height, p.width) for i, p in enumerate(pictures)], [])


def predictor_of(config, weights) -> Predictor:
    checkpoint = Checkpoint(weights, config=config, classes=CLASSES)
    return Predictor(checkpoint, config.replace(framework="pytorch"), "a checkpoint")


@pytest.mark.parametrize("config", [
    SMALL, SMALL.replace(dilation=True, pre_norm=True, position_embedding="learned"), WITH_MASKS],
    ids=["standard", "DC5, pre-norm, learned positions", "masks"])
def test_onnx_runtime_says_what_both_twins_say(config, photographs, tmp_path):
    """Largest difference measured from Jittor and from PyTorch: logits 1.1e-6, boxes 9e-8, masks 1.4e-5 of 3.1."""
    jittor = JittorTwin(config, NUM_CLASSES)
    state = small_state(jittor)
    jittor.load(state)
    predictor = predictor_of(config, state)
    assert export.export(predictor, tmp_path / "model.onnx") < 1e-4
    session = export.session(tmp_path / "model.onnx")
    for count, sizes in ((1, (96, 160)), (2, (64, 128)), (3, (150, 200)), (1, (320, 533))):
        batch = batch_of(photographs[:count], *sizes)
        assert count < 3 or batch.mask.any()
        found = export.predict(session, batch)
        for twin in (jittor, predictor.twin):
            wanted = twin.predict(batch)
            assert np.ptp(wanted.logits) > 1  # it says something
            assert np.abs(found.logits - wanted.logits).max() < 2e-5
            assert np.abs(found.boxes - wanted.boxes).max() < 2e-6
            assert (found.masks is None) == (wanted.masks is None) == (not config.model.masks)
            if config.model.masks:
                assert np.abs(found.masks - wanted.masks).max() < 1e-4


def test_the_padding_is_seen_as_the_twin_sees_it_at_every_size():
    """Padding in a random pattern: wherever another pixel of it were picked, the outputs would differ (as they do at
    39 pixels with ONNX's own resize)."""
    twin = PyTorchTwin(TINY, NUM_CLASSES)
    predictor = predictor_of(TINY, small_state(twin))
    onnx_session = export.session(export.package("detr_jittor.pt.export").to_onnx(predictor.twin.model, False))
    random = generator(1)
    for side in range(33, 190, 6):
        images = random.standard_normal((1, 3, side, 250 - side), np.float32)
        mask = random.random((1, side, 250 - side)) < 0.5
        assert export.disagreement(onnx_session, predictor.twin, Batch(images, mask, [])) < 1e-4, side


@pytest.mark.parametrize("cls", [JittorTwin, PyTorchTwin], ids=["jittor", "pytorch"])
def test_the_command_takes_the_checkpoints_of_both(cls, tmp_path, capsys):
    twin = cls(TINY, NUM_CLASSES)
    checkpoint = tmp_path / f"checkpoint{cls.checkpoint_suffix}"
    save(checkpoint, Checkpoint(twin.state(), config=TINY, classes=CLASSES))
    assert main(["export", str(checkpoint), str(tmp_path / "model.onnx")]) == 0
    assert "for pictures of any number and size" in capsys.readouterr().out
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")] == [17]
    axes = {x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
            for x in (*model.graph.input, *model.graph.output)}
    assert axes == {"images": ["batch", 3, "height", "width"], "mask": ["batch", "height", "width"],
                    "logits": ["batch", "queries", NUM_CLASSES + 1], "boxes": ["batch", "queries", 4]}
    told = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert told == {"names": {"3": "cat", "10": "狗"}, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
                    "min_size": 48, "max_size": 64, "each": False}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("run") / "checkpoint.pth"
    save(path, Checkpoint(PyTorchTwin(TINY, NUM_CLASSES).state(), config=TINY, classes=CLASSES))
    return path


@pytest.mark.parametrize("target, message", [
    ("model.pth", "model.pth: is not the name of an ONNX file. Give one that ends in .onnx."),
    ("nowhere/model.onnx", "nowhere/model.onnx: cannot be written (No such file or directory)."),
])
def test_faults_are_one_line(weights, tmp_path, capsys, target, message):
    assert main(["export", str(weights), str(tmp_path / target)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["torch", "onnx", "onnxruntime"])
def test_a_missing_package_is_one_line(weights, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "detr_jittor.pt.export", raising=False)
    assert main(["export", str(weights), str(tmp_path / "model.onnx")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"needs the package {name} " in line and 'pip install "detr-jittor[export]"' in line


def test_a_file_that_says_something_else_is_not_written(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "predict", lambda session, batch, right=export.predict: shifted(right(session, batch)))
    assert main(["export", str(weights), str(tmp_path / "model.onnx")]) == 2
    assert "differ from PyTorch's by 1.0e-03" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def shifted(outputs):
    outputs.boxes = outputs.boxes + 1e-3
    return outputs
