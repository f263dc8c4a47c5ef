"""A checkpoint as the folder that Hugging Face and ModelScope take: weights, settings, a README and checksums.

Where the transformers library has the same model, the names and `config.json` are that library's, so that
`DetrForObjectDetection.from_pretrained(folder)` reads it as well as `--weights folder`. Else they are ours.
"""

import json
from pathlib import Path

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.architecture import num_classes
from detr_jittor.checkpoint.keymap_transformers import to_transformers
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import DEPTHS, Config
from detr_jittor.errors import DetrError, writing
from detr_jittor.report.digest import digest
from detr_jittor.report.log import make_folder, write_whole
from detr_jittor.types import Classes, State

WEIGHTS, SUMS = "model.safetensors", "SHA256SUMS"
WIDTHS = {"basic": [64, 128, 256, 512], "bottleneck": [256, 512, 1024, 2048]}  # of a ResNet's stages
NO_PATHS = {"output_dir": "", "coco_path": None, "coco_panoptic_path": None, "train_json": None,
            "val_json": None, "train_images": None, "val_images": None, "resume": "", "weights": "",
            "frozen_weights": None, "backbone_weights": "auto"}  # of the machine that trained
MOST_NAMES = 100  # classes that the README names


def write_card(checkpoint: Checkpoint, config: Config, classes: Classes, folder: Path, title: str,
               licence: str) -> bool:
    """Write the folder's files. Returns: whether the transformers library can read it.

    Errors: DetrError if the folder holds other weights, or cannot be written.
    """
    if (folder / WEIGHTS).exists():
        raise DetrError(f"{folder}: holds {WEIGHTS} already.", "Choose another --output_dir.")
    make_folder(folder)
    theirs = is_theirs_too(config)
    model = to_transformers(checkpoint.state.averaged) if theirs else checkpoint.state.averaged
    config = config.replace(num_classes=num_classes(checkpoint), **NO_PATHS)
    store.save(folder / WEIGHTS, Checkpoint(State(model, {}), checkpoint.epoch, checkpoint.step, config, classes,
                                            checkpoint.best_ap))
    described = transformers_config(config, classes) if theirs else json.loads(config.to_json())
    task = "image-segmentation" if config.model.masks else "image-object-detection"
    files = {"config.json": described, "configuration.json": {"framework": "pytorch", "task": task}}
    if theirs:
        files["preprocessor_config.json"] = preprocessing(config)
    for name, content in files.items():
        write_whole(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    sums = {name: told_digest(folder / name) for name in sorted((WEIGHTS, *files))}
    write_whole(folder / "README.md", readme(checkpoint, config, classes, title, licence, theirs, sums))
    sums["README.md"] = told_digest(folder / "README.md")
    write_whole(folder / SUMS, "".join(f"{value}  {name}\n" for name, value in sums.items()))
    return theirs


def is_theirs_too(config: Config) -> bool:
    """Whether the transformers library has this model: the paper's, without the dilation, pre-norm and fewer stages."""
    m = config.model
    return m.decoder == "detr" and m.backbone_stages == 4 and not (m.dilation or m.pre_norm or m.masks)


def transformers_config(config: Config, classes: Classes) -> dict:
    """What the library's DetrConfig is made from."""
    m = config.model
    kind = "basic" if m.backbone in ("resnet18", "resnet34") else "bottleneck"
    names = {label: classes.name_of().get(label, "N/A") for label in range(m.num_classes)}
    return {
        "architectures": ["DetrForObjectDetection"], "model_type": "detr", "use_timm_backbone": False,
        "use_pretrained_backbone": False, "backbone": None,
        "backbone_config": {"model_type": "resnet", "layer_type": kind, "depths": list(DEPTHS[m.backbone]),
                            "hidden_sizes": WIDTHS[kind], "out_features": ["stage4"],
                            "stage_names": ["stem", "stage1", "stage2", "stage3", "stage4"]},
        "d_model": m.hidden_dim, "encoder_layers": m.enc_layers, "decoder_layers": m.dec_layers,
        "encoder_ffn_dim": m.dim_feedforward, "decoder_ffn_dim": m.dim_feedforward,
        "encoder_attention_heads": m.nheads, "decoder_attention_heads": m.nheads, "num_queries": m.num_queries,
        "position_embedding_type": m.position_embedding, "dropout": m.dropout, "dilation": False,
        "id2label": {str(label): name for label, name in names.items()},
        "label2id": {name: label for label, name in names.items() if name != "N/A"},
    }


def preprocessing(config: Config) -> dict:
    """How the library's DetrImageProcessor is to scale pictures."""
    return {"image_processor_type": "DetrImageProcessor", "do_resize": True, "do_normalize": True, "do_rescale": True,
            "do_pad": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            "size": {"shortest_edge": config.data.min_size, "longest_edge": config.data.max_size}}


def readme(checkpoint: Checkpoint, config: Config, classes: Classes, title: str, licence: str, theirs: bool,
           sums: dict[str, str]) -> str:
    """The card: the head that both sites read, then what is known of the model and how it is used."""
    m = config.model
    task = "image-segmentation" if m.masks else "object-detection"
    head = ["---", *([f"license: {licence}"] if licence else []),
            f"library_name: {'transformers' if theirs else 'jittor'}", f"pipeline_tag: {task}",
            "tags:", *(f"- {tag}" for tag in (task, "detr", "jittor")),
            "---", ""]
    known = {"decoder": m.decoder, "backbone": m.backbone, "classes": len(classes.names), "queries": m.num_queries,
             "short and longest side": f"{config.data.min_size}, {config.data.max_size} pixels"}
    if checkpoint.step:
        known["trained for"] = f"{checkpoint.step:,} steps, {checkpoint.epoch + 1} epochs"
    if checkpoint.best_ap >= 0:
        known["best AP on the validation pictures of its training"] = f"{checkpoint.best_ap:.4f}"
    names = ", ".join(classes.names[:MOST_NAMES]) + (", …" if len(classes.names) > MOST_NAMES else "")
    with_transformers = ["", "```python", "from transformers import AutoImageProcessor, DetrForObjectDetection",
                         'model = DetrForObjectDetection.from_pretrained("FOLDER")', "```"] if theirs else []
    return "\n".join([
        *head, f"# {title}", "", "A DETR (arXiv 2005.12872), written by DETR-Jittor.", "",
        "| what | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in known.items()), "",
        f"Classes: {names}.", "", "## Use", "", "```bash",
        "detr-jittor predict --weights FOLDER --output_dir found picture.jpg", "```", "", "```python",
        "from detr_jittor import Detector", 'Detector("FOLDER").predict("picture.jpg").save("found.jpg")', "```",
        *with_transformers, "", "## Files", "", f"`sha256sum -c {SUMS}` checks them.", "", "| file | SHA-256 |",
        "|---|---|",
        *(f"| `{name}` | `{value}` |" for name, value in sums.items()), ""])


def told_digest(file: Path) -> str:
    with writing(f"{file}:"):
        return digest(file)
