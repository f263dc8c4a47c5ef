"""The curves of docs/small-sets.md, drawn from the logs of its runs.

    python docs/curves.py           writes pics-and-logs/small-sets/curves.png
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from detr_jittor.report.log import read_log  # noqa: E402 - the package of this folder, installed or not
from detr_jittor.report.plot import curve, draw  # noqa: E402

RUNS = ROOT / "pics-and-logs"
PANELS = [  # (title, where a record of the log has COCO's numbers, {label: log})
    ("AP on the 60 photographs trained on", "train_eval_coco_eval_bbox", {
        "box decoder": "small-sets/sixty_box.txt", "DETR": "comparison-minimal/log_jittor.txt"}),
    ("AP on held-out photographs, trained on 343", "test_coco_eval_bbox", {
        "box decoder": "small-sets/all_box.txt", "DETR": "small-sets/all_detr.txt"})]


def main() -> None:
    figure = Figure(figsize=(10, 5), layout="constrained")
    for axes, (title, key, logs) in zip(figure.subplots(1, 2), PANELS):
        draw(axes, {label: curve(read_log(RUNS / log), key, 0) for label, log in logs.items()}, title, ending="last")
        axes.set_ylim(bottom=0)
    figure.savefig(RUNS / "small-sets" / "curves.png", dpi=110)


if __name__ == "__main__":
    main()
