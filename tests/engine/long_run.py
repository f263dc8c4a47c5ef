"""A long run: `python tests/engine/long_run.py jittor [ROUNDS]`, 50 evaluation rounds with 10 steps of varying sizes
each. test_long_run.py has a few rounds of it.

After each round it notes resident memory, file handles, threads, and what Jittor holds. All but memory must stay as
they are after the second round to the last. Memory goes up and down by some megabytes from round to round, so it is
told in the middle of ten rounds: of the last ten it may be a twentieth more than of those after the tenth.

What a round has freed and the C library keeps for the next one is given back first. How much that is depends on where
in its heap the last block in use happens to lie: here 30 MB after some rounds and 180 after others, while what is in
use stays within 5.

While the machine is busy, some sleeping threads more are held (twin/waiting.py), which is no leak and has tests of its
own; a fixed time of spinning turns that off here.

PyTorch's oneDNN keeps a thousand primitives, some for each new shape: until it has them, memory grows by a tenth to a
fifth. Here it keeps 32, so that whatever else might grow is seen.
"""

import ctypes
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from small import SMALL

from detr_jittor.data.demo import write_demo_set
from detr_jittor.engine.reporting import Reporting
from detr_jittor.engine.train import train

ROUNDS, STEPS = 50, 10
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")  # Jittor's kernels have a cache of their own


def figures(framework: str) -> dict[str, int]:
    process = psutil.Process()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    found = {"MB": process.memory_info().rss >> 20, "files": process.num_fds(), "threads": process.num_threads()}
    if framework == "jittor":
        from detr_jittor.jt.setup.runtime import jt

        found |= {name: jt.liveness_info()[name] for name in ("hold_vars", "lived_vars", "lived_ops")}
    return found


def main() -> int:
    framework, count, rounds = sys.argv[1], int((sys.argv[2:] or [ROUNDS])[0]), []
    own = Reporting.tell

    def tell(self, *arguments):
        own(self, *arguments)
        rounds.append(figures(framework))
        print(len(rounds), rounds[-1], flush=True)

    Reporting.tell = tell
    with tempfile.TemporaryDirectory() as folder:
        write_demo_set(f"{folder}/coco", train=2 * STEPS, val=4, size=128)
        train(SMALL.replace(
            framework=framework, coco_path=f"{folder}/coco", output_dir=f"{folder}/out", backbone_weights="none",
            backbone_norm="batch", num_classes=None, epochs=count, min_size=96, max_size=160, num_workers=2, lr=1e-4))
    moved = [name for name in rounds[0] if name != "MB" and len({r[name] for r in rounds[2:]}) > 1]
    early, late = ([r["MB"] for r in part] for part in (rounds[10:20], rounds[20:][-10:]))
    grown = median(late) / median(early) - 1 if late else 0
    print(f"not flat: {moved or 'nothing'}; memory in the last ten rounds: {100 * grown:.1f} % more")
    return 1 if moved or grown > 0.05 or len(rounds) != count else 0


if __name__ == "__main__":
    sys.exit(main())
