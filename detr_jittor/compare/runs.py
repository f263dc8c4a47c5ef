"""The runs themselves: both twins for each seed, one after another, each in a fresh process."""

import subprocess
from pathlib import Path

from detr_jittor.compare.protocol import Run, differences, is_complete
from detr_jittor.config.options import FRAMEWORKS, Config, read_config
from detr_jittor.engine.launch import start_training
from detr_jittor.engine.signals import StopRequest
from detr_jittor.errors import DetrError
from detr_jittor.report.log import read_log
from detr_jittor.twin import threads

SAME_COMMAND = "The same command goes on where it stopped."


def run_twins(config: Config, seeds: list[int], folder: Path, stop: StopRequest) -> int:
    """Train what is not there yet. A run that was interrupted goes on from its last checkpoint.

    Returns: 0, or the exit status asked for if it was interrupted.

    Errors: DetrError if a run fails, or if the folder holds runs with other settings.
    """
    todo = []
    for seed in seeds:
        for framework in FRAMEWORKS:
            settings = settings_of(config, seed, framework, folder)
            if is_finished(settings):
                print(f"{settings.run.output_dir} is complete.")
            else:
                todo.append(settings)
    for number, settings in enumerate(todo, 1):
        print(f"\n{number}/{len(todo)} Training {settings.run.framework}, seed {settings.run.seed}", flush=True)
        status = run(settings, stop)
        if stop.status:
            print(f"Interrupted. {SAME_COMMAND}")
            return stop.status
        if status:
            raise DetrError(f"the run in {settings.run.output_dir} ended with status {status}.", SAME_COMMAND)
    return 0


def settings_of(config: Config, seed: int, framework: str, folder: Path) -> Config:
    return config.replace(framework=framework, seed=seed, output_dir=str(run_folder(folder, seed, framework)),
                          dropout_masks="shared", resume="auto")


def run_folder(folder: Path, seed: int, framework: str) -> Path:
    return folder / "runs" / f"{framework}-seed{seed}"


def is_finished(settings: Config) -> bool:
    """Whether a run is there and has reached its end. Errors: DetrError if it is there with other settings."""
    folder = Path(settings.run.output_dir)
    if not (folder / "config.json").exists():
        return False
    config = read_config(folder / "config.json")
    if found := differences(config, settings):
        raise DetrError(f"{folder} holds a run with other settings: {'; '.join(found)}.",
                        "Choose another --output_dir, or repeat the command that made it.")
    log = folder / "log.txt"
    return log.exists() and log.stat().st_size > 0 and is_complete(Run(folder, config, read_log(log)))


def run(settings: Config, stop: StopRequest) -> int:
    """One run in a process of its own. Returns: its exit status."""
    # A session of its own: Ctrl-C in a terminal reaches this process alone, which passes on one signal, not two.
    process = start_training(settings, threads.count(), start_new_session=True)
    told = False
    while True:
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if stop.status and not told:
                process.terminate()  # it finishes its step and saves
                told = True
