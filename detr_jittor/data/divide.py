"""A validation split cut out of a training split. N pictures in G groups, C classes."""

import hashlib
import re

import numpy as np

from detr_jittor.data.coco import CocoIndex

SHARE = 0.2  # of the pictures that are kept for validation
# Roboflow writes several augmented copies of a picture, "street_jpg.rf.0a1b….jpg": they are one group.
COPY = re.compile(r"\.rf\.[0-9A-Za-z]{6,}\.[^.]+$")


def divided(index: CocoIndex) -> tuple[CocoIndex, CocoIndex]:
    """(training, validation): the same for the same pictures, and with every class in proportion.

    By iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML 2011): class by class, from the rarest, each
    picture goes where more of that class are still wanted. A class in one or two pictures stays in training. Copies of
    one picture stay together.
    """
    if len(index) < 2:
        index.remarks.append("there is one picture and no validation split: it serves for both")
        return index, index
    groups = groups_of(index)
    chosen = choose(presence(index, groups), np.bincount(groups))
    kept = np.flatnonzero(chosen[groups])
    train, val = index.at(np.flatnonzero(~chosen[groups])), index.at(kept)
    train.remarks.append(f"there is no validation split: {len(kept)} of {len(index)} pictures are kept for one, of "
                         "every class its part, the same ones each time")
    train.name, val.name = f"{index.name} (for training)", f"{index.name} (for validation)"
    val.remarks = []
    return train, val


def groups_of(index: CocoIndex) -> np.ndarray:
    """[N] the group of each picture; groups are numbered by a digest of their name, whatever order the files have."""
    names = [COPY.sub("", image.path.rpartition("/")[2]) for image in index.images]
    order = sorted(set(names), key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    number = {name: place for place, name in enumerate(order)}
    return np.array([number[name] for name in names])


def presence(index: CocoIndex, groups: np.ndarray) -> np.ndarray:
    """[G, C + 1] bool: which classes a group shows, the last stands for no object at all."""
    found = np.zeros((groups.max() + 1, index.classes.num_classes + 1), bool)
    for place, group in enumerate(groups):
        found[group, index.annotations(place).labels] = True
    found[~found.any(axis=1), -1] = True
    return found


def choose(found: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[G] bool: which groups are for validation.

    Args:
        found: [G, C] bool, the classes in each group.
        sizes: [G] pictures of each group.
    """
    weight = found * sizes[:, None]
    wanted = np.array([[1 - SHARE], [SHARE]]) * weight.sum(axis=0)  # [2, C] still wanted in training and validation
    room = np.array([1 - SHARE, SHARE]) * sizes.sum()
    left, chosen = np.ones(len(found), bool), np.zeros(len(found), bool)
    while left.any():
        counts = found[left].sum(axis=0)
        rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin())
        for group in np.flatnonzero(left & found[:, rarest]):
            side = int((wanted[1, rarest], room[1]) > (wanted[0, rarest], room[0]))
            chosen[group] = bool(side)
            wanted[side] -= weight[group]
            room[side] -= sizes[group]
            left[group] = False
    if not chosen.any() and len(found) > 1:
        chosen[int(sizes.argmin())] = True
    return chosen
