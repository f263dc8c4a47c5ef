"""The curves of a comparison: each twin's mean over the seeds, and between its lowest and highest run a band."""

import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detr_jittor.compare.numbers import AP_NAMES
from detr_jittor.compare.protocol import Pairs
from detr_jittor.config.options import FRAMEWORKS
from detr_jittor.report.plot import COLOURS, Curve, curve, draw

NAMES = {"jittor": "Jittor", "pytorch": "PyTorch"}
LOSS_PANELS = {"train_loss": "training mode: mean of the epoch's steps",
               "train_eval_loss": "evaluation mode: training pictures",
               "test_loss": "evaluation mode: held-out pictures"}
AP_PANELS = {"test_coco_eval_bbox": "held-out", "train_eval_coco_eval_bbox": "training pictures"}


def draw_losses(pairs: Pairs, path: Path) -> None:
    """Write a PNG with the losses over the epochs, as far as the logs have them."""
    keys = [key for key in LOSS_PANELS if any(curves(pairs, key)["jittor"])]
    figure = Figure(figsize=(14, 5), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False).flat, keys):
        panel(axes, curves(pairs, key), LOSS_PANELS[key], ending="last")
    figure.savefig(path, dpi=150)


def draw_performance(pairs: Pairs, path: Path) -> None:
    """Write a PNG with AP, AP50 and AP75 over the epochs, a row for the held-out and one for the training pictures."""
    keys = [key for key in AP_PANELS if any(curves(pairs, key, 0)["jittor"])] or ["test_coco_eval_bbox"]
    figure = Figure(figsize=(14, 5 * len(keys)), layout="constrained")
    for row, key in zip(figure.subplots(len(keys), 3, squeeze=False), keys):
        for i, (axes, name) in enumerate(zip(row, AP_NAMES)):
            panel(axes, curves(pairs, key, i), f"{name}, {AP_PANELS[key]}", ending="best")
            axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=150)


def curves(pairs: Pairs, key: str, index: int | None = None) -> dict[str, list[Curve]]:
    """framework → one curve a seed"""
    return {framework: [curve(of_seed[framework].log, key, index) for of_seed in pairs.values()]
            for framework in FRAMEWORKS}


def panel(axes: Axes, of_framework: dict[str, list[Curve]], title: str, ending: str) -> None:
    means = {}
    for colour, (framework, seeds) in zip(COLOURS, of_framework.items()):
        values = {epoch: [c[epoch] for c in seeds] for epoch in seeds[0] if all(epoch in c for c in seeds)}
        means[NAMES[framework]] = {epoch: statistics.fmean(v) for epoch, v in values.items()}
        if len(seeds) > 1:
            axes.fill_between(list(values), [min(v) for v in values.values()], [max(v) for v in values.values()],
                              color=colour, alpha=0.18, linewidth=0)
    draw(axes, means, title, ending)
