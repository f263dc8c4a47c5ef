"""The published models: their names, where their files come from, and what `verify-official` makes of them.

The files are made here: small ones, and one with the keys and shapes of the published R50.
"""

import hashlib
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_download import Server, server  # noqa: F401 - a fixture

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import official
from detr_jittor.checkpoint.coco_classes import BY_COUNT
from detr_jittor.checkpoint.official import OFFICIAL, Official, official_file
from detr_jittor.cli import verify_official
from detr_jittor.data.demo import write_demo_set
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.postprocess import softmax
from detr_jittor.predict import hub
from detr_jittor.pt.detr import DETR
from detr_jittor.pt.segmentation import DETRsegm
from detr_jittor.twin.synthetic import conditioned

TINY = {"backbone": "resnet18", "hidden_dim": 32, "nheads": 2, "dim_feedforward": 32, "enc_layers": 1,
        "dec_layers": 1, "num_queries": 6, "min_size": 64, "max_size": 96}
MASKED = {**TINY, "hidden_dim": 128, "nheads": 8, "masks": True}


def write_weights(path: Path, options: dict) -> Path:
    """A file as the published ones are: {"model": weights}. Returns: it, under a name with its hash."""
    config = Official("", options, {}).config
    cls = DETRsegm if config.model.masks else DETR
    shapes = {n: tuple(v.shape) for n, v in cls(config.model, config.model.num_classes).state_dict().items()}
    torch.save({"model": {n: torch.tensor(v) for n, v in conditioned(shapes, 1).items()}}, path)
    return path.rename(path.with_name(f"detr-tiny-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"))


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Two made models in place of two published ones; their files are in the folder that DETR_WEIGHTS names."""
    (tmp_path / "weights").mkdir()
    files = {name: write_weights(tmp_path / "weights" / f"{name}.pth", options)
             for name, options in (("detr-r50", TINY), ("detr-r50-panoptic", MASKED))}
    monkeypatch.setitem(OFFICIAL, "detr-r50", Official(files["detr-r50"].name, TINY, {"box AP": 42.0}))
    monkeypatch.setitem(OFFICIAL, "detr-r50-panoptic", official.panoptic(
        files["detr-r50-panoptic"].name, 38.8, 31.1, 43.4, **MASKED))
    monkeypatch.setenv("DETR_WEIGHTS", str(tmp_path / "weights"))
    return files


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)


def test_the_seven_names_and_the_references_arguments():
    for name in ("detr_resnet50", "detr_resnet50_dc5", "detr_resnet101", "detr_resnet101_dc5",
                 "detr_resnet50_panoptic", "detr_resnet50_dc5_panoptic", "detr_resnet101_panoptic"):
        panoptic = "panoptic" in name
        arguments = inspect.signature(getattr(hub, name)).parameters
        assert list(arguments) == ["pretrained", "num_classes", *["threshold"] * panoptic, "return_postprocessor",
                                   "framework"]
        assert arguments["num_classes"].default == (250 if panoptic else 91)
        model = OFFICIAL[name.replace("_resnet", "-r").replace("_", "-")].config.model
        assert model.dilation == ("dc5" in name) and model.masks == panoptic
        assert model.backbone == ("resnet101" if "101" in name else "resnet50")
    assert len(OFFICIAL) == 7


def test_the_published_files():
    assert official.SERVER == "https://dl.fbaipublicfiles.com/detr/"
    assert {name: (model.file, *model.results.values()) for name, model in OFFICIAL.items()} == {
        "detr-r50": ("detr-r50-e632da11.pth", 42.0), "detr-r50-dc5": ("detr-r50-dc5-f0fb7ef5.pth", 43.3),
        "detr-r101": ("detr-r101-2c7b67e5.pth", 43.5), "detr-r101-dc5": ("detr-r101-dc5-a2e86def.pth", 44.9),
        "detr-r50-panoptic": ("detr-r50-panoptic-00ce5173.pth", 38.8, 31.1, 43.4),
        "detr-r50-dc5-panoptic": ("detr-r50-dc5-panoptic-da08f1b1.pth", 40.2, 31.9, 44.6),
        "detr-r101-panoptic": ("detr-r101-panoptic-40021d53.pth", 40.1, 33.0, 45.1)}


def test_a_detector_by_its_name(tiny):
    predictor = hub.detr_resnet50(framework="pytorch")
    found = predictor.detect(picture(), 0.0)
    assert len(found.scores) and set(found.labels) <= set(predictor.classes.labels)
    assert predictor.classes.name_of()[17] == "cat" and predictor.twin.name == "pytorch"
    again, postprocess = hub.detr_resnet50(return_postprocessor=True, framework="pytorch")
    assert postprocess is hub.detections and again.detect(picture(), 0.0).scores.tobytes() == found.scores.tobytes()


def test_a_panoptic_model_and_its_threshold(tiny):
    predictor, postprocess = hub.detr_resnet50_panoptic(threshold=0.001, return_postprocessor=True, framework="pytorch")
    assert predictor.segment(picture()).numbers.shape == (50, 60) and len(predictor.segment(picture()).labels)
    assert not len(predictor.segment(picture(), 0.999).labels)
    assert postprocess.keywords["threshold"] == 0.001 and 200 in postprocess.keywords["classes"].labels


def test_other_class_counts_begin_untrained(tiny):
    with pytest.raises(DetrError, match=r"published weights are of 91 classes, not 4.*fine-tune them"):
        hub.detr_resnet50(num_classes=4, framework="pytorch")
    fresh = hub.detr_resnet50(pretrained=False, num_classes=4, framework="pytorch")
    assert len(fresh.twin.state().model["class_embed.bias"]) == 5


def test_a_file_instead_of_a_folder(tiny, monkeypatch, tmp_path):
    other = write_weights(tmp_path / "a.pth", TINY).rename(tmp_path / "mine.pth")
    monkeypatch.setenv("DETR_WEIGHTS", str(other))
    assert official_file("detr-r50") == other
    monkeypatch.setenv("DETR_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(DetrError, match=r"nowhere: no such file, and DETR_WEIGHTS says .* unset DETR_WEIGHTS"):
        official_file("detr-r50")
    with open(tiny["detr-r50"], "ab") as file:
        file.write(b"more")
    monkeypatch.setenv("DETR_WEIGHTS", str(tiny["detr-r50"].parent))
    with pytest.raises(DetrError, match="damaged, its SHA-256"):
        official_file("detr-r50")


def test_weights_of_another_model_name_the_file(tiny, monkeypatch):
    monkeypatch.setenv("DETR_WEIGHTS", str(tiny["detr-r50-panoptic"]))
    name = tiny["detr-r50-panoptic"].name
    with pytest.raises(DetrError, match=f"{name}: its settings are not those of its weights: masks"):
        hub.detr_resnet50(num_classes=91, framework="pytorch")


def test_from_the_network_into_the_cache(tiny, server: Server, monkeypatch, tmp_path):  # noqa: F811
    """Cut off and taken up again, then from the cache; a wrong hash and a file that is not there are one error."""
    monkeypatch.delenv("DETR_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(official, "SERVER", server.url(""))
    file = tiny["detr-r50"]
    with pytest.raises(DetrError, match=r"HTTP 404.*put it into .*cache.*name a file or its folder in DETR_WEIGHTS"):
        official_file("detr-r50")
    server.files[file.name], server.cut = file.read_bytes(), file.stat().st_size // 3 + 1
    server.asked = []
    assert official_file("detr-r50").read_bytes() == file.read_bytes()
    assert len(server.asked) == 3 and server.asked[0] is None
    assert official_file("detr-r50").parent == tmp_path / "cache/detr-jittor/weights" and len(server.asked) == 3
    server.cut, server.files[tiny["detr-r50-panoptic"].name] = None, file.read_bytes()
    with pytest.raises(DetrError, match="the SHA-256 of what was downloaded is not what its name says"):
        official_file("detr-r50-panoptic")
    monkeypatch.setattr(official, "SERVER", "http://127.0.0.1:9/")
    with pytest.raises(DetrError, match=r"cannot be downloaded .*refused"):
        official_file("detr-r50-panoptic")


def test_the_keys_and_shapes_of_the_published_r50(tmp_path, monkeypatch):
    """A file of 167 MB, read and loaded whole: 41,524,768 parameters, and 4 tensors of each of 53 batch norms."""
    monkeypatch.setenv("DETR_WEIGHTS", str(write_weights(tmp_path / "r50.pth", {})))
    model = hub.detr_resnet50(framework="pytorch").twin.state().model
    norms = {n for n in model if ".bn" in n or "downsample.1" in n}
    assert len(norms) == 4 * 53 and sum(v.size for n, v in model.items() if n not in norms) == 41_524_768
    assert model["class_embed.weight"].shape == (92, 256) and not any("num_batches_tracked" in n for n in model)


def test_predict_takes_weights_that_describe_themselves(tiny, tmp_path, capsys):
    """Nothing but the shapes tells the model; where they do not tell enough, nothing is guessed."""
    Image.fromarray(picture()).save(tmp_path / "a.png")
    command = ["predict", str(tmp_path / "a.png"), "--output_dir", str(tmp_path / "out"), "--framework", "pytorch",
               "--threshold", "0", "--min_size", "64", "--max_size", "96", "--weights"]
    assert main([*command, "detr-r50"]) == 2  # 32 wide: no shape tells the heads
    assert "holds no settings of the model" in capsys.readouterr().err
    assert main([*command, str(write_weights(tmp_path / "a.pth", {**TINY, "hidden_dim": 256, "nheads": 8}))]) == 0
    (record,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {found["category"] for found in record["detections"]} <= set(BY_COUNT[91].names) and record["detections"]


@pytest.fixture
def place(tmp_path):
    """A dataset in COCO's layout, with the picture that is asked for."""
    write_demo_set(tmp_path / "coco", train=4, val=4, size=64)
    Image.fromarray(picture()).save(tmp_path / "coco" / "val2017" / verify_official.PICTURE, quality=95)
    return tmp_path / "coco"


def golden(outputs) -> verify_official.Golden:
    """What outputs would have to be compared with, had the reference code made them."""
    probability = softmax(outputs.logits[0])[:, :-1]
    sure = probability.max(1) > 0.9
    return verify_official.Golden(outputs.logits[0, :3, :3], outputs.boxes[0, :3, :3], probability.max(1)[sure],
                                  probability.argmax(1)[sure])


def test_verify_official_in_both_twins(tiny, place, monkeypatch, capsys):
    """All agrees; then logits and boxes are off by .001, then the labels differ, and the status says so."""
    image = place / "val2017" / verify_official.PICTURE
    from detr_jittor.jt.setup import runtime  # noqa: F401 - before a twin of PyTorch is used in this process

    outputs = verify_official.outputs_of(OFFICIAL["detr-r50"], verify_official.store.load(tiny["detr-r50"]),
                                         tiny["detr-r50"], image, "pytorch", "cpu")
    right = golden(outputs)
    monkeypatch.setitem(verify_official.GOLDEN, "detr-r50", right)
    command = ["verify-official", "--image", str(image), "--device", "cpu"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "its SHA-256 begins as its name says" in printed
    assert printed.count("\nagrees") == 2 * (3 + bool(len(right.scores))) + 2
    for wrong in ({"logits": right.logits + 1e-3}, {"boxes": right.boxes - 1e-3}, {"labels": np.arange(99)}):
        monkeypatch.setitem(verify_official.GOLDEN, "detr-r50", verify_official.Golden(**{**vars(right), **wrong}))
        assert main([*command, "--framework", "pytorch"]) == 1
        assert "DIFFERS" in capsys.readouterr().out


def test_verify_official_measures_ap(tiny, place, monkeypatch, capsys):
    """On four pictures the numbers are told and not compared; on as many as val2017 has, they are."""
    monkeypatch.setitem(verify_official.GOLDEN, "detr-r50", None)
    command = ["verify-official", "--coco_path", str(place), "--framework", "pytorch", "--device", "cpu"]
    assert main(command) == 0
    assert "not compared: box AP" in capsys.readouterr().out
    monkeypatch.setattr(verify_official, "PICTURES", 4)
    assert main(command) == 1
    assert "published 42.0" in capsys.readouterr().out


def test_verify_official_without_a_picture(tiny, capsys):
    assert main(["verify-official"]) == 2
    assert "needs a picture" in capsys.readouterr().err


def test_what_the_reference_says_of_the_picture():
    values = verify_official.GOLDEN["detr-r50"]
    assert values.labels.tolist() == [75, 75, 63, 17, 17] and values.scores.shape == (5,)
    assert values.logits[2, 1] == -0.5837 and values.boxes[1, 2] == 0.0529
