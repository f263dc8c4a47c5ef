"""`detr-jittor predict` with a small model whose weights are set by hand: what it must find is known."""

import json

import numpy as np
import pytest
from PIL import Image

from detr_jittor.__main__ import main
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.store import save
from detr_jittor.config.options import Config
from detr_jittor.frameworks.load import load_twin
from detr_jittor.types import Classes, State

CLASSES = Classes.of_categories([{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}])
CONFIG = Config().replace(backbone="resnet18", backbone_stages=3, backbone_norm="frozen", hidden_dim=16, nheads=2,
                          dim_feedforward=16, enc_layers=1, dec_layers=1, num_queries=4, min_size=48, max_size=64,
                          device="cpu")


def checkpoint(config=CONFIG, classes=CLASSES) -> Checkpoint:
    """A model whose queries all say: a dog with p = .88, in the middle, half as wide and a quarter as high."""
    weights = load_twin("pytorch")(config, CLASSES.num_classes).state().model
    detr = "detr." if config.model.masks else ""
    weights[f"{detr}class_embed.weight"][:] = 0
    weights[f"{detr}class_embed.bias"][:] = [0, 0, 0, 2, 0, 0, 0, 5, 2]  # labels 0 … 7 and "no object"
    weights[f"{detr}bbox_embed.layers.2.weight"][:] = 0
    weights[f"{detr}bbox_embed.layers.2.bias"][:] = [0, 0, 0, -np.log(3)]  # sigmoid: .5, .5, .5, .25
    return Checkpoint(State(weights, {}), config=config, classes=classes)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "checkpoint.pth"
    save(path, checkpoint())
    return path


def predict(weights, pictures, out, *options):
    return main(["predict", "--resume", str(weights), *map(str, pictures), "--output_dir", str(out),
                 "--framework", "pytorch", *options])


def test_what_is_found_is_drawn_and_written(weights, tmp_path, capsys):
    Image.new("RGB", (100, 80), "gray").save(tmp_path / "a.png")
    assert predict(weights, [tmp_path / "a.png"], tmp_path / "out") == 0
    (record,) = json.loads((tmp_path / "out/predictions.json").read_text())
    assert (record["file"], record["width"], record["height"]) == (str(tmp_path / "a.png"), 100, 80)
    assert len(record["detections"]) == 4  # one a query
    for found in record["detections"]:
        assert (found["category_id"], found["category"], found["bbox"]) == (7, "dog", [25.0, 30.0, 50.0, 20.0])
        assert found["score"] == pytest.approx(np.exp(5) / (np.exp(5) + 2 * np.exp(2) + 6), abs=1e-4)
    with Image.open(tmp_path / "out" / record["drawing"]) as drawing:
        assert drawing.size == (500, 400)  # small pictures are drawn enlarged
        assert np.asarray(drawing)[150:250, 125].std() > 0 and np.asarray(drawing)[350:].std() == 0
    assert "a.png: 4 objects" in capsys.readouterr().out


def test_a_file_whose_name_is_not_utf8(weights, tmp_path, capsys):
    file = tmp_path / "caf\udce9.png"  # how Python names the bytes "caf\xe9.png"
    Image.new("RGB", (100, 80)).save(file)
    assert predict(weights, [file], tmp_path / "out") == 0
    (record,) = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["file"] == str(file) and r"caf\udce9.png: 4 objects" in capsys.readouterr().out


def test_threshold_is_the_smallest_score(weights, tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    for threshold, count in ((0.87, 4), (0.89, 0)):
        assert predict(weights, [tmp_path / "a.png"], tmp_path / "out", "--threshold", str(threshold)) == 0
        assert len(json.loads((tmp_path / "out/predictions.json").read_text())[0]["detections"]) == count


def test_folders_and_bad_files(weights, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a picture")
    (folder / "b.jpg").write_bytes(b"\xff\xd8 cut off")
    Image.new("L", (30, 50)).save(folder / "a.JPG", "jpeg")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=turned)
    code = predict(weights, [folder, tmp_path / "missing.png", tmp_path / "a.jpg", folder / "a.JPG"], tmp_path / "out")
    assert code == 0
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [(r["file"], r["drawing"], r["width"], r["height"]) for r in records] == [
        (str(folder / "a.JPG"), "a.jpg", 30, 50), (str(tmp_path / "a.jpg"), "a-2.jpg", 40, 60)]
    assert all((tmp_path / "out" / r["drawing"]).is_file() for r in records)
    out, err = capsys.readouterr()
    assert "b.jpg: not a readable picture" in err and "missing.png: cannot be read" in err
    assert len(err.splitlines()) == 2 and "2 of 4 pictures could not be read" in out


def test_nothing_readable_is_status_2(weights, tmp_path, capsys):
    assert predict(weights, [tmp_path / "missing.png"], tmp_path / "out") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: none of the 1 pictures could be read. Pass other pictures.")


def test_a_folder_without_pictures_is_an_error(weights, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert predict(weights, [tmp_path / "in"], tmp_path / "out") == 2
    assert "in: no pictures in this folder" in capsys.readouterr().err


def test_every_kind_of_picture_in_a_folder(weights, tmp_path, capsys):
    """What training reads, prediction reads; other files are counted, by their kinds."""
    (tmp_path / "in").mkdir()
    kinds = ["jpg", "jfif", "jp2", "avif", "webp", "png", "tga", "BMP"]
    for number, kind in enumerate(kinds):
        Image.new("RGB", (60, 50), "gray").save(tmp_path / "in" / f"{number}.{kind}")
    for name in ("notes.txt", "more.txt", "photo.HEIC", "README", ".hidden"):
        (tmp_path / "in" / name).write_text("x")
    assert predict(weights, [tmp_path / "in"], tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "in: 8 pictures; 4 other files are skipped (" in out and "8 pictures drawn" in out
    assert all(kind in out for kind in ("2 .txt", "1 .heic", "1 no suffix", "save .heic as .jpg to have them read"))
    files = [record["file"] for record in json.loads((tmp_path / "out/predictions.json").read_text())]
    assert [file.rpartition(".")[2] for file in files] == kinds


def test_a_dark_picture_of_16_bits_is_said(weights, tmp_path, capsys):
    values = np.linspace(0, 4095, 4800).astype(np.uint16).reshape(60, 80)
    for name, factor in (("dark", 1), ("full", 16)):
        Image.fromarray(values * factor).save(tmp_path / f"{name}.png")
    assert predict(weights, [tmp_path / "dark.png", tmp_path / "full.png"], tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "dark.png: 16 bits a pixel with values below 4096 alone" in out and out.count("16 bits") == 1


def test_a_picture_is_predicted_as_it_is_seen(weights, tmp_path):
    """Upright, whatever the camera noted; the record says the size after turning."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 80), "gray").save(tmp_path / "a.jpg", exif=exif)
    assert predict(weights, [tmp_path / "a.jpg"], tmp_path / "out") == 0
    record, = json.loads((tmp_path / "out/predictions.json").read_text())
    assert (record["width"], record["height"]) == (80, 100)


def test_labels_without_a_category_are_left_out(tmp_path):
    """Label 7 wins every query, but here it stands for nothing."""
    save(tmp_path / "c.pth", checkpoint(classes=Classes((3,), ("cat",), (3,), 8)))
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    assert predict(tmp_path / "c.pth", [tmp_path / "a.png"], tmp_path / "out") == 0
    assert json.loads((tmp_path / "out/predictions.json").read_text())[0]["detections"] == []


def test_a_checkpoint_without_classes_and_settings(tmp_path, capsys):
    save(tmp_path / "c.safetensors", Checkpoint(checkpoint().state))
    (tmp_path / "settings.json").write_text(CONFIG.to_json())
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    assert predict(tmp_path / "c.safetensors", [tmp_path / "a.png"], tmp_path / "out") == 2
    assert "Pass its config.json with --config" in capsys.readouterr().err
    assert predict(tmp_path / "c.safetensors", [tmp_path / "a.png"], tmp_path / "out",
                   "--config", str(tmp_path / "settings.json")) == 0
    (tmp_path / "settings.json").rename(tmp_path / "config.json")  # beside the file, it is found
    assert predict(tmp_path / "c.safetensors", [tmp_path / "a.png"], tmp_path / "beside") == 0
    assert "its settings are those of the config.json beside it" in capsys.readouterr().out
    for folder in ("out", "beside"):
        found = json.loads((tmp_path / folder / "predictions.json").read_text())[0]["detections"][0]
        assert (found["category_id"], found["category"]) == (7, "class 7")


@pytest.mark.parametrize("fault, message", [
    (["--threshold", "1.5"], "--threshold 1.5 is no score"),
    (["--resume", "nowhere.pth"], "nowhere.pth: no such file"),
    (["--min_size", "0"], "these sizes cannot be"),
    (["--output_dir", "{folder}"], "would replace this picture"),
    (["--output_dir", "{folder}/a.jpg"], "cannot be written"),
])
def test_faults_are_one_line(weights, tmp_path, capsys, fault, message):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg")
    before = (tmp_path / "a.jpg").read_bytes()
    options = [option.format(folder=tmp_path) for option in fault]
    assert predict(weights, [tmp_path / "a.jpg"], tmp_path / "out", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert (tmp_path / "a.jpg").read_bytes() == before
