"""What a run's watch costs: `OMP_NUM_THREADS=2 python tests/engine/watch_cost.py jittor [EPOCHS]`.

Steps of `detr-jittor demo --decoder detr` with and without the watch take turns in one process. Told are the time in
the watch itself, as a share of the steps that it watches, of the first epoch and of those after it; and by how much the
steps in between are longer, in the median, which would show what it costs beyond its own time.
"""

import itertools
import statistics
import sys
import tempfile
import time

import numpy as np

from detr_jittor.config.presets import DEMO
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.loader import Loader
from detr_jittor.data.splits import open_split
from detr_jittor.engine.watch import Watch
from detr_jittor.frameworks.load import load_twin
from detr_jittor.twin.seeding import step_seed
from detr_jittor.types import State

WARM = 20  # steps before the first that counts, in which operators are compiled


def main() -> None:
    framework, epochs = sys.argv[1], int((sys.argv[2:] or [3])[0])
    with tempfile.TemporaryDirectory() as folder:
        write_demo_set(folder, size=DEMO.data.min_size)
        config = DEMO.replace(coco_path=folder, framework=framework, num_workers=0)
        index = open_split(config.data, "train")
        twin = load_twin(framework)(config, index.classes.num_classes)
        loader = Loader(index, config.data, config.optim.batch_size, True, config.run.seed)
        batches = itertools.chain.from_iterable(loader.epoch(number) for number in itertools.count())
        for step in range(WARM):
            twin.train_step(next(batches), step_seed(0, step), 1.0)
        twin.evaluate(next(batches))
        warm = twin.state()
        nothing = {name: tuple(map(np.zeros_like, moments)) for name, moments in warm.optimizer.items()}
        twin.load(State(warm.model, nothing, 0))  # a run that begins is looked at more than one that goes on
        measure(twin, Watch(config, twin), batches, len(loader), epochs)


def measure(twin, watch: Watch, batches, length: int, epochs: int) -> None:
    """Args: length: steps of an epoch."""
    for epoch in range(epochs):
        own, steps = 0.0, {True: [], False: []}
        for number in range(2 * length):
            batch, watched, parts = next(batches), number % 4 in (0, 3), [time.perf_counter()]
            if watched:
                watch.before_step(batch)
            parts.append(time.perf_counter())
            twin.train_step(batch, step_seed(1, number), 1.0)
            parts.append(time.perf_counter())
            if watched:
                watch.after_step(number // 2, 1.0)
            parts.append(time.perf_counter())
            steps[watched].append(parts[2] - parts[1])
            own += parts[1] - parts[0] + parts[3] - parts[2] if watched else 0.0
        began = time.perf_counter()
        watch.after_epoch((epoch + 1) * length, 1.0, None)
        own += time.perf_counter() - began
        medians = [statistics.median(steps[watched]) for watched in (True, False)]
        print(f"epoch {epoch}: {length} steps of {1000 * medians[1]:.1f} ms; the watch itself {1000 * own:.0f} ms, "
              f"{100 * own / sum(steps[True]):.2f} %; watched steps are {100 * (medians[0] / medians[1] - 1):+.2f} % "
              "longer", flush=True)


if __name__ == "__main__":
    main()
