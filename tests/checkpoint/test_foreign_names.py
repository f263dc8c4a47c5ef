"""Files of other projects, recognised by their names of weights: what comes out has the reference code's names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from small import SMALL, WITH_MASKS, small_state

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import DetrConfig, DetrForSegmentation, ResNetConfig

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import backbone, store
from detr_jittor.checkpoint.architecture import classes_of, options_of, settings_of
from detr_jittor.checkpoint.keymap_transformers import from_transformers, to_transformers
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.errors import DetrError
from detr_jittor.pt.detr import DETR
from detr_jittor.pt.twin import PyTorchTwin
from detr_jittor.types import Classes, State

CLASSES = 11
COCO_MINI = Path(__file__).parents[3] / "shared" / "coco-mini"


def weights(config) -> dict[str, np.ndarray]:
    return small_state(PyTorchTwin(config, CLASSES)).model


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(one[n].tobytes() == other[n].tobytes() and one[n].shape == other[n].shape
                                              for n in one)


@pytest.mark.parametrize("config", [SMALL, WITH_MASKS], ids=["detector", "masks"])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_transformers_files_are_recognised(config, suffix, tmp_path):
    """By their names alone; .bin is what torch.save makes of the weights."""
    model = weights(config)
    theirs = to_transformers(model)
    assert any(".q_proj." in name for name in theirs) and not any("in_proj" in name for name in theirs)
    file = tmp_path / f"model{suffix}"
    if suffix == ".bin":
        torch.save({n: torch.tensor(v) for n, v in theirs.items()}, file)
    else:
        save_file(theirs, file)
    assert same(store.load(file).state.model, model)


@pytest.mark.parametrize("start", [".pkl", ".pth"])
def test_convert_to_transformers_and_back(start, tmp_path, capsys):
    model = weights(SMALL)
    files = [str(tmp_path / name) for name in (f"a{start}", "b.safetensors", f"c{start}")]
    store.save(files[0], Checkpoint(State(model, {}), config=SMALL))
    assert main(["convert", *files[:2], "--keys", "transformers"]) == main(["convert", *files[1:]]) == 0
    assert "model.query_position_embeddings.weight" in store.safetensors_file.read(tmp_path / "b.safetensors")["model"]
    assert same(store.load(files[2]).state.model, model)
    assert main(["convert", files[0], str(tmp_path / "b.pth"), "--keys", "transformers"]) == 2
    assert "end in .safetensors" in capsys.readouterr().err
    model["transformer.encoder.norm.weight"] = np.zeros(64, np.float32)
    store.save(files[0], Checkpoint(State(model, {})))
    assert main(["convert", *files[:2], "--keys", "transformers"]) == 2
    assert f"{files[0]}: transformer.encoder.norm.weight: the other model has no such weight" in capsys.readouterr().err


def test_a_file_with_strange_names_is_named(tmp_path):
    theirs = {**to_transformers(weights(SMALL)), "model.strange.weight": np.zeros(1, np.float32)}
    save_file(theirs, tmp_path / "a.safetensors")
    with pytest.raises(DetrError, match=r"a\.safetensors: not a readable checkpoint: model\.strange\.weight"):
        store.load(tmp_path / "a.safetensors")


def test_their_segmentation_model_reads_and_writes_ours(tmp_path):
    """DetrForSegmentation takes a file of ours without a key too many or too few, and its own comes back the same."""
    model, m = weights(WITH_MASKS), WITH_MASKS.model
    resnet = ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512],
                          out_features=["stage1", "stage2", "stage3", "stage4"])
    DetrConfig(use_timm_backbone=False, backbone_config=resnet, num_labels=CLASSES, num_queries=m.num_queries,
               encoder_layers=m.enc_layers, decoder_layers=m.dec_layers, d_model=m.hidden_dim,
               encoder_ffn_dim=m.dim_feedforward, decoder_ffn_dim=m.dim_feedforward,
               encoder_attention_heads=m.nheads, decoder_attention_heads=m.nheads).save_pretrained(tmp_path)
    save_file(to_transformers(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    witness, report = DetrForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    witness.save_pretrained(tmp_path / "saved")
    assert same(store.load(tmp_path / "saved" / "model.safetensors").state.model, model)
    torch.save(witness.state_dict(), tmp_path / "names_of_today.bin")
    assert same(store.load(tmp_path / "names_of_today.bin").state.model, model)


def test_both_generations_of_mask_head_names():
    x = np.zeros((3, 3), np.float32)
    names = {"bbox_attention.q_proj.bias": "bbox_attention.q_linear.bias",
             "mask_head.conv2.norm.weight": "mask_head.gn2.weight", "mask_head.lay4.bias": "mask_head.lay4.bias",
             "mask_head.fpn_stages.2.fpn_adapter.weight": "mask_head.adapter3.weight",
             "mask_head.fpn_stages.0.refine.conv.weight": "mask_head.lay3.weight",
             "mask_head.fpn_stages.1.refine.norm.bias": "mask_head.gn4.bias",
             "mask_head.output_conv.bias": "mask_head.out_lay.bias"}
    assert set(from_transformers(dict.fromkeys(names, x))) == set(names.values())


ORIGINAL = """
import sys
from collections import OrderedDict
import numpy as np
from detr_jittor.jt.setup.runtime import jt
from jittor import models

class Body(jt.nn.Module):
    def __init__(self):
        net = models.resnet18()
        self.body = jt.nn.Sequential(OrderedDict((n, m) for n, m in net.named_children() if n not in ("avgpool", "fc")))

class Backbone(jt.nn.Module):
    def __init__(self):
        self.body = Body()

class Attention(jt.nn.Module):
    def __init__(self):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, jt.nn.Linear(8, 8))

class Layer(jt.nn.Module):
    def __init__(self):
        self.self_attn = Attention()

class Model(jt.nn.Module):
    def __init__(self):
        self.transformer = jt.nn.Module()
        self.transformer.encoder = jt.nn.Module()
        self.transformer.encoder.layers = jt.nn.ModuleList([Layer(), Layer()])
        self.backbone = jt.nn.Sequential(Backbone())

model = Model()
optimizer = jt.optim.AdamW(model.parameters(), 1e-4)
jt.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}, "original.pkl")
np.savez("original.npz", **{n: v.numpy() for n, v in model.state_dict().items()})
models.resnet18().save("resnet18.pkl")
"""


def test_the_original_projects_files_and_jittors_resnets(tmp_path):
    """Written by Jittor itself, from modules that are nested as that project has them."""
    done = subprocess.run([sys.executable, "-c", ORIGINAL], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = dict(np.load(tmp_path / "original.npz"))
    found = store.load(tmp_path / "original.pkl")
    attention = "transformer.encoder.layers.1.self_attn"
    assert found.epoch == 7 and "optimizer" in found.note
    assert np.array_equal(found.state.model[f"{attention}.in_proj_weight"], np.concatenate(
        [theirs[f"{attention}.{x}_proj.weight"] for x in "qkv"]))
    body = {n: v for n, v in found.state.model.items() if "backbone" in n}
    wanted = {n for n in DETR(SMALL.model, CLASSES).state_dict() if n.startswith("backbone.0.body.")}
    assert body.keys() == wanted
    assert all(np.array_equal(v, theirs[n.replace("0.body.", "0.body.body.")]) for n, v in body.items())

    before = State(weights(SMALL), {})
    after = backbone.with_backbone(before, tmp_path / "resnet18.pkl").model
    assert same({n: v for n, v in after.items() if "backbone" not in n},
                {n: v for n, v in before.model.items() if "backbone" not in n})
    assert not np.array_equal(after["backbone.0.body.conv1.weight"], before.model["backbone.0.body.conv1.weight"])


@pytest.mark.parametrize("options", [
    {"backbone": "resnet18"}, {"backbone": "resnet34", "backbone_stages": 3}, {"backbone": "resnet50"},
    {"backbone": "resnet101"}, {"enc_layers": 0, "dec_layers": 3, "pre_norm": False}, {"pre_norm": True},
    {"position_embedding": "learned", "num_queries": 7, "dim_feedforward": 96}])
def test_the_model_is_read_from_the_shapes(options):
    config = SMALL.replace(hidden_dim=256, nheads=8).replace(**options)
    model = {n: v.numpy() for n, v in DETR(config.model, CLASSES).state_dict().items()}
    found = settings_of(Checkpoint(State(model, {})), "some-dc5.pth")
    assert found.model == config.replace(dilation=True, dropout=0.1, num_classes=CLASSES).model


def test_masks_tell_the_heads_and_other_widths_do_not():
    assert options_of(weights(WITH_MASKS))["nheads"] == 8 and options_of(weights(WITH_MASKS))["masks"]
    assert options_of(weights(SMALL)) is None  # 64 wide: 4 heads, but no shape says so
    assert options_of({"query_embed.weight": np.zeros((2, 256))}) is None


def test_the_classes_of_files_that_name_none():
    def head(rows, **more):
        return Checkpoint(State({"class_embed.weight": np.zeros((rows, 4), np.float32)}, {}), **more)

    assert classes_of(head(92)).name_of()[17] == "cat" and len(classes_of(head(92)).names) == 80
    assert len(classes_of(head(251)).names) == 133 and classes_of(head(251)).num_classes == 250
    assert classes_of(head(12)) is None
    own = Classes.of_categories([{"id": 90, "name": "hedgehog"}])
    assert classes_of(head(92, classes=own)) is own


def test_the_list_of_categories_is_cocos():
    if not COCO_MINI.is_dir():
        pytest.skip("needs coco-mini")
    content = json.loads((COCO_MINI / "annotations" / "panoptic_val2017.json").read_text())["categories"]
    wanted = Classes.of_categories(content)
    found = classes_of(Checkpoint(State({"class_embed.weight": np.zeros((251, 4), np.float32)}, {})))
    assert (found.category_ids, found.names, found.labels) == (wanted.category_ids, wanted.names, wanted.labels)
