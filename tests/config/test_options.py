"""The command line: its names and defaults are frozen, and what makes no sense ends in one line and exit status 2."""

import argparse
import dataclasses
import re

import numpy as np
import pytest

from detr_jittor.__main__ import main
from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.cli.options import add_config_arguments, config_and_start, config_of
from detr_jittor.config.check import LARGEST, check
from detr_jittor.config.options import OPTIONS, Config
from detr_jittor.engine.start import FROZEN, RESUME
from detr_jittor.errors import DetrError
from detr_jittor.types import State

REFERENCE = {  # the 42 options of the reference code's command line
    "lr": 1e-4, "lr_backbone": 1e-5, "batch_size": 2, "weight_decay": 1e-4, "epochs": 300, "lr_drop": 200,
    "clip_max_norm": 0.1, "frozen_weights": None, "backbone": "resnet50", "dilation": False,
    "position_embedding": "sine", "enc_layers": 6, "dec_layers": 6, "dim_feedforward": 2048, "hidden_dim": 256,
    "dropout": 0.1, "nheads": 8, "num_queries": 100, "pre_norm": False, "masks": False, "no_aux_loss": False,
    "set_cost_class": 1.0, "set_cost_bbox": 5.0, "set_cost_giou": 2.0, "mask_loss_coef": 1.0, "dice_loss_coef": 1.0,
    "bbox_loss_coef": 5.0, "giou_loss_coef": 2.0, "eos_coef": 0.1, "dataset_file": "coco", "coco_path": None,
    "coco_panoptic_path": None, "remove_difficult": False, "output_dir": "", "device": "auto", "seed": 42,
    "resume": "", "start_epoch": 0, "eval": False, "num_workers": 2, "world_size": 1, "dist_url": "env://",
}
ADDED = {
    "framework": "jittor", "backbone_weights": "auto", "backbone_norm": "auto", "backbone_stages": 4,
    "num_classes": None, "warmup_steps": 0, "max_steps": None, "min_size": 800, "max_size": 1333,
    "augmentation": "full", "max_bad_images": 10, "save_every_steps": 0, "eval_every": 1, "eval_train": 0,
    "dropout_masks": "native", "precision": "float32", "plain": False, "track": "tensorboard",
    "weights": "", "lr_schedule": "step",
    "freeze": "none", "accumulate": 1, "ema": False, "early_stop": 0, "crowds": "ignore", "threads": 0,
    "decoder": "detr", "no_conditional": False, "no_sampling": False, "no_focal": False, "layer_heads": "shared",
    "denoising": 5, "query_groups": 1, "query_boxes": "learned",
    "train_json": None, "val_json": None, "train_images": None, "val_images": None,
    "set_cost_focal": 2.0, "focal_loss_coef": 2.0, "focal_alpha": 0.25, "class_loss": "focal",
    "quality_loss_coef": 1.0,
}


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return parser.parse_args(arguments)


def test_names_and_defaults_are_frozen():
    """device alone has another default than the reference (cuda): auto."""
    assert len(REFERENCE) == 42
    assert config_of(parsed()).flat() == {**REFERENCE, **ADDED}


def test_each_option_reaches_its_setting():
    for name, (_, kind, field) in OPTIONS.items():
        if kind is bool:
            value, arguments = True, (f"--{name}",)
        else:
            values = field.metadata["choices"] or {int: [7], float: [0.25, 0.5], str: ["text"]}[kind]
            value = next(v for v in values if v != field.default)
            arguments = (f"--{name}", str(value))
        changed = {n: v for n, v in config_of(parsed(*arguments)).flat().items() if v != {**REFERENCE, **ADDED}[n]}
        assert changed == {name: value}, name


TRAIN = ("--coco_path P --output_dir output/detr_jittor --batch_size 4 --lr 0.25e-4 --lr_backbone 0.25e-5 --epochs 300 "
         "--lr_drop 200")
EVALUATE = "--batch_size 2 --no_aux_loss --eval --resume output/path/to/checkpoint.{} --coco_path P"


def test_the_readmes_commands_are_understood():
    training = config_of(parsed(*TRAIN.split()))
    assert (training.optim.lr, training.optim.lr_backbone, training.optim.batch_size) == (0.25e-4, 0.25e-5, 4)
    check(training)
    for suffix in ("pkl", "pth"):
        evaluation = config_of(parsed(*EVALUATE.format(suffix).split()))
        assert evaluation.run.eval and evaluation.loss.no_aux_loss and evaluation.run.resume.endswith(suffix)
        check(evaluation)


def test_help_groups_every_option():
    parser = argparse.ArgumentParser(prog="x")
    add_config_arguments(parser)
    text = parser.format_help()
    titles = [f.type.__doc__ for f in dataclasses.fields(Config)]
    assert [line[:-1] for line in text.splitlines() if line[:-1] in titles] == titles
    assert all(f"--{name}" in text for name in OPTIONS)


def test_config_file_is_the_base_and_flags_override(tmp_path):
    config = Config().replace(lr=3e-4, backbone="resnet18", masks=True, num_classes=7)
    (tmp_path / "config.json").write_text(config.to_json())
    assert config_of(parsed("--config", str(tmp_path / "config.json"))) == config
    both = config_of(parsed("--config", str(tmp_path / "config.json"), "--lr", "1", "--eval"))
    assert both == config.replace(lr=1.0, eval=True)


@pytest.mark.parametrize("text, fault", [
    ("nonsense", "not valid JSON"), ("[]", "not a JSON object"), ('{"learning_rate": 1}', "unknown option"),
    ('{"lr": "x"}', "not of type float"), ('{"backbone": "vgg"}', "Choose from"),
    ('{"epochs": 1.5}', "not of type int"), ('{"eval": 1}', "not of type bool"),
    ('{"batch_size": true}', "not of type int"),
    ("[" * 100_000, "not valid JSON"), (f'{{"lr": {10**400}}}', "option lr is a number of 1329 bits"),
    (f'{{"epochs": {10**400}}}', "a number of 1329 bits"), ('{"seed": -99999999999999999999}', "a number of 67 bits"),
    ('{"output_dir": "a\\u0000b"}', "no text in Unicode"), ('{"coco_path": "\\ud800"}', "no text in Unicode")])
def test_config_files_that_are_none(tmp_path, text, fault):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DetrError, match=fault) as error:
        config_of(parsed("--config", str(tmp_path / "c.json")))
    assert "c.json" in str(error.value) and "\n" not in str(error.value)


def test_a_checkpoint_describes_its_own_model(tmp_path):
    """What a run was told need not be told again, except what belongs to one run; flags override."""
    trained = Config().replace(backbone="resnet18", num_queries=20, lr=3e-4, epochs=7, min_size=320, max_size=480,
                               backbone_norm="batch", num_classes=4, coco_path="P", output_dir="old", max_steps=9,
                               framework="pytorch", resume="older.pkl", num_workers=0)
    file = str(tmp_path / "a.pkl")
    store.save(file, Checkpoint(State({"w": np.zeros(1, np.float32)}, {}), config=trained))
    config, start = config_and_start(parsed("--resume", file, "--eval", "--batch_size", "4", "--epochs", "9"))
    assert (start.mode, start.file) == (RESUME, file)
    assert config == trained.replace(resume=file, eval=True, batch_size=4, epochs=9, output_dir="", framework="jittor",
                                     max_steps=None, num_workers=2)
    store.save(file, Checkpoint(State({"w": np.zeros(1, np.float32)}, {}), config=trained.replace(train_json="a.json")))
    assert config_and_start(parsed("--resume", file))[0].data.train_json == "a.json"
    assert config_and_start(parsed("--resume", file, "--data", "other"))[0].data.train_json is None
    (tmp_path / "c.json").write_text("{}")
    assert config_and_start(parsed("--resume", file, "--config", str(tmp_path / "c.json")))[0] == \
        Config().replace(resume=file)


def test_a_detector_describes_the_model_below_a_mask_head(tmp_path):
    """Its model and how pictures reach it, and nothing else of its run."""
    trained = Config().replace(backbone="resnet18", hidden_dim=128, num_classes=4, min_size=320, max_size=480, lr=3e-4,
                               coco_path="P", epochs=7, augmentation="flip")
    file = str(tmp_path / "a.pkl")
    store.save(file, Checkpoint(State({"x": np.zeros(1, np.float32)}, {}), config=trained))
    config, start = config_and_start(parsed("--frozen_weights", file, "--masks", "--max_size", "640"))
    assert (start.mode, start.file) == (FROZEN, file)
    assert config == Config().replace(backbone="resnet18", hidden_dim=128, num_classes=4, min_size=320, max_size=640,
                                      augmentation="flip", masks=True, frozen_weights=file)


SENSELESS = [
    ("--hidden_dim 100", "hidden_dim 100 is not divisible by --nheads 8"),
    ("--hidden_dim 6 --nheads 2", "not divisible by 4"),
    ("--hidden_dim 9 --nheads 3 --position_embedding learned", "not divisible by 2"),
    ("--nheads 0", "nheads 0 is less than 1"), ("--num_queries 0", "num_queries 0"), ("--dec_layers 0", "dec_layers 0"),
    ("--enc_layers -1", "enc_layers -1"), ("--dropout 1", "dropout 1.0"), ("--dropout nan", "no finite number"),
    ("--num_classes 0", "num_classes 0"), ("--dilation --backbone_stages 3", "--dilation goes with all four"),
    ("--masks --backbone_stages 3", "--masks needs all four"), ("--masks --hidden_dim 64", "divisible by 128"),
    ("--lr 0", "--lr 0.0 is not positive"), ("--lr=-1e-4", "not positive"), ("--lr nan", "no finite number"),
    ("--lr inf", "no finite number"), ("--lr 1e999", "--lr inf is no finite number"),
    (f"--epochs {10**400}", "option epochs is a number of 1329 bits"),
    ("--output_dir caf\udce9", r"'caf\udce9', which is no text in Unicode"),
    ("--lr_backbone -1", "negative"), ("--weight_decay -1", "negative"),
    ("--clip_max_norm -0.1", "negative"), ("--batch_size 0", "batch_size 0"), ("--epochs 0", "epochs 0"),
    ("--lr_drop 0", "lr_drop 0"), ("--max_steps 0", "max_steps 0"), ("--warmup_steps -1", "negative"),
    ("--min_size 500 --max_size 400", "min_size 500 is more than"), ("--min_size 0", "min_size 0"),
    ("--num_workers -1", "negative"), ("--threads -1", "negative"), ("--seed -1", "negative"),
    ("--eos_coef -1", "negative"),
    ("--set_cost_class 0 --set_cost_bbox 0 --set_cost_giou 0", "are all 0"), ("--giou_loss_coef -2", "negative"),
    ("--dataset_file coco_panoptic", "needs a --coco_panoptic_path"), ("--device tpu", "--device tpu is unknown"),
    ("--eval", "--eval has no weights"), ("--resume auto", "no folder to look in"),
    ("--save_every_steps 5", "no folder to write"), ("--save_every_steps -5", "negative"),
    ("--start_epoch 300", "start_epoch 300 is not in 0 … 299"), ("--start_epoch -1", "start_epoch -1"),
    ("--epochs 3 --start_epoch 3", "not in 0 … 2"), ("--frozen_weights x.pth", "needs --masks"),
    ("--track wandb,comet --output_dir x", "'comet', which is no tracker"), ("--track wandb", "without a folder"),
    ("--track= --output_dir x", "'', which is no tracker"),
    ("--world_size 0", "less than 1"), ("--max_bad_images -1", "negative"),
    ("--backbone vgg16", "invalid choice"), ("--batch_size two", "invalid int value"), ("--epochs 1.5", "invalid int"),
    ("--no_such_option", "unrecognized arguments"), ("--batch 4", "unrecognized arguments"),
    ("", "no dataset is given"),
    ("--resume /no/such.pkl", "no such file"), ("--config /no/such.json", "cannot be read"),
    ("--coco_path /no/such", "no such folder"), ("--coco_path /no/\x1bsuch", r"/no/\x1bsuch: no such folder"),
]


@pytest.mark.parametrize("options, fault", SENSELESS)
def test_senseless_options(options, fault, capsys):
    path = [] if "dataset is given" in fault or "--coco_path" in options else ["--coco_path", "P"]
    assert main(["train", *path, *options.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and fault in lines[0], lines


def test_defaults_make_sense():
    check(Config())
    check(Config().replace(enc_layers=0, clip_max_norm=0.0, lr_backbone=0.0, dropout=0.0, masks=True))


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("value", [2**40, 2**63 - 1])
def test_what_no_machine_can_serve(name, value):
    """One line that names the option, before anything is allocated."""
    with pytest.raises(DetrError, match=f"--{name} {value} is more than any machine serves. Give at most"):
        check(config_of(parsed(f"--{name}", str(value))))


@pytest.mark.parametrize("options, told", [
    ("--hidden_dim 32768 --dim_feedforward 1000000 --enc_layers 900", r"takes 1,.* GB of memory for its weights"),
    ("--hidden_dim 65536 --enc_layers 1000", "GB of memory for its weights")])
def test_a_model_larger_than_the_machine(options, told):
    with pytest.raises(DetrError, match=told):
        check(config_of(parsed(*options.split())))


def test_every_option_that_counts_is_bounded_or_allocates_nothing():
    """A new whole number must be thought about: epochs, steps, seeds and limits are only counted or compared."""
    counted = {"epochs", "lr_drop", "warmup_steps", "early_stop", "max_steps", "max_bad_images", "save_every_steps",
               "eval_every", "eval_train", "start_epoch", "seed", "world_size", "backbone_stages"}
    assert {name for name, (_, kind, _) in OPTIONS.items() if kind is int} == counted | LARGEST.keys()


@pytest.mark.parametrize("error", [
    MemoryError(), np.zeros, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nTried to allocate 8 EiB")])
def test_no_memory_is_one_line(capsys, monkeypatch, error):
    def fail(args):
        if error is np.zeros:
            np.zeros(2**59, np.uint8)
        raise error

    monkeypatch.setattr("detr_jittor.cli.doctor.run", fail)
    assert main(["doctor"]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is not enough memory (") and "Give a smaller --batch_size" in line


@pytest.mark.parametrize("values, told", [
    ({"framework": "Jittor"}, "option framework is 'Jittor'. Choose from jittor, pytorch"),
    ({"lr": "fast"}, "option lr is 'fast', not of type float"),
    ({"epochs": 1.5}, "option epochs is 1.5, not of type int"),
    ({"masks": 1}, "option masks is 1, not of type bool"),
    ({"output_dir": None}, "option output_dir is None, not of type str"),
])
def test_replace_refuses_impossible_values(values, told):
    with pytest.raises(DetrError, match=re.escape(told)):
        Config().replace(**values)
