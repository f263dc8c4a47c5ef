"""The command line, with a fault in the middle of a step: `python killed_run.py SIGKILL@STEP train …`.

SIGKILL is for this process; SIGINT for its group, as Ctrl-C in a terminal; WORKERS kills those that read pictures.
"""

import os
import signal
import sys

import psutil

from detr_jittor.__main__ import main
from detr_jittor.frameworks.load import load_twin


def kill_workers() -> None:
    for child in psutil.Process().children():
        if "detr_jittor.data.worker" in " ".join(child.cmdline()):
            child.kill()


FAULTS = {"SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGINT": lambda: os.killpg(0, signal.SIGINT),
          "WORKERS": kill_workers}


def strike_at(step: int, fault, framework: str) -> None:
    twin = load_twin(framework)
    own = twin.train_step

    def train_step(self, *arguments):
        losses = own(self, *arguments)
        if self.state().steps == step:  # the weights have changed, and nobody has been told
            fault()
        return losses

    twin.train_step = train_step


if __name__ == "__main__":
    arguments = sys.argv[2:]
    fault, step = sys.argv[1].split("@")
    strike_at(int(step), FAULTS[fault], arguments[arguments.index("--framework") + 1])
    sys.exit(main(arguments))
