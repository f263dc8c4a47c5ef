"""Files across versions: what older ones wrote is read, what a newer one wrote is refused with the reason.

old_files/ holds what commits of November 2026 wrote, before there were versions: a config.json (69698e4) and lines of a
log.txt (df4d1c6). Checkpoints are in engine/test_old_checkpoints.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint, from_record, to_record
from detr_jittor.checkpoint.unpickle import BadFile
from detr_jittor.config.format import FORMAT, unknown
from detr_jittor.config.options import Config, read_config
from detr_jittor.errors import DetrError
from detr_jittor.report.log import RunLog, read_log
from detr_jittor.types import State

OLD = Path(__file__).parents[1] / "old_files"
NEWER = f"written by a newer version of this program (format {FORMAT + 1}; this one knows formats up to {FORMAT})"
STRANGE = [0, -1, True, 1.0, "1", [], "x" * 1000]


@pytest.mark.parametrize("version", [None, *range(1, FORMAT + 1)])
def test_known(version):
    assert unknown(version) == ""


@pytest.mark.parametrize("version", STRANGE)
def test_no_version_at_all(version):
    assert unknown(version).startswith("of no known format (") and len(unknown(version)) < 70


def test_an_old_config_is_read_whole():
    written = json.loads((OLD / "config.json").read_text())
    assert "format" not in written and len(written) > 50
    found = read_config(OLD / "config.json").flat()
    assert {name: found[name] for name in written} == written
    assert {name: value for name, value in found.items() if name not in written} == {
        name: value for name, value in Config().flat().items() if name not in written}


def test_an_old_log_is_read_plotted_and_continued(tmp_path, capsys):
    lines = [json.loads(line) for line in (OLD / "log.txt").read_text().splitlines()]
    assert read_log(OLD / "log.txt") == lines and all("format" not in line for line in lines)
    assert main(["plot", str(OLD / "log.txt"), "--output_dir", str(tmp_path)]) == 0
    assert all((tmp_path / f"{name}_comparison.png").stat().st_size > 10_000 for name in (
        "training_loss", "performance"))
    (tmp_path / "log.txt").write_text((OLD / "log.txt").read_text())
    log = RunLog(tmp_path, first_epoch=1, track=())
    log.epoch({"epoch": 1, "train_loss": 2.0}, None)
    log.close()
    assert read_log(tmp_path / "log.txt") == [lines[0], {"epoch": 1, "train_loss": 2.0}]


def test_what_is_written_now_has_a_version(tmp_path):
    log = RunLog(tmp_path, track=())
    log.epoch({"epoch": 0}, None)
    log.close()
    assert json.loads((tmp_path / "log.txt").read_text())["format"] == FORMAT
    assert json.loads(Config().to_json())["format"] == FORMAT
    weights = {"class_embed.bias": np.ones(3, np.float32)}
    for suffix in store.WRITERS:
        store.save(tmp_path / f"x{suffix}", Checkpoint(State(weights, {})))
        assert store.read(tmp_path / f"x{suffix}")["detr_jittor"]["format"] == FORMAT


@pytest.mark.parametrize("version, why", [(FORMAT + 1, NEWER), *((v, "of no known format") for v in STRANGE)])
def test_what_a_newer_version_wrote_is_refused(tmp_path, capsys, version, why):
    """Also where it has options, keys or a layout of which this one knows nothing."""
    (tmp_path / "config.json").write_text(json.dumps({"format": version, "flux": 3}))
    with pytest.raises(DetrError) as told:
        read_config(tmp_path / "config.json")
    assert why in str(told.value) and "Update this program" in str(told.value)
    (tmp_path / "log.txt").write_text(json.dumps({"epoch": 0, "format": version}) + "\n")
    assert main(["plot", str(tmp_path / "log.txt"), "--output_dir", str(tmp_path)]) == 2
    assert f"log.txt, line 1: {why}" in capsys.readouterr().err
    record = to_record(Checkpoint(State({"class_embed.bias": np.ones(3, np.float32)}, {})))
    record["detr_jittor"] = {"format": version, "flux": 3}
    with pytest.raises(BadFile) as told:
        from_record(record)
    assert why in str(told.value)
