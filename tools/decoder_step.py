"""What a training step of the box decoder costs by one of DETR, with the settings of a preset, in Jittor.

    python tools/decoder_step.py {demo,minimal} [ROUNDS]

Both are in one process and take turns; nothing else should run on the machine. DETR_ISA=avx2 limits both.
"""

import sys
import time
from statistics import median

from detr_jittor.config.presets import PRESETS
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.twin.synthetic import random_batch

STEPS = 3  # of a round
BATCHES = {"demo": ([(96, 96)] * 4, 4), "minimal": ([(160, 224)] * 4, 80)}  # [(height, width)], classes


def main(preset: str, rounds: int) -> None:
    sizes, classes = BATCHES[preset]
    batch = random_batch(sizes, classes, 2, 4)
    twins = {decoder: JittorTwin(PRESETS[decoder][preset], classes) for decoder in ("detr", "box")}
    for twin in twins.values():
        seconds(twin, batch)  # compiled
    taken = [{decoder: seconds(twin, batch) for decoder, twin in twins.items()} for _ in range(rounds)]
    ratios = sorted(one["box"] / one["detr"] for one in taken)
    each = [f"{decoder} {median(one[decoder] for one in taken) * 1e3:.1f} ms" for decoder in twins]
    print(f"{preset}: {', '.join(each)}; ratio {median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


def seconds(twin: JittorTwin, batch) -> float:
    """Of a step, the mean of a round"""
    start = time.perf_counter()
    for step in range(STEPS):
        twin.train_step(batch, step, 1.0)
    jt.sync_all(True)
    return (time.perf_counter() - start) / STEPS


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in BATCHES:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 24)
