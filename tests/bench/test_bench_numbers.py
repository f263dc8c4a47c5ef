"""Medians, ratios and what is asked for; the file and the table that are made of them."""

import json
from types import SimpleNamespace

import pytest

from detr_jittor.bench import report, run
from detr_jittor.bench.numbers import Row, pairs, spread
from detr_jittor.bench.plan import FULL, QUICK

CONDITIONS = {"command": "detr-jittor bench", "seconds": 12.0, "versions": {"torch": "2"}, "limit_gflops": [],
              "machine": {"cpu": "a processor", "instructions": "AVX2", "threads": 2, "system": "Linux"},
              "differences": {"Jittor": 1e-5},
              "left_out": "the rest"}
KEYS = {"name", "ours", "rival", "unit", "jittor", "pytorch", "ratio", "limit_fraction", "pytorch_limit_fraction",
        "must", "met", "jittor_spread", "pytorch_spread", "ratio_spread", "pairs", "gflop", "limit_gflops", "note"}


@pytest.fixture
def row() -> Row:
    """The second round was disturbed, both of it."""
    return Row("a step", "PyTorch eager", [(1.0, 2.0), (10.0, 30.0), (2.0, 5.0)], work=8e9, limit=10e9)


def test_medians_and_ratios_pair_by_pair(row):
    assert (row.jittor, row.pytorch) == (2.0, 5.0)
    assert row.ratios == [2.0, 3.0, 2.5]
    assert row.ratio == 2.5
    far = Row("a step", "PyTorch eager", [(1.0, 4.0), (2.0, 2.0), (4.0, 4.0)])
    assert (far.ratio, far.pytorch / far.jittor) == (1.0, 2.0)  # not the ratio of the medians


def test_the_share_of_the_limit(row):
    assert row.fraction(row.jittor) == pytest.approx(0.4)  # 8 GFLOP in 2 s, of 10 GFLOP/s
    assert row.fraction(row.pytorch) == pytest.approx(0.16)
    assert Row("memory", "PyTorch eager", [(1.0, 2.0)]).fraction(1.0) is None


@pytest.mark.parametrize("must, met", [
    ({}, None), ({"ratio": 2.5}, True), ({"ratio": 2.6}, False), ({"limit_fraction": 0.4}, True),
    ({"ratio": 2.5, "limit_fraction": 0.5}, False), ({"jittor": 2.0}, True), ({"jittor": 1.9}, False)])
def test_what_is_asked_for(row, must, met):
    row.must = must
    assert row.met is met


def test_only_whole_rounds_are_pairs():
    assert pairs([1.0, 2.0, 3.0], [4.0, 5.0]) == [(1.0, 4.0), (2.0, 5.0)]
    assert (spread([3.0, 1.0, 2.0]), spread([])) == ([1.0, 3.0], None)


def test_the_file(row):
    written = json.loads(json.dumps(report.to_json([row], CONDITIONS)))
    assert written.keys() == {*CONDITIONS, "rows"}
    line = written["rows"][0]
    assert line.keys() == KEYS
    assert (line["ratio"], line["limit_fraction"], line["pairs"][1]) == (2.5, pytest.approx(0.4), [10.0, 30.0])
    assert (line["jittor_spread"], line["ratio_spread"]) == ([1.0, 10.0], [2.0, 3.0])


def test_a_row_that_was_not_measured_says_why():
    row = Row("a pass", "OpenVINO", note="OpenVINO: ModuleNotFoundError: No module named 'openvino'",
              must={"ratio": 0.9}, work=1e9, limit=1e9)
    line = row.to_json()
    assert (line["jittor"], line["pytorch"], line["ratio"], line["limit_fraction"], line["met"]) == (None,) * 5
    text = report.markdown([row], CONDITIONS)
    assert "No module named 'openvino'" in text and "| –" in text


def test_the_table(row):
    row.must = {"ratio": 3.0}
    cells = report.line(row)
    assert cells[1:7] == ["2 s", "PyTorch eager", "5 s", "2.50 (2.00–3.00)", "≥ 3 ✗", "0.40 and 0.16"]
    html = report.to_html([row], CONDITIONS)
    assert "2.50 (2.00–3.00)" in html and "<script" not in html and "a processor" in html


def test_the_most_important_rows_come_first(monkeypatch):
    """The time of a quick run may end before the last ones."""
    order = []
    for name in ("training", "starts", "demo_step", "inference"):
        monkeypatch.setattr(run, name, lambda session, *args, name=name, **more: order.append((name, *args[1:])))
    run.run(SimpleNamespace(plan=QUICK, rows=[]))
    assert order == [("training", ["eager"]), ("inference",), ("demo_step",), ("starts",), ("training", ["bf16"])]


def test_without_bfloat16_no_time_goes_into_it():
    plan = FULL.without_bfloat16()
    assert plan.settings == ("channels-last", "compile") and plan.engines == ("onnxruntime", "openvino")
    assert "bf16" in plan.left_out and "batch 4, " in QUICK.without_bfloat16().left_out
