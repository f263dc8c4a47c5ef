"""Stage 1: what ran where, and how to run it again."""

import os
import platform

from detr_jittor.align.measure import Item
from detr_jittor.align.stage import Stage
from detr_jittor.align.trial import FLOAT64, JITTOR, PYTORCH, Trial


def run(trial: Trial) -> Stage:
    items = []
    for name in (JITTOR, PYTORCH, FLOAT64):
        identity = trial.ask(name, "identity")
        wanted = "float64" if name == FLOAT64 else "float32"
        items.append(Item(name, identity["precision"] == wanted, note=", ".join(
            [identity["version"], identity["precision"], f"device {identity['device']}",
             f"kernels: {identity['kernels']}"])))
    config = trial.config
    remarks = [
        f"command: {trial.command}",
        f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores",
        f"seed {config.run.seed}: weights, data order and dropout masks follow from it",
        f"model: {config.model.backbone}{' DC5' if config.model.dilation else ''}, {config.model.position_embedding} "
        f"positions, {'pre' if config.model.pre_norm else 'post'}-norm, {config.model.enc_layers} + "
        f"{config.model.dec_layers} layers, dropout {config.model.dropout}",
        f"batch: pictures {[t.image_id for t in trial.batch.targets]} of {trial.index.name}, padded to "
        f"{trial.batch.images.shape[2]} × {trial.batch.images.shape[3]}",
    ]
    return Stage("environment", items, remarks)
