"""Training in a process of its own, as users start it: for the comparison and the benchmark."""

import os
import subprocess
import sys
from pathlib import Path

from detr_jittor.config.options import Config
from detr_jittor.report.log import make_folder, write_whole

PROGRAM = [sys.executable, "-m", "detr_jittor"]


def start_training(config: Config, threads: int, **options) -> subprocess.Popen:
    """Start `detr-jittor train` with these settings, which are kept in a file beside the output folder.

    Args:
        options: of subprocess.Popen.

    Errors: DetrError if the file cannot be written.
    """
    folder = Path(config.run.output_dir)
    make_folder(folder.parent)
    file = folder.with_suffix(".json")
    write_whole(file, config.to_json())
    return subprocess.Popen([*PROGRAM, "train", "--config", str(file)],
                            env=os.environ | {"OMP_NUM_THREADS": str(threads)}, **options)
