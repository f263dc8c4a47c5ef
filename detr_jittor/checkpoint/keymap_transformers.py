"""The weights of a detector under the names that the transformers library gives them in its files, and back.

Their attention has three matrices where ours (as the reference code and PyTorch) has one, [3D, D].
"""

import re

import numpy as np

from detr_jittor.errors import DetrError

BACKBONE = "model.backbone.conv_encoder.model"
ATTENTION = {"self_attn": "self_attn", "multihead_attn": "encoder_attn"}  # ours: theirs
NORMS = {
    "encoder": {"norm1": "self_attn_layer_norm", "norm2": "final_layer_norm"},
    "decoder": {"norm1": "self_attn_layer_norm", "norm2": "encoder_attn_layer_norm", "norm3": "final_layer_norm"},
}


def modules() -> dict[str, str]:
    """{our module: theirs}, with {i} for the number of a layer or block."""
    names = {
        "query_embed": "model.query_position_embeddings", "input_proj": "model.input_projection",
        "class_embed": "class_labels_classifier", "bbox_embed.layers.{i}": "bbox_predictor.layers.{i}",
        "transformer.decoder.norm": "model.decoder.layernorm",
        "backbone.1.row_embed": "model.position_embedding.row_embeddings",
        "backbone.1.col_embed": "model.position_embedding.column_embeddings",
        "backbone.0.body.conv1": f"{BACKBONE}.embedder.embedder.convolution",
        "backbone.0.body.bn1": f"{BACKBONE}.embedder.embedder.normalization",
    }
    for part, norms in NORMS.items():
        ours, theirs = f"transformer.{part}.layers.{{i}}", f"model.{part}.layers.{{i}}"
        names |= {f"{ours}.{a}": f"{theirs}.{b}" for a, b in norms.items()}
        names |= {f"{ours}.linear{n}": f"{theirs}.fc{n}" for n in (1, 2)}
        names |= {f"{ours}.{a}.out_proj": f"{theirs}.{b}.out_proj" for a, b in ATTENTION.items()}
        names |= {f"{ours}.{a}.{x}_proj": f"{theirs}.{b}.{x}_proj" for a, b in ATTENTION.items() for x in "qkv"}
    for stage in range(4):
        ours, theirs = f"backbone.0.body.layer{stage + 1}.{{i}}", f"{BACKBONE}.encoder.stages.{stage}.layers.{{i}}"
        for n in range(3):
            names[f"{ours}.conv{n + 1}"] = f"{theirs}.layer.{n}.convolution"
            names[f"{ours}.bn{n + 1}"] = f"{theirs}.layer.{n}.normalization"
        names[f"{ours}.downsample.0"] = f"{theirs}.shortcut.convolution"
        names[f"{ours}.downsample.1"] = f"{theirs}.shortcut.normalization"
    return names


def patterns(names: dict[str, str]) -> list[tuple[re.Pattern, str]]:
    """(pattern of a module's name, its replacement)"""
    return [(re.compile(re.escape(a).replace(r"\{i\}", r"(\d+)")), b.replace("{i}", r"\1")) for a, b in names.items()]


TO_THEIRS = patterns(modules())
TO_OURS = patterns({theirs: ours for ours, theirs in modules().items()})
OTHER_NAMES = (  # theirs by other releases, and what this file calls them
    (re.compile(r"^model\.backbone\.(conv_encoder\.)?model\."), f"{BACKBONE}."),
    (re.compile(r"^model\.backbone\.position_embedding\."), "model.position_embedding."),
    (re.compile(r"_attn\.o_proj\."), "_attn.out_proj."),
    (re.compile(r"\.mlp\.fc"), ".fc"),
    (re.compile(r"^bbox_attention\.([qk])_proj\."), r"bbox_attention.\1_linear."),
    (re.compile(r"^mask_head\.conv([12])\.conv\."), r"mask_head.lay\1."),
    (re.compile(r"^mask_head\.conv([12])\.norm\."), r"mask_head.gn\1."),
    (re.compile(r"^mask_head\.output_conv\."), "mask_head.out_lay."),
    *((re.compile(rf"^mask_head\.fpn_stages\.{i}\.{theirs}\."), f"mask_head.{ours}{number}.")
      for i in range(3) for theirs, ours, number in (
          ("fpn_adapter", "adapter", i + 1), (r"refine\.conv", "lay", i + 3), (r"refine\.norm", "gn", i + 3))),
)
OF_MASKS = ("bbox_attention.", "mask_head.")  # named alike; the detector below them is under `detr.` in both
# Their files with a backbone of timm have torchvision's names, as ours.
TORCHVISION = re.compile(re.escape(BACKBONE) + r"\.((conv1|bn1|layer\d)\..*)")


def are_theirs(model: dict[str, np.ndarray]) -> bool:
    """Whether weights bear the transformers library's names."""
    return any(name.removeprefix("detr.").startswith("model.") for name in model)


def to_transformers(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights by the reference code's keys → by the keys of DetrForObjectDetection's files, or with a mask head of
    DetrForSegmentation's.

    Errors: DetrError for weights that their model has no place for (pre-norm).
    """
    theirs = {}
    for name, value in model.items():
        if fused := re.fullmatch(r"(.*)\.in_proj_(weight|bias)", name):
            parts = {f"{fused[1]}.{x}_proj.{fused[2]}": part for x, part in zip("qkv", np.split(value, 3))}
        else:
            parts = {name: value}
        theirs |= {renamed(n, TO_THEIRS): part for n, part in parts.items()}
    return theirs


def from_transformers(theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights by the keys of DetrForObjectDetection's or DetrForSegmentation's files, of any release → by the
    reference code's keys.

    Errors: DetrError for an unknown key or an attention without one of its three matrices.
    """
    ours: dict[str, np.ndarray] = {}
    for name, value in theirs.items():
        if name.endswith("num_batches_tracked"):
            continue
        prefix = "detr." if name.startswith("detr.") else ""
        name = name.removeprefix(prefix)
        for pattern, usual in OTHER_NAMES:
            name = pattern.sub(usual, name)
        plain = TORCHVISION.fullmatch(name)
        ours[prefix + (f"backbone.0.body.{plain[1]}" if plain else renamed(name, TO_OURS))] = value
    return fused_attention(ours)


def fused_attention(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights whose attention has three matrices [D, D] → with one, [3D, D].

    Errors: DetrError for an attention without one of the three.
    """
    for name in [n for n in model if ".q_proj." in n]:
        separate = [name.replace(".q_proj.", f".{x}_proj.") for x in "qkv"]
        if missing := [n for n in separate if n not in model]:
            raise DetrError(f"the weights have {name} but not {missing[0]}.", "Take a complete file.")
        model[name.replace(".q_proj.", ".in_proj_")] = np.concatenate([model.pop(n) for n in separate])
    return model


def renamed(name: str, table: list[tuple[re.Pattern, str]]) -> str:
    if name.startswith(OF_MASKS):
        return name
    prefix = "detr." if name.startswith("detr.") else ""
    module, _, kind = name.removeprefix(prefix).rpartition(".")
    for pattern, replacement in table:
        if found := pattern.fullmatch(module):
            return f"{prefix}{found.expand(replacement)}.{kind}"
    raise DetrError(f"{name}: the other model has no such weight.", "Post-norm detectors can be converted.")
