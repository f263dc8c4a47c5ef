"""What an alignment says: alignment.json, and the same as one self-contained page."""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from detr_jittor.align.measure import Item
from detr_jittor.align.stage import Stage
from detr_jittor.align.tolerances import TOLERANCES
from detr_jittor.align.trial import FLOAT64
from detr_jittor.report.page import Table, cards, folded, heading, page, paragraph, picture, preformatted

TENSOR_STAGES = ("forward", "gradients")  # whose ratios make the overall median
SHOWN = 30  # items of a stage that are listed without a click

READING = (
    "The truth is the PyTorch twin in float64, and for the small maths a NumPy oracle of its own. Each number is the "
    "error of a float32 twin against it, relative to the truth's root mean square. The ratio is Jittor's error divided "
    "by PyTorch's: below 1, Jittor is the closer one. An item passes if Jittor's error is at most 4 times PyTorch's, "
    "or below the float32 floor in the table at the end.")


def median_ratio(stages: list[Stage]) -> float | None:
    """Over all tensors: every module's output and every parameter's gradient."""
    ratios = [ratio for stage in stages if stage.name in TENSOR_STAGES for ratio in stage.ratios]
    return float(np.median(ratios)) if ratios else None


def verdict(stages: list[Stage]) -> str:
    return "pass" if stages and all(stage.passed for stage in stages) else "fail"


def to_json(stages: list[Stage], seconds: dict[str, float]) -> dict:
    return {"verdict": verdict(stages), "median_ratio": median_ratio(stages), "seconds": seconds,
            "stages": [stage.to_json() for stage in stages],
            "tolerances": {name: vars(t) for name, t in TOLERANCES.items()}}


def to_html(stages: list[Stage], seconds: dict[str, float]) -> str:
    ratio, tensors = median_ratio(stages), sum(len(s.ratios) for s in stages if s.name in TENSOR_STAGES)
    passed = sum(stage.passed for stage in stages)
    parts = [
        paragraph(headline(stages, ratio, tensors), "lead"),
        cards([(verdict(stages), "verdict"), (number(ratio, ".2f"), f"median error ratio of {tensors} tensors"),
               (f"{passed} of {len(stages)}", "stages passed"),
               (f"{sum(len(s.items) for s in stages):,}", "comparisons")]),
        paragraph(READING), heading("The stages"), overview(stages, seconds)]
    for place, stage in enumerate(stages, 1):
        parts += [heading(f"{place}. {stage.name}: {stage.verdict}"), *map(remark, stage.remarks), *body(stage)]
    parts += [heading("Tolerances"), Table(
        ["name", "value", "measured", "reason"],
        [[name, f"{t.value:g}", t.measured, t.reason] for name, t in TOLERANCES.items()], text=True).html()]
    return page("Alignment of the Jittor twin with the PyTorch twin", parts)


def headline(stages: list[Stage], ratio: float | None, tensors: int) -> str:
    failed = [stage for stage in stages if not stage.passed]
    if failed:
        return f"Not aligned: stage {failed[0].name} fails first, at {failed[0].worst}."
    closer = "no farther from float64 than PyTorch is" if ratio is not None and ratio <= 1 else (
        "about as far from float64 as PyTorch is")
    return f"Aligned: on the median of {tensors} tensors, Jittor is {closer} (ratio {number(ratio, '.2f')})."


def overview(stages: list[Stage], seconds: dict[str, float]) -> str:
    rows = [[stage.name, stage.verdict, f"{sum(i.passed for i in stage.items)} of {len(stage.items)}",
             number(stage.median_ratio, ".2f"), f"{seconds.get(stage.name, 0):.0f} s", stage.worst[:120]]
            for stage in stages]
    return Table(["stage", "verdict", "passed", "median ratio", "time", "largest error, or first failure"], rows,
                 text=True).html()


def remark(text: str) -> str:
    return preformatted(text) if "\n" in text or text.startswith("command:") else paragraph(text, "note")


def body(stage: Stage) -> list[str]:
    """A stage's items, its failures first."""
    failures = [item for item in stage.items if not item.passed]
    parts = [paragraph("Failures, the first divergent one first:"), table(failures[:SHOWN])] if failures else []
    if stage.curves:
        parts.append(curves(stage.curves))
    if stage.name == "forward":
        return [*parts, tree("the model", stage.items)]
    if len(stage.items) <= SHOWN:
        return [*parts, table(stage.items)]
    return [*parts, folded(f"all {len(stage.items)} comparisons", table(stage.items))]


def table(items: list[Item], prefix: str = "") -> str:
    """The items with all their measures; only their notes where nothing was measured."""
    if not any(item.jittor for item in items):
        return Table(["what", "", "found"], [[i.name.removeprefix(prefix), sign(i), i.note] for i in items],
                     text=True).html()
    header = ["what", "", "shape", "Jittor's error", "PyTorch's", "ratio", "worst element", "PyTorch's", "mean abs",
              "max abs", "1 − cosine", "would just pass", "note"]
    return Table(header, [row(item, prefix) for item in items]).html()


def row(item: Item, prefix: str) -> list[str]:
    ours, theirs = item.jittor, item.pytorch
    return [item.name.removeprefix(prefix), sign(item), "×".join(map(str, item.shape)),
            number(ours and ours.rms), number(theirs and theirs.rms), number(item.ratio, ".2f"),
            number(ours and ours.worst), number(theirs and theirs.worst), number(ours and ours.mean),
            number(ours and ours.max), number(None if item.cosine is None else 1 - item.cosine),
            number(item.just_passing), item.note]


def tree(name: str, items: list[Item], prefix: str = "") -> str:
    """Items by the parts of their paths, folded; each fold tells what is in it."""
    branches: dict[str, list[Item]] = {}
    leaves = []
    for item in items:
        first, dot, _ = item.name.removeprefix(prefix).partition(".")
        if dot and not first.startswith("float64"):
            branches.setdefault(first, []).append(item)
        else:
            leaves.append(item)
    parts = [tree(branch, inside, f"{prefix}{branch}.") for branch, inside in branches.items()]
    parts += [table(leaves, prefix)] if leaves else []
    return folded(f"{name}: {describe(items)}", f'<div style="margin-left: 22px">{"".join(parts)}</div>')


def describe(items: list[Item]) -> str:
    failed = sum(not item.passed for item in items)
    ratios = [item.ratio for item in items if item.ratio is not None]
    errors = [item.jittor.rms for item in items if item.jittor]
    text = f"{len(items)} outputs, " + (f"{failed} ✗ failed" if failed else "✓")
    if errors:
        text += f", largest error {max(errors):.1e}"
    return text + (f", median ratio {np.median(ratios):.2f}" if ratios else "")


def sign(item: Item) -> str:
    return "✓" if item.passed else "✗ FAILS"


def number(value: float | None, form: str = ".1e") -> str:
    return "" if value is None or np.isnan(value) else format(value, form)


def curves(losses: dict[str, list[float]]) -> str:
    """The loss of the free runs, and how far each is from float64."""
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    truth = np.array(losses[FLOAT64])
    for name, values in losses.items():
        left.plot(values, label=name, linewidth=1)
        if name != FLOAT64:
            right.plot(np.maximum(np.abs(np.array(values) - truth) / np.abs(truth), 1e-9), label=name, linewidth=1)
    left.set(title="loss, each twin by itself", xlabel="step")
    right.set(title="distance from float64, relative", xlabel="step", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        figure.savefig(path, dpi=110)
        return picture(path, "loss curves and their distance from float64")
