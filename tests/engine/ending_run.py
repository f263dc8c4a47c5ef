"""The command line, ended after some steps in one of several ways: `python ending_run.py WAY STEP SECONDS train …`.

nan: the next loss of process 1 is no number, and so the mean is none. alone: process 1 fails in the next step.
itself: each process gets SIGTERM in the last step. SIGTERM, SIGINT, SIGUSR1: the launcher gets it then. Each save
takes so many seconds longer.
"""

import math
import os
import signal
import sys
import time

from detr_jittor.__main__ import main
from detr_jittor.checkpoint.folder import RunFolder
from detr_jittor.errors import DetrError
from detr_jittor.frameworks.load import load_twin


def end(way: str, step: int, framework: str) -> None:
    twin = load_twin(framework)
    own_step, own_log = twin.train_step, twin.log

    def train_step(self, *arguments):
        if self.optimizer.steps == step and way == "alone" and self.processes.rank == 1:
            raise DetrError("a fault of this process alone.")
        if self.optimizer.steps == step - 1 and way not in ("nan", "alone"):
            if way == "itself":
                os.kill(os.getpid(), signal.SIGTERM)
            elif self.processes.rank == 1:
                os.kill(os.getppid(), signal.Signals[way])
        return own_step(self, *arguments)

    def log(self, *arguments):
        losses = own_log(self, *arguments)
        spoilt = way == "nan" and self.processes.rank == 1 and self.optimizer.steps == step
        return {**losses, "loss": math.nan} if spoilt else losses

    twin.train_step, twin.log = train_step, log


def slow_down(seconds: float) -> None:
    own = RunFolder.save

    def save(self, checkpoint):
        time.sleep(seconds)
        own(self, checkpoint)

    RunFolder.save = save


if __name__ == "__main__":
    arguments = sys.argv[4:]
    end(sys.argv[1], int(sys.argv[2]), arguments[arguments.index("--framework") + 1])
    slow_down(float(sys.argv[3]))
    sys.exit(main(arguments))
