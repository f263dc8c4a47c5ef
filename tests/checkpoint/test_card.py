"""`detr-jittor card`: a folder that both sites take, that we read again, and that the transformers library reads."""

import json
import subprocess

import numpy as np
import pytest
import yaml
from small import NUM_CLASSES, SMALL, WITH_MASKS, small_batch, small_state

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.pt.twin import PyTorchTwin
from detr_jittor.types import Classes

CLASSES = Classes((1, 4), ("猫", "dog"), (1, 4), NUM_CLASSES)
CONFIG = SMALL.replace(min_size=64, max_size=96, coco_path="/home/someone/secret", framework="pytorch")
BOX = CONFIG.replace(decoder="box", backbone_stages=3)


def written(tmp_path, config) -> tuple:
    """(the folder, the twin whose weights it has)"""
    twin = PyTorchTwin(config, NUM_CLASSES)
    twin.load(small_state(twin))
    store.save(tmp_path / "run.pth", Checkpoint(twin.state(), epoch=4, step=1234, config=config, classes=CLASSES,
                                                best_ap=0.5))
    assert main(["card", str(tmp_path / "run.pth"), "--output_dir", str(tmp_path / "card"), "--license", "mit"]) == 0
    return tmp_path / "card", twin


@pytest.mark.parametrize("config", [CONFIG, BOX], ids=["paper", "box"])
def test_what_is_written_is_the_model(tmp_path, config):
    folder, twin = written(tmp_path, config)
    back = store.load(folder / "model.safetensors")
    model = twin.state().model
    assert back.state.model.keys() == model.keys() and all(np.array_equal(back.state.model[n], model[n]) for n in model)
    assert back.classes == CLASSES and back.config.data.min_size == 64
    assert back.config.model.decoder == config.model.decoder
    everything = b"".join(file.read_bytes() for file in folder.iterdir())
    assert b"secret" not in everything
    checked = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert checked.returncode == 0
    assert {file.name for file in folder.iterdir()} >= {"README.md", "config.json", "configuration.json", "SHA256SUMS"}


def test_the_readme(tmp_path):
    folder, _ = written(tmp_path, CONFIG)
    nothing, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    told = yaml.safe_load(head)
    assert nothing == "" and told["license"] == "mit" and told["pipeline_tag"] == "object-detection"
    assert "# card\n" in body and "猫, dog" in body and "1,234 steps, 5 epochs" in body and "0.5000" in body
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert f"`{sums['model.safetensors']}`" in body


def test_a_model_with_masks_is_found_among_those_that_segment(tmp_path):
    folder, _ = written(tmp_path, WITH_MASKS.replace(framework="pytorch"))
    told = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    task = json.loads((folder / "configuration.json").read_text())["task"]
    assert told["pipeline_tag"] == "image-segmentation" == task and told["tags"][0] == "image-segmentation"


def test_the_transformers_library_reads_it(tmp_path):
    import torch
    from transformers import DetrForObjectDetection

    folder, twin = written(tmp_path, CONFIG)
    theirs, report = DetrForObjectDetection.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    batch = small_batch(3)
    with torch.no_grad():
        outputs = theirs.eval()(torch.tensor(batch.images), torch.tensor(~batch.mask))
    found = twin.predict(batch)
    assert np.abs(found.logits - outputs.logits.numpy()).max() < 1e-5
    assert np.abs(found.boxes - outputs.pred_boxes.numpy()).max() < 1e-5
    assert theirs.config.id2label[1] == "猫"
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {"shortest_edge": 64,
                                                                                     "longest_edge": 96}


def test_nothing_is_overwritten(tmp_path, capsys):
    folder, _ = written(tmp_path, BOX)
    before = (folder / "README.md").read_bytes()
    assert main(["card", str(tmp_path / "run.pth"), "--output_dir", str(folder)]) == 2
    assert "holds model.safetensors already" in capsys.readouterr().err
    assert before == (folder / "README.md").read_bytes()



def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["card", str(tmp_path / "none.pkl"), "--output_dir", str(tmp_path / "card")]) == 2
    assert "no such file" in capsys.readouterr().err and not (tmp_path / "card").exists()
