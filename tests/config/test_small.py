"""--preset small: settings by what a dataset holds."""

import json

import pytest

from detr_jittor.__main__ import main
from detr_jittor.config.check import check
from detr_jittor.config.options import Config
from detr_jittor.config.presets import PRESETS
from detr_jittor.config.small import FEW, Contents, advice, small
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.splits import open_split
from detr_jittor.engine.settings import preset

TWO_HUNDRED = Contents(pictures=200, most=30, shape=4 / 3, short=480, size=0.2)


def test_it_scales_with_what_the_set_holds():
    config = small(TWO_HUNDRED)
    check(config)
    assert (config.model.decoder, config.model.num_queries, config.model.denoising) == ("box", 60, 5)
    assert (config.data.min_size, config.data.max_size, config.optim.epochs, config.optim.lr_drop) == (160, 214, 47, 37)
    crowded, few, tiny = (small(Contents(*values)) for values in (
        (200, 400, 1.0, 480, 0.2), (10, 1, 1.0, 64, 0.9), (200, 30, 1.5, 2000, 0.01)))
    for other in (crowded, few, tiny):
        check(other)
    assert crowded.model.num_queries == 300 and few.optim.epochs == 1600 and tiny.data.min_size == 224
    assert few.data.min_size == 96 and few.model.num_queries == 10
    assert tiny.optim.epochs == 24  # larger pictures, fewer steps: about the same time


def test_the_advice_says_which_preset_fits_and_why():
    assert "--preset small fits: from 200 pictures" in advice(TWO_HUNDRED) and "47 epochs" in advice(TWO_HUNDRED)
    assert "up to 12 minutes on two cores" in advice(TWO_HUNDRED)
    many = Contents(FEW + 1, 30, 1.0, 480, 0.2)
    assert "no preset" in advice(many) and "--weights" in advice(many)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "data"
    write_demo_set(folder, train=6, val=2, size=64)
    return folder


def test_the_contents_of_a_dataset(dataset):
    contents = open_split(Config().replace(coco_path=str(dataset)).data, "train").contents()
    assert (contents.pictures, contents.shape, contents.short) == (6, 1.0, 64)
    assert 1 <= contents.most <= 4 and 0.2 < contents.size < 0.6


def test_check_tells_what_fits(dataset, capsys):
    assert main(["dataset", "check", "--coco_path", str(dataset)]) == 0
    assert "--preset small fits: from 6 pictures" in capsys.readouterr().out


@pytest.mark.parametrize("decoder", PRESETS)
@pytest.mark.parametrize("name", PRESETS["box"])
def test_fixed_presets(name, decoder):
    """All their settings, and nothing else."""
    settings = PRESETS[decoder][name]
    assert Config().replace(**preset(name, Config(), decoder)) == settings
    assert settings.model.decoder == decoder


def test_a_run_takes_the_preset_and_what_is_given_besides(dataset, tmp_path, capsys):
    command = ["train", "--coco_path", str(dataset), "--preset", "small", "--framework", "pytorch", "--max_steps", "2",
               "--hidden_dim", "64", "--output_dir", str(tmp_path / "run"), "--num_workers", "0", "--device", "cpu"]
    assert main(command) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["decoder"] == "box" and config["backbone"] == "resnet18" and config["hidden_dim"] == 64
    assert "--preset small fits" in capsys.readouterr().out
    assert main([*command, "--config", str(tmp_path / "run" / "config.json")]) == 2
    assert "--preset and --config are both given" in capsys.readouterr().err
