"""What a comparison leaves in its folder: logs, curves, numbers, and one page that holds it all."""

import json
import shutil
from pathlib import Path

from detr_jittor.compare.comparison import Comparison
from detr_jittor.compare.figures import draw_losses, draw_performance
from detr_jittor.compare.page import html
from detr_jittor.compare.protocol import Pairs, protocol
from detr_jittor.errors import writing
from detr_jittor.report.log import make_folder, write_whole

SHORT = {"jittor": "jittor", "pytorch": "torch"}  # in file names
LOSS_CURVES, AP_CURVES = "training_loss_comparison.png", "performance_comparison.png"


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Errors: DetrError if the folder cannot be written."""
    make_folder(folder)
    with writing(f"{folder}:", "Choose another --output_dir."):
        copy_logs(folder, comparison.pairs)
        draw_losses(comparison.pairs, folder / LOSS_CURVES)
        draw_performance(comparison.pairs, folder / AP_CURVES)
    write_whole(folder / "comparison.json", json.dumps(to_json(comparison), indent=2) + "\n")
    write_whole(folder / "comparison.html", html(comparison, folder / LOSS_CURVES, folder / AP_CURVES))


def copy_logs(folder: Path, pairs: Pairs) -> None:
    """log_jittor.txt, eval_summary_torch.txt and so on; those of further seeds end in their number."""
    for number, (seed, of_seed) in enumerate(pairs.items()):
        ending = f"_seed{seed}" if number else ""
        for framework, run in of_seed.items():
            for name in ("log", "eval_summary"):
                shutil.copyfile(run.folder / f"{name}.txt", folder / f"{name}_{SHORT[framework]}{ending}.txt")


def to_json(c: Comparison) -> dict:
    """What comparison.json holds; lists are in the order of `seeds`."""
    return {
        "command": c.command, "seeds": list(c.pairs),
        "settings": protocol(c.config) | {"coco_path": c.config.data.coco_path}, **c.conditions,
        "verdicts": c.verdicts(),
        "evaluations": {split: {which: found.to_json() for which, found in of_split.items()}
                        for split, of_split in c.evaluations.items()},
        "losses": {name: {which: value.to_json() for which, value in at.items()} for name, at in c.losses.items()},
        "costs": {name: value.to_json() for name, value in c.costs.items()},
    }
