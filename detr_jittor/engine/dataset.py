"""What is said of a dataset before a run: why nothing can be learned or measured, and what goes beyond the queries."""

import sys
from collections.abc import Sequence

from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.decode import depth_told
from detr_jittor.errors import DetrError, visible

PURPOSES = ("train on", "validate with", "test with")


def tell_remarks(*splits: CocoIndex) -> None:
    """Say what the dataset was found to be, in one line, and what the user should know of each split.

    Args: splits: as `found_line` takes them.
    """
    if splits[0].found:
        print(found_line(splits))
    for index in splits:
        for remark in index.remarks:
            print(visible(f"{index.name}: {remark}"))


def found_line(splits: Sequence[CocoIndex]) -> str:
    """Args: splits: training, validation and test, as far as there are, or the validation split alone."""
    names, purposes = splits[0].classes.names, PURPOSES if len(splits) > 1 else PURPOSES[1:]
    pictures = ", ".join(f"{len(index)} pictures to {what}" for index, what in zip(splits, purposes))
    more = f", … and {len(names) - 10} more" if len(names) > 10 else ""
    return visible(f"{splits[0].found}: {pictures}, {len(names)} classes: {', '.join(names[:10])}{more}")


def tell_depth(data: CocoIndex) -> None:
    """Warn of pictures of 16 bits that come out nearly black, by the first one: a set has usually one source."""
    if dark := depth_told(data.images[0].path):
        print(visible(f"warning: {data.images[0].path}: has {dark}."), file=sys.stderr)


def check_learnable(data: CocoIndex, remove_difficult: bool = False) -> None:
    """Errors: DetrError, with the cause, for a dataset in which there is no object to train on."""
    objects = data.objects
    learned = ~objects.iscrowd & (objects.boxes[:, 2:] > 0).all(axis=1)
    if remove_difficult:
        learned &= ~objects.difficult
    if not learned.any():
        what, fix = nothing_of(data)
        raise DetrError(f"{data.file}: there is nothing to train on: {what}.", fix)


def nothing_of(data: CocoIndex) -> tuple[str, str]:
    """Why none of a dataset's objects is trained on or measured, and what to do."""
    objects = data.objects
    if not len(objects):
        return "it has no objects", "Pass annotations with objects."
    if objects.iscrowd.all():
        return (f"all of its {len(objects)} objects are crowds (iscrowd 1)",
                "If each is one object, pass --crowds objects.")
    return f"none of its {len(objects)} objects is left that is no crowd, has an area and is wanted", \
        "Look at iscrowd, at the boxes, and at --remove_difficult."


def tell_unmeasured(data: CocoIndex) -> None:
    """Warn of a dataset that AP cannot be measured on."""
    if data.objects.iscrowd.all():
        what, fix = nothing_of(data)
        print(f"warning: {data.file}: there is nothing to measure, so AP stays \"-\": {what}. {fix}",
              file=sys.stderr)


def tell_crowded(data: CocoIndex, queries: int) -> None:
    """Warn of pictures with more objects than queries."""
    counts = data.learned
    if crowded := int((counts > queries).sum()):
        print(f"warning: {data.name}: {crowded} pictures have more than {queries} objects, of which a step learns only "
              f"{queries}; with --num_queries {counts.max()} it learns all.", file=sys.stderr)


