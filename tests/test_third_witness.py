"""The transformers library's own DETR, with our weights, says what both twins say.

It is someone else's code, so it catches what twins of the same hands would share. Nothing is downloaded: the model is
built from its settings, and its weights go through files in its own format.
"""

import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small import NUM_CLASSES, SMALL, small_batch, small_state

from detr_jittor.checkpoint.keymap_transformers import from_transformers, to_transformers
from detr_jittor.errors import DetrError
from detr_jittor.jt.twin import JittorTwin

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # isort: skip  (after jittor)
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig  # isort: skip

from detr_jittor.pt.twin import PyTorchTwin  # isort: skip

pytestmark = pytest.mark.slow

BLOCKS = {
    "resnet18": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
    "resnet50": {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
}


def their_config(config) -> DetrConfig:
    m = config.model
    return DetrConfig(
        use_timm_backbone=False, backbone_config=ResNetConfig(**BLOCKS[m.backbone], out_features=["stage4"]),
        encoder_layers=m.enc_layers, decoder_layers=m.dec_layers, d_model=m.hidden_dim, num_labels=NUM_CLASSES,
        encoder_ffn_dim=m.dim_feedforward, decoder_ffn_dim=m.dim_feedforward, encoder_attention_heads=m.nheads,
        decoder_attention_heads=m.nheads, num_queries=m.num_queries, position_embedding_type=m.position_embedding)


@pytest.mark.parametrize("options", [
    {"backbone": "resnet18"}, {"backbone": "resnet50"}, {"backbone": "resnet18", "position_embedding": "learned"}],
    ids=["R18", "R50", "R18 learned positions"])
def test_three_implementations_agree(options, tmp_path):
    """Logits and boxes within 1e-5, on a padded batch; the weights come back unchanged from their file.

    Measured: Jittor within 1.1e-6 (logits) and 6e-8 (boxes), PyTorch equal to the bit.
    """
    config, batch = SMALL.replace(**options), small_batch(3)
    pytorch, jittor = PyTorchTwin(config, NUM_CLASSES), JittorTwin(config, NUM_CLASSES)
    state = small_state(pytorch)
    theirs = their_config(config)
    theirs.save_pretrained(tmp_path)
    save_file(to_transformers(state.model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    witness, report = DetrForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    with torch.no_grad():
        outputs = witness.eval()(torch.tensor(batch.images), torch.tensor(~batch.mask))
    for twin in (jittor, pytorch):
        twin.load(state)
        found = twin.predict(batch)
        assert np.abs(found.logits - outputs.logits.numpy()).max() < 1e-5
        assert np.abs(found.boxes - outputs.pred_boxes.numpy()).max() < 1e-5
    assert np.ptp(outputs.logits.numpy()) > 1  # they say something

    witness.save_pretrained(tmp_path / "saved")
    returned = from_transformers(load_file(tmp_path / "saved" / "model.safetensors"))
    assert returned.keys() == state.model.keys()
    assert all(np.array_equal(returned[n], state.model[n]) for n in returned)


def test_the_key_map_is_one_to_one():
    state = small_state(PyTorchTwin(SMALL, NUM_CLASSES)).model
    theirs = to_transformers(state)
    assert len(theirs) == len(state) + 2 * sum("in_proj" in n for n in state)
    returned = from_transformers(theirs)
    assert all(np.array_equal(returned[n], state[n]) for n in state) and len(returned) == len(state)


def test_names_of_other_releases_are_understood():
    """timm's backbone has torchvision's names; the library's fifth major release renamed some modules."""
    x = np.zeros((3, 3), np.float32)
    other = {
        "model.backbone.conv_encoder.model.layer1.0.conv1.weight": "backbone.0.body.layer1.0.conv1.weight",
        "model.backbone.model.encoder.stages.2.layers.5.layer.1.convolution.weight":
            "backbone.0.body.layer3.5.conv2.weight",
        "model.backbone.conv_encoder.model.bn1.running_var": "backbone.0.body.bn1.running_var",
        "model.encoder.layers.3.self_attn.o_proj.weight": "transformer.encoder.layers.3.self_attn.out_proj.weight",
        "model.decoder.layers.5.mlp.fc2.bias": "transformer.decoder.layers.5.linear2.bias",
        "model.backbone.position_embedding.row_embeddings.weight": "backbone.1.row_embed.weight",
    }
    assert set(from_transformers(dict.fromkeys(other, x))) == set(other.values())
    assert from_transformers({"model.backbone.conv_encoder.model.bn1.num_batches_tracked": x}) == {}


def test_what_has_no_place_is_refused():
    x = np.zeros((3, 3), np.float32)
    with pytest.raises(DetrError, match=r"transformer\.encoder\.norm\.weight"):
        to_transformers({"transformer.encoder.norm.weight": x})
    with pytest.raises(DetrError, match="strange"):
        from_transformers({"model.strange.weight": x})
    with pytest.raises(DetrError, match=r"not .*k_proj\.weight"):
        from_transformers({"model.encoder.layers.0.self_attn.q_proj.weight": x})
