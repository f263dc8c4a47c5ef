"""`detr-jittor predict` beyond single pictures: video, where the model looks, and very large pictures."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from test_predict import CLASSES, CONFIG, checkpoint, predict

from detr_jittor.__main__ import main
from detr_jittor.checkpoint.store import save
from detr_jittor.predict.video import Video
from detr_jittor.report.attention import GAP, SIDE

import av  # isort: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "checkpoint.pth"
    save(path, checkpoint())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Nine pictures of 101 × 80, from dark to bright, a quarter of a second each; 101 is odd."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = 101, 80, "bgr0"
        for k in range(9):
            picture = np.full((80, 101, 3), 20 * k + 30, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def film_command(weights, film, out, *options) -> int:
    return main(["predict", "--resume", str(weights), "--video", str(film), "--output_dir", str(out),
                 "--framework", "pytorch", *options])


def test_a_video_is_drawn_frame_by_frame(weights, film, tmp_path, capsys):
    assert film_command(weights, film, tmp_path / "out") == 0
    (record,) = json.loads((tmp_path / "out/predictions.json").read_text())
    assert (record["file"], record["drawing"], record["pictures_a_second"]) == (str(film), "film.mp4", 4.0)
    assert (record["width"], record["height"]) == (101, 80)
    assert [p["seconds"] for p in record["pictures"]] == [0.25 * k for k in range(9)]
    assert all(found["bbox"] == [25.25, 30.0, 50.5, 20.0] for p in record["pictures"] for found in p["detections"])
    assert all(len(p["detections"]) == 4 for p in record["pictures"])
    drawn = Video(tmp_path / "out/film.mp4")
    pictures = [pixels for _, pixels in drawn.pictures()]
    drawn.close()
    assert float(drawn.rate) == 4 and len(pictures) == 9 and pictures[0].shape == (400, 504, 3)  # enlarged, and even
    grounds = [pixels[-20:, :20].mean() for pixels in pictures]
    assert np.allclose(grounds, [20 * k + 30 for k in range(9)], atol=4)
    assert pictures[4][160:240, 110:140].std() > 20  # the edge of a box
    assert "film.mkv: 9 pictures" in capsys.readouterr().out


def test_what_comes_before_the_damage_of_a_video_is_kept(weights, film, tmp_path, capsys, monkeypatch):
    pictures = Video.pictures

    def damaged(self):
        from detr_jittor.errors import DetrError
        for number, picture in enumerate(pictures(self)):
            if number == 3:
                raise DetrError("film.mkv: damaged after picture 3 (…).", "What came before is drawn.")
            yield picture

    monkeypatch.setattr(Video, "pictures", damaged)
    assert film_command(weights, film, tmp_path / "out") == 0
    assert len(json.loads((tmp_path / "out/predictions.json").read_text())[0]["pictures"]) == 3
    assert "warning: film.mkv: damaged after picture 3" in capsys.readouterr().err


@pytest.mark.parametrize("content, message", [
    (b"no video at all", "not a readable video"), (None, "not a readable video"), (b"", "not a readable video")])
def test_a_film_that_cannot_be_read_is_one_line(weights, tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "film.mp4").write_bytes(content)
    assert film_command(weights, tmp_path / "film.mp4", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line and "film.mp4" in line


def test_without_pyav_there_is_one_line(weights, film, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert film_command(weights, film, tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "video needs the package av " in line and 'pip install "detr-jittor[video]"' in line


@pytest.mark.parametrize("thresholds, count", [({7: 0.87}, 4), ({7: 0.89}, 0), ({3: 0.1}, 4), ({3: 0.1, 7: 0.89}, 0)])
def test_the_best_threshold_of_each_class(weights, tmp_path, thresholds, count):
    """From the checkpoint, and from what an evaluation has written; all queries say dog (7), with p = .88."""
    made = checkpoint()
    made.thresholds = thresholds
    save(tmp_path / "c.pth", made)
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    rows = [{"name": CLASSES.name_of()[label], "threshold": score} for label, score in thresholds.items()]
    (tmp_path / "mistakes.json").write_text(json.dumps({"classes": [*rows, {"name": "horse", "threshold": 0.2}]}))
    for file, wanted in ((tmp_path / "c.pth", "best"), (weights, str(tmp_path / "mistakes.json"))):
        assert predict(file, [tmp_path / "a.png"], tmp_path / "out", "--threshold", wanted) == 0
        assert len(json.loads((tmp_path / "out/predictions.json").read_text())[0]["detections"]) == count


@pytest.mark.parametrize("wanted, message", [
    ("best", "holds no best thresholds, which training measures. Run detr-jittor evaluate with --output_dir D"),
    ("bset", "threshold bset: neither a score nor a mistakes.json (FileNotFoundError)"), ("1.5", "1.5 is no score"),
    ("a.png", "threshold a.png: neither"), ("nan", "nan is no score"), ("other.json", "none of its classes is one")])
def test_a_threshold_that_there_is_not(weights, tmp_path, capsys, monkeypatch, wanted, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (100, 80)).save("a.png")
    (tmp_path / "other.json").write_text('{"classes": [{"name": "horse", "threshold": 0.5}]}')
    assert predict(weights, ["a.png"], "out", "--threshold", wanted) == 2
    assert message in capsys.readouterr().err


def test_large_pictures_in_tiles(weights, tmp_path):
    """The model says the same of every tile: its box in the middle of each, once."""
    Image.new("RGB", (160, 100), "gray").save(tmp_path / "a.png")
    assert predict(weights, [tmp_path / "a.png"], tmp_path / "out", "--tile", "100") == 0
    (record,) = json.loads((tmp_path / "out/predictions.json").read_text())
    boxes = {tuple(found["bbox"]) for found in record["detections"]}
    assert boxes == {(40.0, 37.5, 80.0, 25.0), (25.0, 37.5, 50.0, 25.0), (85.0, 37.5, 50.0, 25.0)}


@pytest.mark.parametrize("arguments, message", [
    ([], "takes pictures or one --video"),
    (["a.png", "--video", "film.mp4"], "takes pictures or one --video"),
    (["--video", "film.mp4", "--attention"], "--attention goes with pictures only"),
    (["a.png", "--tile", "10"], "--tile 10 is too small"),
    (["a.png", "--tile", "100", "--attention"], "--attention goes with whole pictures"),
    (["a.png", "--points", "3,4"], "--points are those of --attention"),
    (["a.png", "--attention", "--points", "3;4"], "argument --points: invalid point value: '3;4'"),
])
def test_what_does_not_go_together(weights, tmp_path, capsys, arguments, message):
    assert main(["predict", *arguments, "--resume", str(weights), "--output_dir", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_attention_is_drawn_beside_the_picture(weights, tmp_path):
    Image.new("RGB", (100, 80), "gray").save(tmp_path / "a.png")
    assert predict(weights, [tmp_path / "a.png"], tmp_path / "out", "--attention") == 0
    sizes = {file.name: Image.open(file).size for file in (tmp_path / "out").glob("*.jpg")}
    panel = (SIDE + GAP, SIDE * 8 // 10 + GAP)
    assert sizes == {"a.jpg": (500, 400), "a_objects.jpg": (4 * panel[0] - GAP, 2 * panel[1] - GAP),  # four and one
                     "a_points.jpg": (4 * panel[0] - GAP, panel[1] - GAP)}  # three middles and the picture
    assert predict(weights, [tmp_path / "a.png"], tmp_path / "out", "--attention", "--threshold", "0.99",
                   "--points", "10,10", "5000,5000") == 0  # nothing is found; the second point is at the edge
    assert Image.open(tmp_path / "out/a_points.jpg").size == (3 * panel[0] - GAP, panel[1] - GAP)


def test_a_model_without_encoder_has_no_points(tmp_path):
    save(tmp_path / "c.pth", checkpoint(CONFIG.replace(enc_layers=0)))
    Image.new("RGB", (100, 80), "gray").save(tmp_path / "a.png")
    assert predict(tmp_path / "c.pth", [tmp_path / "a.png"], tmp_path / "out", "--attention") == 0
    assert {f.name for f in (tmp_path / "out").glob("*.jpg")} == {"a.jpg", "a_objects.jpg"}


@pytest.mark.parametrize("size", [(4500, 3000), (5000, 40)])
def test_very_large_pictures(weights, tmp_path, size):
    Image.new("RGB", size, "gray").save(tmp_path / "a.png")
    assert predict(weights, [tmp_path / "a.png"], tmp_path / "out", "--attention") == 0
    (record,) = json.loads((tmp_path / "out/predictions.json").read_text())
    width, height = size
    wanted = [width / 4, height * 3 / 8, width / 2, height / 4]
    assert record["detections"][0]["bbox"] == pytest.approx(wanted, rel=1e-4)
    assert Image.open(tmp_path / "out/a.jpg").size == size
