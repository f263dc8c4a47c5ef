"""Stage 4: every module's output, in evaluation mode, in the order in which they are computed."""

import numpy as np

from detr_jittor.align.measure import Item, compare, error_of, root_mean_square
from detr_jittor.align.stage import Stage
from detr_jittor.align.tolerances import tolerance
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial
from detr_jittor.reference import layers, sampling
from detr_jittor.twin.recorder import some_queries


def run(trial: Trial) -> Stage:
    jittor = trial.once("modules", JITTOR, "modules", trial.batch)
    pytorch, truth = (trial.once("modules", name, "modules", trial.batch) for name in (PYTORCH, FLOAT64))
    items = [compare(path, jittor[path], pytorch[path], truth[path]) if path in jittor
             else Item(path, False, note="the Jittor twin has no such output") for path in truth]
    items += [Item(path, False, note="the PyTorch twin has no such output") for path in jittor if path not in truth]
    items += undisturbed(trial, jittor) + oracle_items(trial, truth)
    return Stage("forward", items, ["errors are relative to the root mean square of the float64 output"])


def undisturbed(trial: Trial, captured: dict[str, np.ndarray]) -> list[Item]:
    """Being watched must not change what the model says."""
    outputs = trial.ask(JITTOR, "predict", trial.batch)
    items = []
    pairs = {"logits": (outputs.logits, captured["logits"][-1]), "boxes": (outputs.boxes, captured["boxes"][-1])}
    if outputs.masks is not None:
        masks = outputs.masks.reshape(-1, *outputs.masks.shape[2:])  # [B·Q, H / 4, W / 4]
        pairs["masks"] = masks[some_queries(len(masks))], captured["masks"]
    for name, (plain, recorded) in pairs.items():
        error = error_of(plain, recorded.astype(np.float64), root_mean_square(recorded)).worst
        items.append(Item(f"{name} without recording", bool(error <= tolerance("recording")), plain.shape,
                          note=f"largest difference {error:.1e}"))
    return items


def oracle_items(trial: Trial, truth: dict[str, np.ndarray]) -> list[Item]:
    """The truth itself against the NumPy oracle, where the maths is short: twins of one hand could share an error."""
    items, mask = [], truth["backbone.mask"]  # [B, h, w]
    if trial.config.model.position_embedding == "sine":
        positions = layers.sine_position(mask, trial.config.model.hidden_dim // 2)
        items.append(oracle_item("sine positions", truth["backbone.1"], positions))
    for path, hidden in (("transformer.encoder.layers.0.self_attn", mask.reshape(len(mask), -1)),
                         ("transformer.decoder.layers.0.multihead_attn", mask.reshape(len(mask), -1)),
                         ("transformer.decoder.layers.0.self_attn", None)):
        if f"{path}.q" in truth:
            value = "v" if f"{path}.v" in truth else "value"  # a layer of its own in the box decoder
            # [B, heads, S, D / heads] each
            q, k, v = (heads(truth[f"{path}.{x}"], trial.config.model.nheads) for x in ("q", "k", value))
            hidden = None if hidden is None else np.repeat(hidden[:, None], q.shape[1], axis=1)  # [B, heads, S]
            wanted = layers.attention(q, k, v, hidden).swapaxes(1, 2)  # [B, S, heads, D / heads]
            items.append(oracle_item(path, truth[f"{path}.heads"], wanted.reshape(truth[f"{path}.heads"].shape)))
    path = "transformer.decoder.layers.1.multihead_attn"
    if f"{path}.samples" in truth:
        content, place, boxes, extent = (truth[f"{path}.{x}"] for x in ("content", "place", "boxes", "extent"))
        maps = [value for name, value in truth.items() if name.startswith(f"{path}.maps[")]
        wanted, _ = sampling.sampled_attention(content, place, maps, boxes, extent)
        items.append(oracle_item(f"{path}.samples", truth[f"{path}.samples"], wanted))
    return items


def heads(x: np.ndarray, count: int) -> np.ndarray:
    """[B, S, D] → [B, heads, S, D / heads]"""
    return x.reshape(*x.shape[:2], count, -1).swapaxes(1, 2)


def oracle_item(name: str, found: np.ndarray, wanted: np.ndarray) -> Item:
    error = error_of(found, wanted, root_mean_square(wanted)).worst
    return Item(f"float64 against the oracle: {name}", bool(error <= tolerance("oracle")), found.shape,
                note=f"largest difference {error:.1e}")
