"""How an evaluation is written down."""

import json

from detr_jittor.evaluate.summary import ClassSummary, Summary

SUMMARY = Summary([0.01234, 0.0345, 0.0012, -1, 0.5, 1, 0, 0.25, 0.26, 0.27, 0.28, 0.29],
                  [ClassSummary(1, "person", 12, 0.5, 0.75), ClassSummary(7, "hair drier", 0, -1, -1)])


def test_the_line_of_eval_summary():
    assert SUMMARY.line(12) == "[val] epoch= 12 AP=0.0123 | AP50=0.0345 | AP75=0.0012"
    assert SUMMARY.line(300, "train").startswith("[train] epoch=300 AP=")


def test_the_class_table_is_aligned():
    assert SUMMARY.class_table().splitlines() == [
        "class       objects      AP    AP50",
        "person           12  0.5000  0.7500",
        "hair drier        0       -       -",
    ]
    assert Summary(SUMMARY.stats, []).class_table() == "class  objects      AP    AP50"


def test_a_name_forges_no_lines():
    table = Summary(SUMMARY.stats, [ClassSummary(1, "red\nblue\x1b[2K", 12, 0.5, 0.75)]).class_table()
    assert table.splitlines()[1:] == [r"red\nblue\x1b[2K       12  0.5000  0.7500"]


def test_json_is_valid_and_says_null_for_what_is_undefined():
    data = json.loads(json.dumps(SUMMARY.to_json(), allow_nan=False))
    assert data["AP"] == 0.01234 and data["AP_small"] is None and data["AR_large"] == 0.29
    assert data["classes"][1] == {"category_id": 7, "name": "hair drier", "objects": 0, "AP": None, "AP50": None}
