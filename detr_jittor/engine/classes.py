"""The labels of a checkpoint and the classes of a dataset: matched by name, never by number alone."""

from detr_jittor.checkpoint.architecture import guessed_classes, num_classes
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import is_official
from detr_jittor.config.options import Config
from detr_jittor.data.coco import CocoIndex
from detr_jittor.engine.start import WEIGHTS, Start
from detr_jittor.errors import DetrError, visible
from detr_jittor.types import Classes


def in_its_labels(config: Config, start: Start, data: CocoIndex) -> CocoIndex:
    """The dataset with the labels of the checkpoint that a run goes on from, is frozen below its mask head, or is
    evaluated; as it is where there is none, or one whose class head is made to fit.

    Errors: DetrError if the checkpoint lacks one of the dataset's classes, or has another number of outputs.
    """
    if start.checkpoint is None or (start.mode == WEIGHTS and not config.run.eval):
        return data
    return labelled_as(start.file, start.checkpoint, data, config.model.num_classes)


def labelled_as(file: str, checkpoint: Checkpoint, data: CocoIndex, wanted: int | None) -> CocoIndex:
    """The dataset with a checkpoint's labels; says so where they are not the dataset's own.

    A file that names no classes is taken to have COCO's, where it has as many outputs and COCO has all the dataset's
    names; else its labels are taken to be the dataset's. Either is said.

    Errors: as `in_its_labels`.
    """
    own, labelled = data.classes, data
    if checkpoint.classes:
        labelled = by_name(file, checkpoint.classes, data)
    elif num_classes(checkpoint) is not None:
        guess = guessed_classes(checkpoint)
        if guess and len(guess.labels_for(own)) == len(own.labels):
            labelled = data.relabelled(guess)
            if not is_official(file):
                print(visible(f"{file}: names no classes; the names are COCO's, guessed from {guess.num_classes} "
                              "outputs."))
        else:
            print(visible(f"{file}: names no classes: its outputs are taken to be the categories of {data.name}, by "
                          "their ids."))
    check_outputs(file, checkpoint, data, wanted)
    if labelled.classes.labels != own.labels:
        print(visible(f"{data.name}: its classes have other numbers than in {file}: they are matched by name."))
    return labelled


def by_name(file: str, known: Classes, data: CocoIndex) -> CocoIndex:
    """Errors: DetrError if the dataset has a name that is not among the known classes."""
    matched = known.labels_for(data.classes)
    strange = [category for category, label in data.classes.label_of().items() if label not in matched]
    if strange:
        raise DetrError(f"{file}: trained on other classes than {data.name}, whose {listed(strange, data.classes)} "
                        "it does not have.", "Give it the dataset that it was trained on.")
    return data.relabelled(known)


def check_outputs(file: str, checkpoint: Checkpoint, data: CocoIndex, wanted: int | None) -> None:
    """Errors: DetrError if a checkpoint has another number of classes than is wanted."""
    count, wanted = num_classes(checkpoint), wanted or (checkpoint.classes or data.classes).num_classes
    if count not in (None, wanted):
        raise DetrError(f"{file}: has {count} classes, but {wanted} are wanted for {data.name}.",
                        f"Give it its own dataset, or pass --num_classes {count} if the labels agree; to begin with "
                        "its weights and other classes, pass --weights.")


def listed(categories: list[int], classes: Classes) -> str:
    names = dict(zip(classes.category_ids, classes.names))
    shown = ", ".join(f"{c} ({names[c]})" for c in categories[:5])
    return f"categories {shown}{', …' if len(categories) > 5 else ''}" if len(categories) > 1 else f"category {shown}"
