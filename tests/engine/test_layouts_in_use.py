"""Every layout that is found out is trained on, evaluated, begun from with weights, predicted on, checked and shown."""

import json

import pytest
from made_exports import EXPORTS, NAMES, pictures
from numpy_twin import SignalledTwin, install

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import store
from detr_jittor.predict import predictor
from detr_jittor.report.log import read_log

SETTINGS = ["--batch_size", "2", "--min_size", "32", "--max_size", "64", "--num_workers", "0", "--lr", "0.1",
            "--lr_backbone", "0.01", "--backbone_weights", "none", "--device", "cpu"]


@pytest.fixture
def numpy_twin(monkeypatch):
    install(monkeypatch.setattr)
    monkeypatch.setattr(predictor, "load_twin", lambda framework: SignalledTwin)
    monkeypatch.setattr(predictor, "difference", lambda config, model: "")


@pytest.mark.parametrize("export", EXPORTS)
def test_a_layout_is_of_use_everywhere(numpy_twin, tmp_path, capsys, export):
    data, out = tmp_path / "data", tmp_path / "out"
    EXPORTS[export](data, pictures())
    assert main(["train", "--data", str(data), "--output_dir", str(out), "--epochs", "2", *SETTINGS]) == 0
    told = capsys.readouterr().out
    found, = (line for line in told.splitlines() if line.startswith(f"{data}: "))
    assert found.startswith(f"{data}: {kind_of(export)}") and "pictures to train on, " in found
    assert "3 classes: " in found or export == "roboflow_coco"
    assert all("test_coco_eval_bbox" in record for record in read_log(out / "log.txt"))
    assert set(NAMES) <= set(store.load(out / "checkpoint.pkl").classes.names)

    checkpoint = str(out / "checkpoint.pkl")
    arguments = ["--coco_path", str(data), "--output_dir", str(tmp_path / "evaluated"), *SETTINGS]
    assert main(["evaluate", "--resume", checkpoint, *arguments]) == 0
    evaluated = json.loads((tmp_path / "evaluated" / "eval.json").read_text())
    assert evaluated["AP50"] == pytest.approx(read_log(out / "log.txt")[-1]["test_coco_eval_bbox"][1], abs=1e-9)
    assert main(["train", "--weights", checkpoint, "--max_steps", "1", *arguments]) == 0
    assert "class head: kept" in capsys.readouterr().out

    picture = next(file for file in sorted(data.rglob("*.*")) if file.suffix in (".jpg", ".png", ".BMP"))
    assert main(["predict", "--resume", checkpoint, str(picture), "--output_dir", str(tmp_path / "found"),
                 "--threshold", "0"]) == 0
    record, = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert {d["category"] for d in record["detections"]} <= set(NAMES) and record["detections"]

    assert main(["dataset", "check", "--data", str(data), "--pictures"]) == 0
    assert main(["dataset", "subset", "--data", str(data), "--output_dir", str(tmp_path / "few"), "--images", "5"]) == 0
    assert main(["dataset", "check", "--data", str(tmp_path / "few")]) == 0
    assert main(["dataset", "show", "--data", str(data), "--output", str(tmp_path / "sheet.png")]) == 0


def kind_of(export: str) -> str:
    if export == "labelme_files":
        return "labelme ("
    return "COCO (" if "coco" in export else "Pascal VOC (" if "voc" in export or "mit" in export else "YOLO ("
