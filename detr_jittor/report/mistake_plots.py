"""Figures of what goes wrong: precision over recall and F1 over the threshold by class, and which class is taken for
which. K classes, R places on the curves.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from detr_jittor.report.pictures import HAN_FONTS, drawable
from detr_jittor.report.plot import COLOURS

NAMED = 14  # classes that have a line in the legend; of more, the best and the worst
MOST_CELLS = 25  # classes in the matrix


def plot_curves(path: Path, title: str, x: np.ndarray, curves: list[tuple[str, np.ndarray, float]],
                axes_names: tuple[str, str], figure_of: Callable[[np.ndarray], float]) -> None:
    """Write a PNG with one curve a class and their mean.

    Args:
        x: [R].
        curves: (class name, [R] values, the figure to name beside it) of each class with objects.
        axes_names: what is along and what is up.
        figure_of: the figure to name beside the mean of the curves.
    """
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplots()
    ranked = sorted(curves, key=lambda curve: -curve[2])
    shown = ranked if len(ranked) <= NAMED else ranked[:NAMED // 2] + ranked[-(NAMED // 2):]
    for _, values, _ in ranked[NAMED // 2:-(NAMED // 2)] if len(ranked) > NAMED else ():
        axes.plot(x, values, color="0.8", linewidth=0.8)
    for k, (name, values, figure_of_it) in enumerate(shown):
        axes.plot(x, values, color=COLOURS[k % len(COLOURS)], linestyle=("-", "--")[k // len(COLOURS) % 2],
                  linewidth=1.6, label=f"{shortened(name)} {figure_of_it:.2f}")
    if len(ranked) > 1:
        mean = np.mean([values for _, values, _ in ranked], axis=0)
        axes.plot(x, mean, color="black", linewidth=3, label=f"mean of {len(ranked)} {figure_of(mean):.2f}")
    finish(axes, title, axes_names)
    save(figure, path)


def finish(axes: Axes, title: str, axes_names: tuple[str, str]) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=axes_names[0], ylabel=axes_names[1])
    axes.set_title(title, loc="left")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.has_data():
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=9)


def plot_confusion(path: Path, confusion: np.ndarray, names: list[str]) -> int:
    """Write a PNG with how often the objects of a row's class are called a column's.

    Args:
        confusion: [K + 1, K + 1]; the last row and column are the background.
        names: [K].

    Returns: how many classes are shown: those with most entries off the diagonal.
    """
    wrong = confusion.sum(axis=0)[:-1] + confusion.sum(axis=1)[:-1] - 2 * np.diag(confusion)[:-1]
    chosen = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CELLS])
    rows = [*chosen.tolist(), len(names)]
    cells = confusion[np.ix_(rows, rows)]
    texts = [*(shortened(names[k]) for k in chosen), "background"]
    side = 2.6 + 0.42 * len(rows)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(cells / np.maximum(cells.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(cells):
        if count:
            dark = count / cells[row].sum() > 0.5
            axes.text(column, row, f"{count}" if count < 10_000 else f"{count / 1000:.0f}k", ha="center", va="center",
                      color="white" if dark else "black", fontsize=8)
    axes.set_xticks(range(len(rows)), texts, rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), texts)
    axes.set(xlabel="said", ylabel="true")
    axes.set_title("Objects by what they are called", loc="left")
    save(figure, path)
    return len(chosen)


def shortened(name: str, longest: int = 24) -> str:
    """A name as matplotlib draws it: letters that no font here has are escapes, and no formula is made of it."""
    text = drawable(name)
    return (text if len(text) <= longest else text[:longest - 1] + "…").replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, with fonts for Chinese names where this machine has some."""
    there = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(name for name in HAN_FONTS if name in there)]
    for text in figure.findobj(Text):
        text.set_fontfamily(families)
    figure.savefig(path, dpi=130)
