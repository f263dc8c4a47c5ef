"""Every format gives back what was put in, bit for bit; torch and jittor's own files are read without either."""

import argparse
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from checkpoint_samples import SHAPES, TRAINED, assert_bit_equal, assert_equal
from safetensors.torch import save_file

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import Config
from detr_jittor.types import State

FORMATS = [".pkl", ".pth", ".safetensors"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_round_trip_is_bit_equal(tmp_path, checkpoint, suffix):
    store.save(tmp_path / f"a{suffix}", checkpoint)
    loaded = store.load(tmp_path / f"a{suffix}")
    if suffix == ".safetensors":  # that library sorts the names
        assert loaded.state.model.keys() == checkpoint.state.model.keys()
        loaded.state.model = {name: loaded.state.model[name] for name in checkpoint.state.model}
    assert_equal(loaded, checkpoint)
    assert all(array.flags.writeable for array in loaded.state.model.values())  # torch warns of others


@pytest.mark.parametrize("suffix", FORMATS)
def test_weights_alone(tmp_path, checkpoint, suffix):
    bare = Checkpoint(State(checkpoint.state.model, {}))
    store.save(tmp_path / f"a{suffix}", bare)
    loaded = store.load(tmp_path / f"a{suffix}")
    assert loaded.config is None and loaded.classes is None and loaded.state.optimizer == {}
    for name, value in bare.state.model.items():
        assert_bit_equal({name: value}, {name: loaded.state.model[name]})


def test_through_every_format_and_back(tmp_path, checkpoint):
    store.save(tmp_path / "0.pkl", checkpoint)
    for i, suffix in enumerate([".pth", ".pkl", ".pth"]):
        previous = store.load(next(tmp_path.glob(f"{i}.*")))
        store.save(tmp_path / f"{i + 1}{suffix}", previous)
    assert_equal(store.load(tmp_path / "3.pth"), checkpoint)


def test_equal_checkpoints_are_equal_files(tmp_path, checkpoint):
    for suffix in (".pkl", ".pth"):
        store.save(tmp_path / f"a{suffix}", checkpoint)
        store.save(tmp_path / f"b{suffix}", checkpoint)
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("weights_only", [True, False])
def test_torch_load_reads_ours(tmp_path, checkpoint, weights_only):
    store.save(tmp_path / "a.pth", checkpoint)
    theirs = torch.load(tmp_path / "a.pth", weights_only=weights_only)
    assert {"model", "optimizer", "lr_scheduler", "epoch", "args"} <= theirs.keys()
    assert theirs["epoch"] == 2 and theirs["args"]["lr"] == 3e-4
    assert_bit_equal({name: tensor.numpy() for name, tensor in theirs["model"].items()}, checkpoint.state.model)


def test_torch_reads_ours_memory_mapped(tmp_path, checkpoint):
    store.save(tmp_path / "a.pth", checkpoint)
    theirs = torch.load(tmp_path / "a.pth", mmap=True)["model"]
    assert_bit_equal({name: tensor.clone().numpy() for name, tensor in theirs.items()}, checkpoint.state.model)


def test_jittor_and_plain_pickle_read_ours(tmp_path, checkpoint):
    """jittor.load checks the trailer and unpickles; pickle alone stops before the trailer."""
    store.save(tmp_path / "a.pkl", checkpoint)
    with open(tmp_path / "a.pkl", "rb") as file:
        assert_bit_equal(pickle.load(file)["model"], checkpoint.state.model)
    assert (tmp_path / "a.pkl").read_bytes().endswith(b"HCAJSLHD")


class Tree(torch.nn.Module):
    """Parameters and buffers under given dotted names, in that order."""

    def __init__(self, shapes: dict):
        super().__init__()
        for name, shape in shapes.items():
            *folders, last = name.split(".")
            module = self
            for folder in folders:
                if not hasattr(module, folder):
                    module.add_module(folder, torch.nn.Module())
                module = getattr(module, folder)
            if "bn1" in name or "downsample.1" in name:
                module.register_buffer(last, torch.zeros(shape))
            else:
                trained = "backbone" not in name or "layer2" in name
                module.register_parameter(last, torch.nn.Parameter(torch.rand(shape), requires_grad=trained))


def reference_optimizer(model: torch.nn.Module):
    """AdamW and StepLR as the reference code's main.py makes them."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([{"params": [p for n, p in named if "backbone" not in n]},
                                   {"params": [p for n, p in named if "backbone" in n], "lr": 1e-5}],
                                  lr=1e-4, weight_decay=1e-4)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 200)


def test_the_reference_code_resumes_from_ours(tmp_path, checkpoint):
    """As its main.py does: load_state_dict of model, optimizer and scheduler, then a step."""
    del checkpoint.state.model["backbone.0.body.bn1.num_batches_tracked"]
    checkpoint.state.model["class_embed.bias"][:] = 0  # NaN never equals itself
    store.save(tmp_path / "a.pth", checkpoint)
    theirs = torch.load(tmp_path / "a.pth", weights_only=True)
    model = Tree(SHAPES)
    model.load_state_dict(theirs["model"])
    optimizer, scheduler = reference_optimizer(model)
    optimizer.load_state_dict(theirs["optimizer"])
    scheduler.load_state_dict(theirs["lr_scheduler"])
    assert theirs["epoch"] + 1 == scheduler.last_epoch == 3
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert optimizer.state[parameter]["exp_avg"].numpy().tobytes() == \
                checkpoint.state.optimizer[name][0].tobytes(), name
            assert int(optimizer.state[parameter]["step"]) == 17
        else:
            assert parameter not in optimizer.state
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([3e-5, 1e-6])  # the drop after epoch 2
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    sum((p ** 2).sum() for n, p in model.named_parameters() if "class" not in n).backward()
    optimizer.step()
    scheduler.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name in TRAINED if "class" not in name}


@pytest.mark.parametrize("zipped", [True, False])
def test_reference_checkpoints_are_read(tmp_path, zipped):
    """A file that the reference code's main.py writes, after two steps, in both of torch's formats."""
    model = Tree(SHAPES)
    optimizer, scheduler = reference_optimizer(model)
    for _ in range(2):
        optimizer.zero_grad()
        sum((p ** 2).sum() for p in model.parameters()).backward()
        optimizer.step()
    scheduler.step()
    args = argparse.Namespace(lr=2e-4, backbone="resnet18", aux_loss=False, device="cuda", distributed=False)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "args": args, "epoch": 0,
                "lr_scheduler": scheduler.state_dict()}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    loaded = store.load(tmp_path / "a.pth")
    assert loaded.epoch == 0 and loaded.classes is None and loaded.note == ""
    assert loaded.config == Config().replace(lr=2e-4, backbone="resnet18", no_aux_loss=True)
    assert_bit_equal(loaded.state.model, {name: value.numpy() for name, value in model.state_dict().items()})
    assert list(loaded.state.optimizer) == TRAINED and loaded.state.steps == 2
    for name, parameter in model.named_parameters():
        if name in loaded.state.optimizer:
            assert np.array_equal(loaded.state.optimizer[name][1], optimizer.state[parameter]["exp_avg_sq"].numpy())


def test_an_optimizer_that_does_not_fit_is_left_out_and_told(tmp_path, checkpoint):
    store.save(tmp_path / "a.pth", checkpoint)
    theirs = torch.load(tmp_path / "a.pth")
    del theirs["detr_jittor"], theirs["model"]["class_embed.bias"]
    torch.save(theirs, tmp_path / "b.pth")
    loaded = store.load(tmp_path / "b.pth")
    assert loaded.state.optimizer == {} and "optimizer" in loaded.note


@pytest.mark.parametrize("zipped", [True, False])
def test_types_and_layouts_of_torch(tmp_path, zipped):
    base = torch.arange(24, dtype=torch.float32)
    tensors = {
        "view": base[3:15].view(3, 4), "transposed": base.view(4, 6).t(), "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4), "half": torch.randn(5).half(), "bfloat16": torch.randn(7).bfloat16(),
        "double": torch.randn(2, dtype=torch.float64), "long": torch.tensor([2**40]),
        "bool": torch.tensor([True, False]), "byte": torch.arange(5, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    loaded = store.load(tmp_path / "a.pth").state.model
    widened = {name: t.detach().float() if t.dtype in (torch.half, torch.bfloat16) else t.detach()
               for name, t in tensors.items()}
    assert_bit_equal(loaded, {name: tensor.numpy() for name, tensor in widened.items()})


def test_bfloat16_and_half_safetensors(tmp_path):
    tensors = {"bfloat16": torch.randn(9).bfloat16(), "half": torch.randn(3).half(), "long": torch.tensor([7])}
    save_file(tensors, tmp_path / "a.safetensors")
    loaded = store.load(tmp_path / "a.safetensors").state.model
    for name, tensor in tensors.items():
        expected = tensor if name == "long" else tensor.float()
        assert_bit_equal({name: loaded[name]}, {name: expected.numpy()})


@pytest.mark.parametrize("protocol", range(2, 6))
def test_numpy_in_pickle_protocols(tmp_path, protocol):
    arrays = {"c": np.arange(6, dtype=np.float32).reshape(2, 3), "fortran": np.asfortranarray(np.eye(3, 2)),
              "scalar": np.array(2.5), "bytes": np.arange(256, dtype=np.uint8), "empty": np.zeros((0, 3), np.int64)}
    arrays["again"] = arrays["c"]
    record = {"model": arrays, "epoch": 4, "args": argparse.Namespace(lr=np.float64(0.5), name="ü")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(record, protocol))
    content = store.read(tmp_path / "a.pkl")
    assert_bit_equal(content["model"], arrays)
    assert content["args"] == {"lr": 0.5, "name": "ü"}
    assert store.load(tmp_path / "a.pkl").epoch == 4


def test_jittor_variables_are_read_without_jittor(tmp_path):
    """The pickle that jittor.save makes of a Var, written by hand: Var(ndarray)."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    inner = pickle.dumps(array, 4)[11:-1]  # without protocol, frame and stop
    program = (b"\x80\x04}(\x8c\x05model}(\x8c\x01w\x8c\x06jittor\x8c\x0fjittor_core.Var\x93" + inner + b"\x85Ruu.")
    (tmp_path / "a.pkl").write_bytes(program)
    assert_bit_equal(store.load(tmp_path / "a.pkl").state.model, {"w": array})
    probe = ("import sys; from detr_jittor.checkpoint import store; store.load(sys.argv[1]); "
             "sys.exit(bool({'jittor', 'torch'} & sys.modules.keys()))")
    assert subprocess.run([sys.executable, "-c", probe, tmp_path / "a.pkl"]).returncode == 0


def test_jittor_itself_writes_and_reads(tmp_path, checkpoint):
    """A genuine file of jittor.save, optimizer included, is read; and jittor.load reads ours."""
    store.save(tmp_path / "ours.pkl", checkpoint)
    program = """
import argparse, sys
import numpy as np
from detr_jittor.jt.setup.runtime import jt
layer = jt.nn.Linear(2, 3)
optimizer = jt.optim.AdamW(layer.parameters(), 1e-3)
optimizer.step(layer(jt.ones((1, 2))).sum())
np.savez("weights.npz", **{name: value.numpy() for name, value in layer.state_dict().items()})
jt.save({"model": layer.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3,
         "args": argparse.Namespace(lr=1e-3)}, "theirs.pkl")
layer.save("bare.pkl")
np.savez("ours.npz", **jt.load("ours.pkl")["model"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weights = dict(np.load(tmp_path / "weights.npz"))
    theirs = store.load(tmp_path / "theirs.pkl")
    assert_bit_equal(theirs.state.model, weights)
    assert theirs.epoch == 3 and theirs.config.optim.lr == 1e-3 and "optimizer" in theirs.note
    assert_bit_equal(store.load(tmp_path / "bare.pkl").state.model, weights)
    assert_bit_equal(dict(np.load(tmp_path / "ours.npz")), checkpoint.state.model)
