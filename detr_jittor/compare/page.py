"""comparison.html: the curves, the tables, and all that it takes to repeat them."""

from pathlib import Path
from statistics import fmean

from detr_jittor.compare.comparison import WHERE, Comparison
from detr_jittor.compare.original import EARLIER_PORT, original_table
from detr_jittor.compare.tables import settings_table
from detr_jittor.report.page import Table, cards, folded, heading, link, page, paragraph, picture, preformatted

ROUNDING = ("What parts the twins is the order in which float32 sums are taken; training amplifies it, as it amplifies "
            "any rounding. So single epochs differ, and the curves as a whole must not.")

BAND = "Curves: means over the seeds. Bands: from the lowest run to the highest."


def html(c: Comparison, loss_curves: Path, ap_curves: Path) -> str:
    parts = [*(paragraph(sentence, "lead") for sentence in c.verdicts()), cards(key_figures(c)),
             paragraph(in_words(c)), paragraph(ROUNDING, "note"),
             heading("Average precision over the epochs"), picture(ap_curves, "AP, AP50 and AP75 of both twins")]
    if len(c.pairs) > 1:
        parts.append(paragraph(BAND, "note"))
    for title, table in c.tables().items():
        parts += [heading(title), table.html()]
        if title == "Loss":
            parts.append(picture(loss_curves, "The losses of both twins over the epochs"))
    parts += [heading("Beside the earlier port"), link("This project succeeds", *EARLIER_PORT),
              original_table(c.pairs, c.evaluations, c.costs).html(),
              heading("The command"), preformatted(c.command),
              heading("Settings"), settings_table(c.config, changed=True).html(),
              folded("All other settings: the defaults", settings_table(c.config, changed=False).html())]
    if c.conditions:
        parts += [heading("Data, machine and versions"), conditions_table(c.conditions).html()]
    return page(f"Jittor and PyTorch, equal runs: {Path(c.config.data.coco_path).name}", parts)


def key_figures(c: Comparison) -> list[tuple[str, str]]:
    figures = []
    for split, of_split in c.evaluations.items():
        if ap := of_split["last"].values.get("AP"):
            figures.append((f"{fmean(ap.jittor):.3f} · {fmean(ap.pytorch):.3f}",
                            f"AP, {WHERE[split]} pictures: Jittor · PyTorch"))
    return [*figures, (f"{c.costs['step_seconds'].ratio:.2f} ×", "a training step: Jittor / PyTorch"),
            (f"{c.costs['peak_memory_mb'].ratio:.2f} ×", "memory: Jittor / PyTorch")]


def in_words(c: Comparison) -> str:
    """The protocol."""
    optim, run, last = c.config.optim, c.config.run, next(iter(c.pairs.values()))["jittor"].log[-1]
    seeds = ", ".join(map(str, c.pairs))
    every = f" every {run.eval_every} epochs" if run.eval_every > 1 else " after each epoch"
    return (f"Both twins trained for {last['epoch'] + 1} epochs, {last['step']:,} steps of {optim.batch_size} "
            f"pictures, from the same start weights, with the same order of pictures, augmentation, dropout masks "
            f"and learning rates, and were evaluated{every}. Seed{'s' * (len(c.pairs) > 1)}: {seeds}. That all "
            "settings are equal was checked before this was drawn.")


def conditions_table(conditions: dict) -> Table:
    data = [[f"{split}, {name}", f"{value}"] for split, of_split in conditions["data"].items()
            for name, value in of_split.items()]
    machine = [[name, f"{value}"] for name, value in conditions["machine"].items()]
    return Table(["", "for all runs"], [*data, *machine], text=True)
