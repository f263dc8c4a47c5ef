"""`detr-jittor plot`: from log files to pictures."""

import json
from pathlib import Path

import pytest
from PIL import Image

from detr_jittor.__main__ import main
from detr_jittor.cli.plot import labelled

RECORDS = [{"epoch": epoch, "train_loss": 9 - epoch, "test_coco_eval_bbox": [epoch / 10] * 12} for epoch in range(3)]


def write_log(folder: Path, end: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_text("".join(json.dumps(r) + "\n" for r in RECORDS) + end)
    return folder / "log.txt"


def test_two_pictures_from_several_logs(tmp_path, capsys):
    write_log(tmp_path / "jittor")
    log = write_log(tmp_path / "pytorch")
    assert main(["plot", str(tmp_path / "jittor"), f"twin={log}", "--output_dir", str(tmp_path / "out")]) == 0
    written = [str(tmp_path / "out" / f"{name}_comparison.png") for name in ("training_loss", "performance")]
    assert capsys.readouterr().out.splitlines() == written
    for path in written:
        with Image.open(path) as image:
            image.load()


def test_a_half_written_last_line_is_left_out_and_said(tmp_path, capsys):
    log = write_log(tmp_path / "run", end='{"epoch": 3, "train_lo')
    assert main(["plot", str(log), "--output_dir", str(tmp_path / "out")]) == 0
    assert f"{log}: the last line is not complete; read up to epoch 2" in capsys.readouterr().out
    whole = write_log(tmp_path / "run").read_text()
    for text in (whole, whole.rstrip("\n")):  # a last line without its end is read, if it is whole
        log.write_text(text)
        assert main(["plot", str(log), "--output_dir", str(tmp_path / "out")]) == 0
        assert "not complete" not in capsys.readouterr().out


def test_labels(tmp_path, monkeypatch):
    a, b, c = (write_log(tmp_path / name) for name in ("x/run", "y/run", "z=1"))
    assert labelled([str(a.parent), f"new={b}", str(c)]) == {"run": a, "new": b, "z=1": c}
    assert labelled([str(a), str(b)]) == {str(a): a, str(b): b}  # folders of one name
    assert labelled([str(tmp_path / "jittor.txt")]) == {"jittor": tmp_path / "jittor.txt"}
    monkeypatch.chdir(a.parent)
    assert labelled(["log.txt"]) == {"run": Path("log.txt")}


@pytest.mark.parametrize("arguments, message", [
    (["nowhere/log.txt"], "nowhere/log.txt: cannot be read"),
    (["a={log}", "a={log}"], "the label 'a' is given twice"),
    (["{folder}"], "log.txt: cannot be read"),
    (["{broken}"], "broken.txt, line 1: not valid JSON"),
    (["{log}", "--output_dir", "{log}"], "cannot be written"),
])
def test_faults_are_one_line(tmp_path, capsys, arguments, message):
    log = write_log(tmp_path / "run")
    (tmp_path / "broken.txt").write_text("not JSON\n")
    arguments = [a.format(log=log, folder=tmp_path, broken=tmp_path / "broken.txt") for a in arguments]
    assert main(["plot", "--output_dir", str(tmp_path / "out"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
