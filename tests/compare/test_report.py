"""What a comparison writes."""

import base64
import io
import json
import re

import pytest
from made_runs import write_run
from PIL import Image

from detr_jittor.__main__ import main
from detr_jittor.compare.comparison import Comparison
from detr_jittor.compare.figures import panel
from detr_jittor.compare.numbers import Quantity
from detr_jittor.compare.report import write_comparison
from detr_jittor.compare.tables import settings_table, verdict

CONDITIONS = {"data": {"train": {"pictures": 20}, "val": {"pictures": 7}}, "machine": {"cpu": "<a fast one>"}}


@pytest.fixture
def comparison(pairs) -> Comparison:
    return Comparison.of(pairs, "detr-jittor compare --coco_path 'a & b'", CONDITIONS)


def test_the_files(comparison, tmp_path):
    out = tmp_path / "out"
    write_comparison(out, comparison)
    logs = {f"{name}_{twin}{seed}.txt" for name in ("log", "eval_summary") for twin in ("jittor", "torch")
            for seed in ("", "_seed43", "_seed44")}
    assert {file.name for file in out.iterdir()} == logs | {
        "training_loss_comparison.png", "performance_comparison.png", "comparison.json", "comparison.html"}
    of_run = comparison.pairs[43]["pytorch"].folder / "log.txt"
    assert (out / "log_torch_seed43.txt").read_text() == of_run.read_text()
    assert (out / "eval_summary_jittor.txt").read_text().splitlines()[1] == \
        "[val] epoch=  1 AP=0.3200 | AP50=0.4200 | AP75=0.2200"


def test_the_numbers(comparison, tmp_path):
    write_comparison(tmp_path, comparison)
    written = json.loads((tmp_path / "comparison.json").read_text())
    last = written["evaluations"]["test"]["last"]
    assert last["AP"]["jittor"] == [0.30, 0.36, 0.33] and last["epoch"]["pytorch"] == [2, 2, 2]
    assert last["AP"]["difference"] == pytest.approx([-0.02, 0.03, -0.04])
    assert written["seeds"] == [42, 43, 44] and written["settings"]["lr"] == 0.25
    assert written["settings"]["coco_path"] == "shapes" and "seed" not in written["settings"]
    assert written["data"] == CONDITIONS["data"] and written["costs"]["step_seconds"]["jittor"] == [0.6] * 3


def test_the_page_holds_it_all_and_fetches_nothing(comparison, tmp_path):
    write_comparison(tmp_path, comparison)
    page = (tmp_path / "comparison.html").read_text()
    earlier = '<a href="https://github.com/Ber0ton/DETR-Jittor-and-Pytorch">Ber0ton/DETR-Jittor-and-Pytorch</a>'
    assert page.count(earlier) == 1  # which is followed on a click
    assert not re.search(r"https?:|<script|<link|url\(", page.replace(earlier, ""))
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 2
    for source, name in zip(sources, ("performance", "training_loss")):
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
        assert content == (tmp_path / f"{name}_comparison.png").read_bytes()
        assert Image.open(io.BytesIO(content)).width > 1000
    for text in ("detr-jittor compare --coco_path &#x27;a &amp; b&#x27;", "&lt;a fast one&gt;", "0.3300 ± 0.0300",
                 "-0.0100 ± 0.0361", "AP on the training pictures (6 of 20)", "AP on the held-out pictures (7)",
                 "1.9–2.0 times", "<td>lr</td><td>0.25</td>", "15 steps of 4 pictures", "Seeds: 42, 43, 44"):
        assert text in page, text
    assert "<a fast" not in page


def test_the_terminal_shows_the_same_tables(comparison):
    text = comparison.text()
    assert re.search(r"\| AP, last epoch +\| 0\.3300 ± 0\.0300 \| 0\.3400 ± 0\.0265 \| -0\.0100 ± 0\.0361 +\|", text)
    assert re.search(r"\| 43 +\| 0\.3600 +\| 0\.3300 +\| \+0\.0300 ", text)
    assert re.search(r"\| a training step, median of the epochs \(s\) +\| 0\.600 ± 0\.000 \|", text)


def test_one_seed_says_that_it_draws_no_noise_band():
    sentence = verdict(Quantity([0.3], [0.2]), 1, "held-out")
    assert "0.3000 (Jittor), 0.2000 (PyTorch), +0.1000" in sentence and "no noise band" in sentence


@pytest.mark.parametrize("pytorch, place", [([0.30, 0.33, 0.36], "inside"), ([0.40, 0.41, 0.42], "OUTSIDE")])
def test_the_verdict_over_seeds(pytorch, place):
    assert f"is {place} the noise band" in verdict(Quantity([0.30, 0.31, 0.35], pytorch), 3, "held-out")


def test_no_objects_no_verdict():
    assert "no AP to compare" in verdict(None, 1, "held-out")


def test_settings_are_all_there_once(comparison):
    changed, rest = ({row[0]: row[1] for row in settings_table(comparison.config, changed=which).rows}
                     for which in (True, False))
    assert changed["lr"] == "0.25" and rest["weight_decay"] == "0.0001" and not changed.keys() & rest.keys()
    assert "framework" not in changed and "seed" not in changed and len(changed) + len(rest) > 40


def test_curves_are_means_with_bands():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    panel(axes, {"jittor": [{0: 1.0, 1: 2.0}, {0: 3.0, 1: 2.0}], "pytorch": [{0: 5.0, 1: 5.0}] * 2}, "AP", "last")
    assert list(axes.lines[0].get_ydata()) == [2.0, 2.0] and list(axes.lines[1].get_ydata()) == [5.0, 5.0]
    band = axes.collections[0].get_paths()[0].vertices
    assert {(x, y) for x, y in band.tolist()} == {(0.0, 1.0), (0.0, 3.0), (1.0, 2.0)}
    assert axes.lines[0].get_label() == "Jittor (last 2.000)"


def test_existing_folders_are_compared(tmp_path, capsys):
    folders = [str(write_run(tmp_path, framework)) for framework in ("jittor", "pytorch")]
    assert main(["compare", "--runs", *folders, "--output_dir", str(tmp_path / "out")]) == 0
    assert "One seed draws no noise band" in capsys.readouterr().out
    assert "detr-jittor compare --runs" in (tmp_path / "out" / "comparison.html").read_text()


def test_unequal_folders_leave_nothing(tmp_path, capsys):
    folders = [str(write_run(tmp_path, "jittor")), str(write_run(tmp_path, "pytorch", lr=0.5))]
    assert main(["compare", "--runs", *folders, "--output_dir", str(tmp_path / "out")]) == 2
    assert "they differ in lr 0.25 and 0.5" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options, message", [
    ([], "no folder for the results"),
    (["--output_dir", "D", "--runs", "A", "B", "--lr", "1"], "--lr has no effect"),
    (["--output_dir", "D", "--runs", "A", "B", "--seeds", "2"], "--seeds has no effect"),
    (["--output_dir", "D", "--coco_path", "P", "--framework", "jittor"], "--framework has no place"),
    (["--output_dir", "D", "--coco_path", "P", "--resume", "auto"], "--resume has no place"),
    (["--output_dir", "D", "--preset", "demo", "--config", "c.json"], "both given"),
    (["--output_dir", "D", "--seeds", "0"], "--seeds 0 is less than 1"),
    (["--output_dir", "D", "--lr", "-1"], "--lr -1.0 is not positive"),
    (["--output_dir", "D"], "no dataset is given"),
    (["--output_dir", "D", "--coco_path", "nowhere"], "nowhere: no such folder"),
])
def test_what_cannot_be(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *options]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
