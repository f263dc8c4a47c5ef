"""Runs the stages one after the other."""

from collections.abc import Callable

from detr_jittor.align.conditions import CONDITIONS
from detr_jittor.align.measure import Item
from detr_jittor.align.stage import Stage
from detr_jittor.align.stages import STAGES
from detr_jittor.align.trial import Trial
from detr_jittor.align.worker import WorkerError
from detr_jittor.errors import DetrError


def run_stages(trial: Trial, names: list[str] | None = None, stop_at_failure: bool = False,
               done: Callable[[Stage], None] = lambda stage: None) -> list[Stage]:
    """The stages and conditions of these names, the ten stages if none are given.

    Args:
        done: called after each stage.
    """
    stages = []
    for name in names or STAGES:
        try:
            stage = (STAGES | CONDITIONS)[name](trial)
        except (WorkerError, DetrError) as error:
            stage = Stage(name, [Item("error", False, note=str(error))], [getattr(error, "details", "")])
        stages.append(stage)
        done(stage)
        if stop_at_failure and not stage.passed:
            break
    return stages
