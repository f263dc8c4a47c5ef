"""Curves of any number of training logs: loss and average precision over the epochs."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours without the yellow, which is too faint for a line; they stay apart for the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
LEGEND_LINE = 0.25  # inches

Log = list[dict]  # one record an epoch, as `report.log.read_log` gives it
Curve = dict[int, float]  # epoch → value


def plot_training_loss(logs: dict[str, Log], path: str | Path) -> None:
    """Write a PNG with the training loss over the epochs, one curve a log.

    Args:
        logs: label → log.
    """
    figure = Figure(figsize=(8, 4.5 + LEGEND_LINE * len(logs)), layout="constrained")
    axes = figure.subplots()
    draw(axes, {label: curve(log, "train_loss") for label, log in logs.items()}, "training loss", ending="last")
    figure.savefig(path, dpi=150)


def plot_performance(logs: dict[str, Log], path: str | Path, key: str = "test_coco_eval_bbox") -> None:
    """Write a PNG with AP, AP50 and AP75 over the epochs side by side, one curve a log; epochs without one are gaps.

    Args:
        logs: label → log.
        key: where a record holds COCO's twelve numbers.
    """
    figure = Figure(figsize=(14, 4.5 + LEGEND_LINE * len(logs)), layout="constrained")
    for i, (title, axes) in enumerate(zip(("AP", "AP50", "AP75"), figure.subplots(1, 3))):
        draw(axes, {label: curve(log, key, i) for label, log in logs.items()}, title, ending="best")
        axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=150)


def curve(log: Log, key: str, index: int | None = None) -> Curve:
    """{epoch: value}, or the value's entry `index` where it is a list. An epoch that was run again counts once.

    What is missing, no finite number or −1 (COCO's "nothing to measure") is left out.
    """
    values = {record["epoch"]: record.get(key) for record in log if isinstance(record.get("epoch"), int)}
    if index is not None:
        values = {epoch: value[index] for epoch, value in values.items()
                  if isinstance(value, list) and len(value) > index and value[index] != -1}
    return {epoch: float(value) for epoch, value in sorted(values.items())
            if isinstance(value, (int, float)) and math.isfinite(value)}


def draw(axes: Axes, curves: dict[str, Curve], title: str, ending: str) -> None:
    """All curves. The first is broad and later ones narrower and dashed, so that curves that coincide are all seen."""
    for i, (label, values) in enumerate(curves.items()):
        figure = (max(values.values()) if ending == "best" else list(values.values())[-1]) if values else None
        axes.plot(list(values), list(values.values()),
                  label=f"{label} ({ending} {figure:.3f})" if values else f"{label} (none)",
                  color=COLOURS[i % len(COLOURS)], linestyle=DASHES[i % len(DASHES)],
                  linewidth=max(1.6, 3.4 - 1.2 * i),
                  marker="o" if len(values) <= 25 else None, markersize=max(3, 7 - 2 * i))
    if not any(curves.values()):
        axes.text(0.5, 0.5, "not in these logs", transform=axes.transAxes, ha="center", color="0.4")
    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.13), borderaxespad=0, frameon=False)  # below: hides no curve
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
