"""The tables of a comparison, from its numbers."""

import statistics

from detr_jittor.compare.numbers import AP_NAMES, Evaluation, Quantity
from detr_jittor.compare.protocol import Pairs, protocol
from detr_jittor.config.options import OPTIONS, Config
from detr_jittor.report.page import Table

TWINS = ["Jittor", "PyTorch"]
AP_NOTES = {"test": "The best epoch is each run's own, chosen by this very AP: flattering, but alike for both. "
                    "Epochs count from 0.",
            "train_eval": "Pictures that the twins were trained on, without augmentation and in evaluation mode."}
LOSSES = {"train_loss": "training mode", "train_eval_loss": "evaluation mode, training pictures",
          "test_loss": "evaluation mode, held-out pictures"}
COSTS = {"step_seconds": ("a training step, median of the epochs (s)", "{:.3f}"),
         "first_epoch_seconds": ("the first epoch, with what is compiled in it (s)", "{:.1f}"),
         "train_seconds": ("training in all (s)", "{:.0f}"),
         "evaluation_seconds": ("evaluation in all (s)", "{:.0f}"),
         "peak_memory_mb": ("peak memory of the process (MB)", "{:.0f}")}
LOSS_NOTE = ("Training mode: the mean over an epoch's steps, with augmentation and dropout, while the weights move. "
             "Evaluation mode: after an epoch that was evaluated, without either.")
COST_NOTE = ("One after another on the same machine, each run in a process of its own. Steps include the wait for "
             "their pictures; training in all includes compiling at first use, but not the start of the process.")


def shown(values: list[float], form: str = "{:.4f}") -> str:
    """The mean over the seeds, and how they scatter."""
    text = form.format(statistics.fmean(values))
    return text if len(values) < 2 else f"{text} ± {form.format(statistics.stdev(values)).lstrip('+')}"


def ap_table(split: str, of_split: dict[str, Evaluation]) -> Table:
    """Args: of_split: "last" and "best" epoch"""
    rows = []
    for which, found in of_split.items():
        epochs = [span(values) for values in (found.epoch.jittor, found.epoch.pytorch)]
        rows.append([f"{which} epoch", *epochs, ""])
        for name in AP_NAMES:
            value = found.values.get(name)
            rows.append([f"{name}, {which} epoch", *cells(value)] if value else [name, "-", "-", "-"])
    return Table(["", *TWINS, "Jittor − PyTorch"], rows, AP_NOTES[split])


def cells(value: Quantity) -> list[str]:
    return [shown(value.jittor), shown(value.pytorch), shown(value.differences, "{:+.4f}")]


def span(epochs: list[float]) -> str:
    low, high = min(epochs), max(epochs)
    return f"{low}" if low == high else f"{low} … {high}"


def loss_table(found: dict[str, dict[str, Quantity]]) -> Table:
    rows = []
    for key, at in found.items():
        for which, value in at.items():
            relative = [abs(d) / abs(p) for d, p in zip(value.differences, value.pytorch)]
            rows.append([f"{LOSSES[key]}, {which} epoch", *cells(value), f"{max(relative):.1e}"])
    return Table(["", *TWINS, "Jittor − PyTorch", "relative, at most"], rows, LOSS_NOTE)


def cost_table(spent: dict[str, Quantity]) -> Table:
    rows = [[what, shown(spent[key].jittor, form), shown(spent[key].pytorch, form), f"{spent[key].ratio:.2f}"]
            for key, (what, form) in COSTS.items()]
    return Table(["", *TWINS, "Jittor / PyTorch"], rows, COST_NOTE)


def seed_table(pairs: Pairs, of_split: dict[str, Evaluation]) -> Table:
    """AP of each seed."""
    header, columns = ["seed"], []
    for which, found in of_split.items():
        if ap := found.values.get("AP"):
            header += [f"{twin}, {which}" for twin in (*TWINS, "difference")]
            columns += [[f"{v:.4f}" for v in ap.jittor], [f"{v:.4f}" for v in ap.pytorch],
                        [f"{v:+.4f}" for v in ap.differences]]
    return Table(header, [[str(seed), *row] for seed, *row in zip(pairs, *columns)])


def settings_table(config: Config, changed: bool) -> Table:
    """The settings of both runs: those that are not the defaults, or those that are."""
    values = protocol(config) | {"coco_path": config.data.coco_path}
    rows = [[name, str(value)] for name, value in values.items()
            if (value != OPTIONS[name][2].default) == changed and name != "coco_path"]
    return Table(["setting", "value in both"], rows, text=True)


def verdict(ap: Quantity | None, seeds: int, where: str) -> str:
    """The comparison in a sentence or two."""
    if ap is None:
        return f"There is no object on the {where} pictures, so no AP to compare."
    means = (f"AP on the {where} pictures after the last epoch: {shown(ap.jittor)} (Jittor), {shown(ap.pytorch)} "
             "(PyTorch)")
    if ap.noise is None:
        return f"{means}, {ap.difference:+.4f}. One seed draws no noise band; --seeds 3 does."
    inside = "inside" if abs(ap.difference) <= ap.noise else "OUTSIDE"
    return (f"{means}, means over {seeds} seeds. The difference of {ap.difference:+.4f} is {inside} the noise band of "
            f"±{ap.noise:.4f}, in which 95 of 100 such differences lie for two programs that differ in "
            "nothing but the seed.")
