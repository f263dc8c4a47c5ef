"""What a user may expect of a run before it begins."""

from detr_jittor.config.options import Config

FROM_A_DETECTOR = "From a trained detector, hundreds of steps usually show."
FROM_A_BACKBONE = ("From an ImageNet backbone DETR needs some 100,000s of steps on photographs before it finds much; "
                   "with --weights detr-r50 it begins as a trained detector and needs hundreds.")
FROM_LITTLE = "The box decoder finds simple objects after some thousand steps, also from scratch."


def expectation(config: Config, pictures: int, epoch_length: int, trained: bool) -> str:
    """Pictures × epochs = steps, and what that many can do.

    Args:
        epoch_length: steps of an epoch.
        trained: whether the run goes on from a detector's weights.
    """
    optim = config.optim
    steps = epoch_length * optim.epochs
    parts = f" of {optim.accumulate} batches" if optim.accumulate > 1 else ""
    text = (f"{pictures:,} pictures × {optim.epochs:,} epochs = {steps:,} steps of "
            f"{optim.batch_size * optim.accumulate} pictures{parts}.")
    if optim.max_steps is not None and optim.max_steps < steps:
        text += f" --max_steps ends it after {optim.max_steps:,}."
    untrained = FROM_LITTLE if config.model.decoder == "box" else FROM_A_BACKBONE
    return f"{text} {FROM_A_DETECTOR if trained else untrained}"
