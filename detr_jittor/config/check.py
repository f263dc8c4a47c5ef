"""Combinations of settings that make no sense, all in one place."""

import math
import os

from detr_jittor.config.options import TRACKERS, Config, ModelConfig
from detr_jittor.errors import DetrError

LARGEST = {  # by which something is allocated, a thread started or a picture scaled → the most that is taken
    "num_queries": 100_000, "hidden_dim": 65_536, "nheads": 65_536, "dim_feedforward": 1_000_000, "enc_layers": 1_000,
    "dec_layers": 1_000, "num_classes": 1_000_000, "batch_size": 100_000, "accumulate": 100_000, "num_workers": 1_000,
    "min_size": 100_000, "max_size": 100_000, "denoising": 1_000, "query_groups": 1_000, "threads": 1_000}


def check(config: Config) -> None:
    """Errors: DetrError for the first rule that the settings break; it names the options as the user writes them."""
    values = config.flat()
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise DetrError(f"--{name} {value} is no finite number.", "Give a number.")
    for rules in (size_rules, model_rules, training_rules, run_rules):
        for broken, what, fix in rules(config):
            if broken:
                raise DetrError(what, fix)


def check_sizes(config: Config) -> None:
    """Errors: DetrError for a model or pictures that no machine has the memory for, as a hostile file can describe."""
    for broken, what, fix in size_rules(config):
        if broken:
            raise DetrError(what, fix)


def size_rules(config: Config):
    """(broken, what, fix) of numbers that something is allocated by, as large as no machine serves"""
    values = config.flat()
    for name, most in LARGEST.items():
        yield (values[name] is not None and values[name] > most, f"--{name} {values[name]} is more than any machine "
               "serves.", f"Give at most {most:,}.")
    needed, there = memory_of_weights(config), physical_memory()
    yield (there and needed > there, f"the model that these options describe takes {needed / 1e9:,.0f} GB of memory "
           f"for its weights, gradients and moments alone, and this machine has {there / 1e9:,.0f} GB.",
           "Give smaller --hidden_dim, --dim_feedforward, --enc_layers, --dec_layers or --num_queries.")


def memory_of_weights(config: Config) -> int:
    """Bytes that the transformer's and the heads' weights take in training, roughly: four float32 of each."""
    m = config.model
    attention, forward = 4 * m.hidden_dim ** 2, 2 * m.hidden_dim * m.dim_feedforward
    layers = m.enc_layers * (attention + forward) + m.dec_layers * (2 * attention + forward)
    return 16 * (layers + m.hidden_dim * (m.query_groups * m.num_queries + (m.num_classes or 0)))


def physical_memory() -> int:
    """Bytes of this machine's memory; 0 where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def model_rules(config: Config):
    """(broken, what, fix) of the model's options"""
    m = config.model
    for name in ("dec_layers", "dim_feedforward", "hidden_dim", "nheads", "num_queries"):
        yield getattr(m, name) < 1, f"--{name} {getattr(m, name)} is less than 1.", "Give a positive number."
    yield m.enc_layers < 0, f"--enc_layers {m.enc_layers} is less than 0.", "Give 0 for no encoder, or more."
    yield (m.num_classes is not None and m.num_classes < 1, f"--num_classes {m.num_classes} is less than 1.",
           "Give the largest label + 1.")
    yield not 0 <= m.dropout < 1, f"--dropout {m.dropout} is not in 0 … 1.", "Give a share below 1, such as 0.1."
    yield (m.hidden_dim % m.nheads, f"--hidden_dim {m.hidden_dim} is not divisible by --nheads {m.nheads}.",
           "Each head takes an equal part.")
    parts = 4 if m.position_embedding == "sine" else 2
    yield (m.hidden_dim % parts, f"--hidden_dim {m.hidden_dim} is not divisible by {parts}, as "
           f"--position_embedding {m.position_embedding} needs.", "Half of it encodes each axis.")
    yield (m.position_embedding == "learned" and config.data.max_size > 50 * m.stride,
           f"--position_embedding learned has vectors for 50 rows and columns of {m.stride} pixels, but --max_size is "
           f"{config.data.max_size}.", f"Give a --max_size of at most {50 * m.stride}.")
    yield (m.dilation and m.backbone_stages < 4, "--dilation goes with all four stages of the backbone.",
           "Leave out --dilation or --backbone_stages 3: both give features of stride 16.")
    yield (m.masks and m.backbone_stages < 4, "--masks needs all four stages of the backbone.",
           "Leave out --backbone_stages 3.")
    yield (m.masks and (m.hidden_dim % 128 or m.nheads % 8), f"--masks needs a --hidden_dim divisible by 128 and "
           f"--nheads by 8, for the group norms of the mask head, not {m.hidden_dim} and {m.nheads}.",
           "The paper has 256 and 8.")
    yield from box_rules(m)
    yield m.masks and config.run.precision == "bf16", "--masks and --precision bf16 do not go together.", \
        "Leave out --precision."


def box_rules(m: ModelConfig):
    """(broken, what, fix) of the box decoder"""
    box = m.decoder == "box"
    for name in ("no_conditional", "no_sampling", "no_focal"):
        yield (getattr(m, name) and not box, f"--{name} leaves out a part of the box decoder.",
               "Leave it out, or add --decoder box.")
    yield m.query_groups < 1, f"--query_groups {m.query_groups} is less than 1.", "Give 1 for no others, or more."
    yield m.denoising < 0, f"--denoising {m.denoising} is negative.", "Give 0 for none, or more."
    yield (m.two_stage and m.no_focal, "--query_boxes proposals ranks places by classes that have a probability each, "
           "which --no_focal leaves out.", "Give --query_boxes learned, or leave out --no_focal.")
    yield (box and m.masks, "--masks does not go with --decoder box: the mask head reads where queries look on the "
           "whole picture.", "Leave one out.")
    yield (box and m.position_embedding == "learned", "--decoder box looks between the places for which "
           "--position_embedding learned has vectors.", "Leave out --position_embedding.")
    yield (box and m.hidden_dim % 32, f"--hidden_dim {m.hidden_dim} is not divisible by 32, as the group norms of "
           "--decoder box need.", "Give a multiple of 32.")


def training_rules(config: Config):
    """(broken, what, fix) of the options of losses, optimizer and data"""
    o, d, loss = config.optim, config.data, config.loss
    yield not o.lr > 0, f"--lr {o.lr} is not positive.", "Nothing would be learned."
    for name, value in (("lr_backbone", o.lr_backbone), ("weight_decay", o.weight_decay),
                        ("clip_max_norm", o.clip_max_norm), ("warmup_steps", o.warmup_steps),
                        ("early_stop", o.early_stop), ("num_workers", d.num_workers),
                        ("max_bad_images", d.max_bad_images),
                        ("save_every_steps", config.run.save_every_steps), ("eval_train", config.run.eval_train),
                        ("seed", config.run.seed), ("threads", config.run.threads),
                        *((f, getattr(loss, f)) for f in vars(loss) if f not in ("no_aux_loss", "class_loss"))):
        yield value < 0, f"--{name} {value} is negative.", "Give 0 or more."
    for name, value in (("batch_size", o.batch_size), ("epochs", o.epochs), ("lr_drop", o.lr_drop),
                        ("max_steps", o.max_steps), ("accumulate", o.accumulate), ("eval_every", config.run.eval_every),
                        ("min_size", d.min_size), ("max_size", d.max_size)):
        yield value is not None and value < 1, f"--{name} {value} is less than 1.", "Give a positive number."
    yield (d.min_size > d.max_size, f"--min_size {d.min_size} is more than --max_size {d.max_size}.",
           "The short side cannot be longer than the long one.")
    yield loss.focal_alpha > 1, f"--focal_alpha {loss.focal_alpha} is more than 1.", "Give a share, such as 0.25."
    yield (not (loss.set_cost_class or loss.set_cost_bbox or loss.set_cost_giou),
           "--set_cost_class, --set_cost_bbox and --set_cost_giou are all 0.", "The matching needs one of them.")
    yield (d.dataset_file == "coco_panoptic" and not d.coco_panoptic_path,
           "--dataset_file coco_panoptic needs a --coco_panoptic_path.", "Pass the folder of the panoptic pictures.")
    yield (d.dataset_file == "coco_panoptic" and d.crowds != "ignore",
           "--crowds goes with --dataset_file coco only: panoptic crowds are objects already.", "Leave it out.")
    yield (d.dataset_file == "coco_panoptic" and config.run.eval_train > 0,
           "--eval_train goes with --dataset_file coco only.", "Leave it out.")


def run_rules(config: Config):
    """(broken, what, fix) of the options of the run"""
    r = config.run
    kind = r.device.split(":")[0]
    yield kind not in ("auto", "cpu", "cuda"), f"--device {r.device} is unknown.", "Give auto, cpu or cuda."
    yield (r.eval and not (r.resume or r.weights), "--eval has no weights to evaluate.", "Pass --resume CHECKPOINT.")
    yield (r.resume == "auto" and not r.output_dir, "--resume auto has no folder to look in.", "Pass --output_dir.")
    yield (r.save_every_steps > 0 and not r.output_dir, "--save_every_steps has no folder to write to.",
           "Pass --output_dir.")
    strangers = sorted(set(r.trackers) - set(TRACKERS))
    yield (bool(strangers), f"--track {r.track} names {', '.join(map(repr, strangers))}, which is no tracker.",
           f"Choose from {', '.join(TRACKERS)}, with commas between, or none.")
    yield (r.track != "tensorboard" and bool(r.trackers) and not r.output_dir and not r.eval,
           f"--track {r.track} has no run to follow without a folder.", "Pass --output_dir.")
    yield (r.start_epoch < 0 or (r.start_epoch >= config.optim.epochs and not r.eval),
           f"--start_epoch {r.start_epoch} is not in 0 … {config.optim.epochs - 1}, the numbers of the epochs.",
           "Give more --epochs.")
    yield (r.frozen_weights is not None and not config.model.masks,
           "--frozen_weights trains the mask head alone, which needs --masks.", "Add --masks.")
    yield (bool(r.frozen_weights and r.weights), "--frozen_weights and --weights both give the detector.",
           "Leave one out.")
    yield (bool(r.frozen_weights) and config.optim.freeze != "none",
           f"--frozen_weights trains the mask head alone, --freeze {config.optim.freeze} leaves others.",
           "Leave one out.")
    yield (config.optim.accumulate > 1 and r.world_size > 1, "--accumulate does not go with several processes.",
           "Give a larger --batch_size, or start more processes.")
    yield r.world_size < 1, f"--world_size {r.world_size} is less than 1.", "Give the number of processes."
