"""The ten stages, in their order. Each file has `run(trial) -> Stage`."""

from detr_jittor.align.stages import (
    data,
    detections,
    environment,
    forward,
    gradients,
    losses,
    matching,
    optimizer,
    structure,
    training,
)

STAGES = {
    "environment": environment.run, "structure": structure.run, "data": data.run, "forward": forward.run,
    "matching": matching.run, "losses": losses.run, "gradients": gradients.run, "optimizer": optimizer.run,
    "training": training.run, "detections": detections.run,
}
