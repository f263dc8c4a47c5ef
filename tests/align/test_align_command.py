"""`detr-jittor align` on a small model and the generated pictures, with and without the kernels."""

import json

import pytest

from detr_jittor.__main__ import main
from detr_jittor.align.stages import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("all_processors")]

SMALL = ["--backbone", "resnet18", "--enc_layers", "1", "--dec_layers", "2", "--hidden_dim", "64", "--nheads", "4",
         "--dim_feedforward", "128", "--num_queries", "20", "--min_size", "64", "--max_size", "96", "--steps", "3",
         "--images", "4"]


@pytest.mark.parametrize("options", [[], ["--plain", "--pre_norm", "--position_embedding", "learned"],
                                     ["--decoder", "box", "--pre_norm", "--backbone_stages", "3"]],
                         ids=["kernels", "plain, pre-norm, learned positions", "box decoder"])
def test_every_stage_passes_and_the_report_says_so(options, tmp_path, capfd):
    assert main(["align", *SMALL, *options, "--output_dir", str(tmp_path)]) == 0
    said = json.loads((tmp_path / "alignment.json").read_text())
    assert said["verdict"] == "pass"
    assert [stage["name"] for stage in said["stages"]] == list(STAGES)
    assert all(stage["verdict"] == "pass" and "worst" in stage for stage in said["stages"])
    assert 0.2 < said["median_ratio"] < 4
    page = (tmp_path / "alignment.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page  # self-contained
    assert "Aligned: on the median of" in page
    out = capfd.readouterr().out
    assert "pass; the median of Jittor's error" in out
    expected = "plain Jittor operators" if "--plain" in options else "oneDNN"
    assert any(expected in item["note"] for item in said["stages"][0]["items"])


def test_without_a_folder_it_says_what_to_pass(capfd):
    assert main(["align", *SMALL]) == 2
    assert "--output_dir" in capfd.readouterr().err
