"""Where the model looks: what both twins say of it against the transformers library, and how it is drawn."""

import os

import numpy as np
import pytest
from PIL import Image, ImageColor
from safetensors.numpy import save_file
from small import NUM_CLASSES, SMALL, WITH_MASKS, small_batch, small_state
from test_third_witness import their_config

from detr_jittor.checkpoint.keymap_transformers import to_transformers
from detr_jittor.config.options import Config
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.reference import layers
from detr_jittor.report import attention
from detr_jittor.report.pictures import COLOURS
from detr_jittor.twin.attention import attention_of
from detr_jittor.twin.synthetic import random_batch
from detr_jittor.types import Detections, Look

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # isort: skip  (after jittor)
from transformers import DetrForObjectDetection  # isort: skip

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip


@pytest.fixture(scope="module")
def pair():
    twins = [cls(SMALL, NUM_CLASSES) for cls in (JittorTwin, PyTorchTwin)]
    state = small_state(twins[1])
    for twin in twins:
        twin.load(state)
    return twins


def test_it_is_where_transformers_looks(pair, tmp_path):
    """Of the last layers, the mean of the heads; none in the padding."""
    batch, theirs = random_batch([(64, 60), (32, 96)], NUM_CLASSES, 3), their_config(SMALL)  # both are padded
    theirs.save_pretrained(tmp_path)
    save_file(to_transformers(pair[1].state().model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    witness = DetrForObjectDetection.from_pretrained(tmp_path, attn_implementation="eager").eval()
    with torch.no_grad():
        said = witness(torch.tensor(batch.images), torch.tensor(~batch.mask), output_attentions=True)
    decoder, encoder = (x[-1].numpy().mean(axis=1) for x in (said.cross_attentions, said.encoder_attentions))
    for twin in pair:
        outputs, found = twin.attend(batch)
        plain = twin.predict(batch)
        assert np.abs(outputs.logits - plain.logits).max() < 1e-5 and np.abs(outputs.boxes - plain.boxes).max() < 1e-6
        assert found.stride == 32 and found.decoder.shape == (2, 20, 2, 3) and found.encoder.shape == (2, 2, 3, 2, 3)
        assert np.abs(found.decoder.reshape(decoder.shape) - decoder).max() < 2e-6
        assert np.abs(found.encoder.reshape(encoder.shape) - encoder).max() < 2e-6
        assert np.abs(found.decoder.sum(axis=(2, 3)) - 1).max() < 1e-5
        hidden = batch.mask[:, ::32, ::32]
        assert hidden.any() and not found.decoder[np.broadcast_to(hidden[:, None], found.decoder.shape)].any()
    assert np.ptp(decoder) > 0.02 and np.ptp(encoder) > 0.01  # it looks somewhere


@pytest.mark.parametrize("config, stride, places", [
    (WITH_MASKS, 32, (2, 3)), (SMALL.replace(dilation=True, enc_layers=0), 16, (4, 6))],
    ids=["masks", "DC5 without encoder"])
def test_models_of_other_kinds(config, stride, places):
    seen = []
    for cls in (JittorTwin, PyTorchTwin):
        twin = cls(config, NUM_CLASSES)
        twin.load(small_state(twin))
        _, found = twin.attend(small_batch(3))
        assert found.stride == stride and found.decoder.shape == (2, 20, *places)
        assert (found.encoder is None) == (config.model.enc_layers == 0)
        seen.append(found.decoder)
    assert np.abs(seen[0] - seen[1]).max() < 2e-6


def test_the_weights_are_the_oracles():
    """Those of the last encoder layer and of the last decoder layer, the mean of the heads."""
    random, config = np.random.default_rng(0), Config().replace(enc_layers=2, dec_layers=2, nheads=4).model
    b, q, h, w, d = 2, 5, 2, 3, 16
    lengths = [(h * w, h * w)] * 2 + [(q, q), (q, h * w)] * 2  # queries and keys of each layer
    calls = [tuple(random.standard_normal((b, n, d)) for n in pair) for pair in lengths]
    padding = np.zeros((b, h, w), bool)
    padding[1, :, 2] = True
    found = attention_of(calls, padding, config)
    hidden = np.repeat(padding.reshape(b, 1, h * w), 4, axis=1)  # [B, heads, S]
    every_place = np.broadcast_to(np.eye(h * w), (b, 4, h * w, h * w))  # values that give back the weights
    for weights, call in ((found.encoder, calls[1]), (found.decoder, calls[5])):
        parts = (x.reshape(b, -1, 4, d // 4).swapaxes(1, 2) for x in call)  # [B, heads, L, D / heads]
        wanted = layers.attention(*parts, every_place, hidden).mean(axis=1)  # [B, Lq, S]
        assert np.abs(weights.reshape(wanted.shape) - wanted).max() < 1e-6 and wanted.std() > 0.02
    assert found.decoder.shape == (b, q, h, w) and not found.decoder[1, :, :, 2].any() and found.stride == 32
    without = attention_of(calls[2:], padding, Config().replace(enc_layers=0, dilation=True, nheads=4).model)
    assert without.encoder is None and without.stride == 16 and np.array_equal(without.decoder, found.decoder)


def look_of(maps: np.ndarray, extent: tuple[float, float], boxes=()) -> Look:
    count = len(maps)
    boxes = np.array(boxes, np.float32).reshape(-1, 4) if len(boxes) else np.tile(np.float32([2, 2, 9, 9]), (count, 1))
    found = Detections(0, np.full(count, 0.9, np.float32), np.full(count, 3), boxes)
    places = np.zeros((*maps.shape[1:], *maps.shape[1:]), np.float32)
    for y, x in np.ndindex(maps.shape[1:]):
        places[y, x, y, x] = 1  # every place looks at itself
    return Look(found, maps, places, extent)


def colour_in(panel: np.ndarray, colour: str) -> np.ndarray:
    """[H, W] how much of a colour there is, grey giving 0."""
    direction = np.float32(ImageColor.getrgb(colour))
    direction -= direction.mean()
    return (panel - panel.mean(axis=2, keepdims=True)) @ direction / (direction @ direction)


def test_the_map_lies_where_it_belongs_on_the_picture():
    """The last places lie partly beside the picture: 3 × 4 places of 32 pixels cover 80 × 120."""
    maps = np.zeros((1, 3, 4), np.float32)
    maps[0, 1, 3] = 0.2  # rows 32 … 63, columns 96 … 119 of 120
    share = attention.share(maps[0], (80 / 32, 120 / 32), (480, 320))
    assert share.max() > 0.95 and share.min() == 0
    y, x = np.unravel_index(share.argmax(), share.shape)
    assert 32 <= y / 4 < 64 and 96 <= x / 4 < 120


def test_objects_have_a_panel_each_and_one_together():
    maps = np.zeros((2, 4, 6), np.float32)
    maps[0, 0, 0], maps[1, 3, 5] = 1, 0.01  # each is shown relative to its own largest value
    boxes = [[0, 0, 90, 60], [400, 260, 479, 319]]
    drawn = attention.draw_objects(Image.new("RGB", (480, 320), "white"), look_of(maps, (4, 6), boxes), {3: "cat"})
    assert drawn.size == (3 * 480 + 2 * attention.GAP, 320)
    panels = [np.asarray(drawn, np.float32)[:, k * 486:k * 486 + 480] for k in range(3)]
    for panel, expected in zip(panels, ((True, True), (True, False), (False, True))):
        first = colour_in(panel, COLOURS[0])[10:40, 10:40].mean() > 0.3
        second = colour_in(panel, COLOURS[1])[290:310, 420:460].mean() > 0.3
        assert (first, second) == expected


def test_every_point_shows_where_its_own_place_looks():
    points = [(20, 20), (300, 110)]
    drawn = attention.draw_points(Image.new("RGB", (320, 160), "gray"), look_of(np.zeros((1, 5, 10)), (5, 10)), points)
    panels = [np.asarray(drawn, np.float32)[:, k * 486:k * 486 + 480] for k in range(3)]
    for panel, (x, y), colour in zip(panels[1:], points, COLOURS):
        row, column = np.unravel_index(colour_in(panel, colour).argmax(), panel.shape[:2])
        assert abs(row / 1.5 - y) < 32 and abs(column / 1.5 - x) < 32
    assert np.asarray(drawn).shape == (240, 3 * 480 + 2 * attention.GAP, 3)


def test_a_sheet_has_rows():
    drawn = attention.sheet([Image.new("RGB", (40, 30), "red")] * 6)
    assert drawn.size == (4 * 46 - 6, 2 * 36 - 6)
