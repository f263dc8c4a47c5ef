"""The figures of the earlier port, which this project succeeds, beside ours.

They were measured against the reference code with the same weights, or are the project's own.
"""

from statistics import fmean

from detr_jittor.compare.numbers import Evaluation, Quantity
from detr_jittor.compare.protocol import Pairs
from detr_jittor.report.page import Table

BY_ALIGN = "see detr-jittor align"
EARLIER_PORT = ("Ber0ton/DETR-Jittor-and-Pytorch", "https://github.com/Ber0ton/DETR-Jittor-and-Pytorch")


def original_table(pairs: Pairs, found: dict[str, dict[str, Evaluation]], spent: dict[str, Quantity]) -> Table:
    run = next(iter(pairs.values()))["jittor"]
    slower = "{:.2f} times PyTorch's"
    rows = [
        ["settings of the two runs", "other learning rates, batch sizes and epochs",
         "equal; unequal runs are refused"],
        ["trained parameters", "50,176 too many: batch-norm statistics, lost when the backbone was built, then trained",
         f"{run.log[-1]['n_parameters']:,} in both"],
        ["AP on a minimal set", "never left 0", ap_of(found)],
        ["logits, same weights", "off by 1.43 on a scale of 1.6", BY_ALIGN],
        ["gradients, same weights", "96 % off; every decoder layer matched differently", BY_ALIGN],
        ["time of a training step", "1.9–2.0 times PyTorch's", slower.format(spent["step_seconds"].ratio)],
        ["memory", "1.5 times PyTorch's", slower.format(spent["peak_memory_mb"].ratio)],
    ]
    return Table(["", "the earlier port", "this comparison"], rows, text=True, note=(
        "Other data, models and machines: the lines say whether the twins learn and what Jittor costs beside PyTorch, "
        "no more."))


def ap_of(found: dict[str, dict[str, Evaluation]]) -> str:
    """AP after the last epoch, on the training pictures where it was measured"""
    split, where = ("train_eval", "training pictures") if "train_eval" in found else ("test", "held-out pictures")
    ap = found[split]["last"].values.get("AP") if split in found else None
    if ap is None:
        return "not measured"
    return f"{fmean(ap.jittor):.4f} (Jittor), {fmean(ap.pytorch):.4f} (PyTorch), on {where}"
