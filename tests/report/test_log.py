import json

import pytest

from detr_jittor.errors import DetrError
from detr_jittor.report.log import RunLog, read_log


def record(epoch: int) -> dict:
    return {"train_loss": 1.5 / (epoch + 1), "test_coco_eval_bbox": [0.1 + 0.2] * 12, "epoch": epoch}


def write(folder, epochs, first: int = 0) -> None:
    log = RunLog(folder, first)
    for epoch in epochs:
        log.step(epoch * 50, {"loss": 1.0})
        log.epoch(record(epoch), f"[val] epoch={epoch:>3} AP=0.1000 | AP50=0.2000 | AP75=-")
    log.close()


def test_what_was_written_is_read(tmp_path):
    write(tmp_path, range(3))
    assert read_log(tmp_path / "log.txt") == [record(0), record(1), record(2)]
    assert len((tmp_path / "eval_summary.txt").read_text().splitlines()) == 3
    assert list((tmp_path / "tensorboard").iterdir())


def test_epochs_that_run_again_are_logged_once(tmp_path):
    """A killed run's log is ahead of its checkpoint, and may end in half a line."""
    write(tmp_path, range(4))
    with open(tmp_path / "log.txt", "a") as file:
        file.write('{"epoch": 4, "tra')
    write(tmp_path, range(2, 4), first=2)
    assert read_log(tmp_path / "log.txt") == [record(epoch) for epoch in range(4)]
    assert [line[:14] for line in (tmp_path / "eval_summary.txt").read_text().splitlines()] == [
        f"[val] epoch={epoch:>3}"[:14] for epoch in range(4)]


def test_what_is_damaged_goes_when_a_run_goes_on(tmp_path):
    write(tmp_path, range(2))
    with open(tmp_path / "log.txt", "ab") as file:
        file.write(b"\0\0\xff\n")
    write(tmp_path, range(2, 3), first=2)
    assert read_log(tmp_path / "log.txt") == [record(epoch) for epoch in range(3)]


def test_half_a_last_line_is_no_record(tmp_path):
    (tmp_path / "log.txt").write_text(json.dumps(record(0)) + '\n{"epoch": 1, "tr')
    assert read_log(tmp_path / "log.txt") == [record(0)]
    (tmp_path / "log.txt").write_text(json.dumps(record(0)) + "\n" + json.dumps(record(1)))
    assert read_log(tmp_path / "log.txt") == [record(0), record(1)]


@pytest.mark.parametrize("content, fault", [
    ("", "holds no epoch"), ("\n\n", "holds no epoch"), ('{"epoch": 0}\nnonsense\n{"epoch": 1}\n', "line 2: not valid"),
    ("[1]\n", "line 1: not a JSON object"), ("[" * 100_000 + "\n", "line 1: not valid")])
def test_files_that_are_no_logs(tmp_path, content, fault):
    (tmp_path / "log.txt").write_text(content)
    with pytest.raises(DetrError, match=fault):
        read_log(tmp_path / "log.txt")


def test_a_log_that_cannot_be_read(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.txt", "log.txt", ""):
        with pytest.raises(DetrError, match="cannot be read"):
            read_log(tmp_path / name)


def test_a_log_that_cannot_be_written(tmp_path):
    log = RunLog(tmp_path)
    (tmp_path / "log.txt").mkdir()
    with pytest.raises(DetrError, match="the log cannot be written"):
        log.epoch(record(0), "line")
    log.close()
