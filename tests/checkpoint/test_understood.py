"""How a file that does not say everything is understood, and that it is said: its model, its classes, its names."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from small import SMALL

from detr_jittor.checkpoint import official, store
from detr_jittor.checkpoint.architecture import settings_of, told
from detr_jittor.checkpoint.keymap_transformers import to_transformers
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import OFFICIAL, SERVER, weights_path
from detr_jittor.config.options import Config
from detr_jittor.engine.start import opened
from detr_jittor.errors import DetrError
from detr_jittor.pt.detr import DETR
from detr_jittor.types import Classes, State

CLASSES = 3
PAPER = SMALL.replace(hidden_dim=256, nheads=8, dim_feedforward=32, enc_layers=1, dec_layers=1)  # its width is known
NARROW = SMALL.replace(enc_layers=1, dec_layers=1)  # 64 wide: no shape tells the heads


def weights(config=PAPER, classes=CLASSES) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in DETR(config.model, classes).state_dict().items()}


def written(folder, model, beside=None, name="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model, folder / name)
    if beside is not None:
        (folder / "config.json").write_text(beside if isinstance(beside, str) else json.dumps(beside))
    return folder / name


@pytest.mark.parametrize("path, dilation", [
    ("dc5/detr.pth", False), ("my-dc5-runs/2024/checkpoint.safetensors", False), ("DC5/a.pth", False),
    ("detr-r50-dc5-f0fb7ef5.pth", True), ("runs/detr-r50-DC5.pth", True), ("dc5-runs/plain.pth", False)])
def test_dilation_is_guessed_from_the_files_own_name_and_said(path, dilation):
    checkpoint = Checkpoint(State(weights(), {}))
    assert settings_of(checkpoint, path).model.dilation is dilation
    sentence, = told(checkpoint, path)
    assert sentence.startswith(f"{path}: a resnet18 model with 8 attention heads")
    assert ('dilation, after the "dc5" in its name' in sentence) is dilation


def theirs(**others) -> dict:
    return {"model_type": "detr", "d_model": 256, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 20,
            "encoder_attention_heads": 4, "id2label": {"0": "hedgehog", "1": "cat", "2": "dog"}, **others}


def test_a_config_beside_goes_before_the_name(tmp_path):
    """The transformers library's: dilation, heads and class names."""
    file = written(tmp_path / "a", weights(), theirs(dilation=False), "detr-dc5.safetensors")
    found = store.load(file)
    assert not found.config.model.dilation and found.config.model.nheads == 4
    assert found.classes == Classes((0, 1, 2), ("hedgehog", "cat", "dog"), (0, 1, 2), 3)
    assert found.remarks == ["its settings and the names of its 3 classes are those of the config.json beside it"]
    assert told(found, str(file)) == []
    file = written(tmp_path / "b", to_transformers(weights(NARROW)), theirs(dilation=True, d_model=64))
    found = store.load(file)
    assert found.config.model.dilation and found.config.model.nheads == 4 and found.config.model.hidden_dim == 64


def test_our_config_beside(tmp_path):
    config = NARROW.replace(dilation=True, num_classes=CLASSES)
    found = store.load(written(tmp_path, weights(NARROW), config.to_json()))
    assert found.config == config and found.classes is None
    assert found.remarks == ["its settings are those of the config.json beside it"]


@pytest.mark.parametrize("beside, remark", [
    (theirs(d_model=128), "of another model (hidden_dim is 128, the weights have 256), and is not used"),
    (theirs(num_queries=100), "of another model (num_queries is 100, the weights have 20), and is not used"),
    (NARROW.to_json(), "of another model (dim_feedforward is 128, the weights have 32), and is not used"),
    ("{", "of no kind that is known, and is not used"), ("[" * 100_000, "of no kind that is known, and is not used"),
    ({"architectures": ["x"], "a": 1}, "of no kind that is known, and is not used")])
def test_a_config_of_something_else_is_not_used(tmp_path, beside, remark):
    found = store.load(written(tmp_path, weights(), beside))
    assert found.config is None and found.classes is None and found.remarks[0].endswith(remark)


@pytest.mark.parametrize("names", [
    {"0": "LABEL_0", "1": "LABEL_1"}, {"0": "N/A"}, {"7": "cat"}, {"x": "cat"}, {"0": 5}, {"0": "\ud83d"}, [], "cat"])
def test_names_that_name_nothing(tmp_path, names):
    assert store.load(written(tmp_path, weights(), theirs(id2label=names))).classes is None


def test_what_a_file_says_itself_stays(tmp_path):
    classes = Classes.of_categories([{"id": 1, "name": "owl"}])
    file = written(tmp_path, {}, theirs())
    store.save(file, Checkpoint(State(weights(), {}), config=PAPER, classes=classes))
    found = store.load(file)
    assert (found.config, found.classes, found.remarks) == (PAPER, classes, [])


@pytest.mark.parametrize("outputs, sentence", [(91, "guessed from 91 outputs"), (250, "guessed from 250 outputs"),
                                               (3, None)])
def test_cocos_names_are_said_to_be_guessed(outputs, sentence):
    checkpoint = Checkpoint(State(weights(classes=outputs), {}), config=PAPER)
    assert [s for s in told(checkpoint, "a.pth") if sentence and sentence in s] == told(checkpoint, "a.pth")
    assert len(told(checkpoint, "a.pth")) == (sentence is not None)
    assert told(checkpoint, f"x/{OFFICIAL['detr-r50'].file}") == []


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model.", "net.module."])
def test_prefixes_of_wrappers_are_left_out_and_said(tmp_path, prefix):
    model = weights()
    file = written(tmp_path, {prefix + name: value for name, value in model.items()})
    found = store.load(file)
    assert found.state.model.keys() == model.keys()
    assert found.remarks == [f"the names of its weights begin with {prefix!r}, which is left out"]


def test_a_wrapper_around_the_transformers_library(tmp_path):
    """Lightning puts `model.` before names of which most begin so themselves."""
    model = weights()
    wrapped = {"model." + name: value for name, value in to_transformers(model).items()}
    found = store.load(written(tmp_path, {**wrapped, "criterion.empty_weight": np.ones(4, np.float32)}))
    assert found.state.model.keys() == model.keys()
    assert found.remarks[1] == "1 arrays that do not begin so are left out (criterion.empty_weight)"
    assert store.load(written(tmp_path, to_transformers(model))).remarks == []


def test_a_strange_model_keeps_its_names(tmp_path):
    strange = {f"module.block{n}.weight": np.zeros(2, np.float32) for n in range(9)}
    found = store.load(written(tmp_path, strange))
    assert found.state.model.keys() == strange.keys() and found.remarks == []


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "model_state", "net"])
def test_where_files_keep_their_weights(tmp_path, capsys, key):
    model = weights()
    content = {key: {"module." + n: torch.from_numpy(v) for n, v in model.items()}, "epoch": 3}
    torch.save(content, tmp_path / "a.pth")
    file, found = opened(str(tmp_path / "a.pth"))
    assert found.state.model.keys() == model.keys()
    out = capsys.readouterr().out
    assert f"{file}: the names of its weights begin with 'module.', which is left out." in out
    assert (f"{file}: its weights are those under {key!r}." in out) == (key not in ("model", "state_dict"))


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The addresses that are asked for; nothing is fetched."""
    asked: list[str] = []
    monkeypatch.setattr(official, "fetch", lambda url: asked.append(url))
    monkeypatch.delenv(official.INSTEAD, raising=False)
    return asked


@pytest.mark.parametrize("wanted", ["detr-r50", SERVER + OFFICIAL["detr-r50"].file,
                                    "http" + SERVER.removeprefix("https") + OFFICIAL["detr-r50"].file])
def test_published_names_and_addresses(fetched, wanted):
    weights_path(wanted)
    assert fetched == [SERVER + OFFICIAL["detr-r50"].file]


@pytest.mark.parametrize("wanted", ["https://example.org/detr.pth", SERVER + "other.pth", "s3://bucket/a.pth"])
def test_other_addresses(fetched, wanted):
    with pytest.raises(DetrError, match="only the published models are fetched from their addresses"):
        weights_path(wanted)
    assert fetched == []


def test_folders(tmp_path):
    file = written(tmp_path / "theirs", weights(), theirs())
    assert weights_path(str(file.parent)) == file
    (tmp_path / "run").mkdir()
    with pytest.raises(DetrError, match="run: is a folder that holds no weights"):
        weights_path(str(tmp_path / "run"))
    for name in ("checkpoint.pkl", "best.pkl"):
        (tmp_path / "run" / name).touch()
    with pytest.raises(DetrError, match=r"run: is a folder that holds best\.pkl, checkpoint"):
        weights_path(str(tmp_path / "run"))


def test_resume_takes_what_weights_takes(tmp_path):
    from detr_jittor.engine.start import find_start

    file = written(tmp_path, weights(), theirs())
    for option in ("resume", "weights"):
        assert find_start(Config().replace(**{option: str(tmp_path)})).file == str(file)
