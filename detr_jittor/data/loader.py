"""The batches of an epoch, in an order and with pixels that depend on nothing but the seed and the epoch."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from detr_jittor.config.options import DataConfig
from detr_jittor.data.batch import Request, make_batch
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.pool import Pool
from detr_jittor.data.recipe import Recipe
from detr_jittor.errors import DetrError
from detr_jittor.twin.seeding import generator
from detr_jittor.types import Batch


class Loader:
    """Batches of a dataset, made ahead by `data.num_workers` processes, or in this one where that is 0.

    Training: shuffled anew each epoch, augmented, without the last incomplete batch (or step, of several processes).
    Evaluation: in the order of the index, not augmented, complete. A picture that cannot be read is left out of its
    batch and named in `Batch.bad_images`; a batch of which none can be read is empty.
    """

    def __init__(self, index: CocoIndex, data: DataConfig, batch_size: int, train: bool, seed: int,
                 masks: bool = False, rank: int = 0, processes: int = 1):
        """
        Args:
            masks: give targets masks; the index must have been read with them.
            rank, processes: the batches are dealt out to so many processes, and this one gets each `rank`-th.

        Errors: DetrError for a batch size, a number of workers or a picture size that cannot be.
        """
        if batch_size < 1 or data.num_workers < 0:
            raise DetrError(f"--batch_size {batch_size} --num_workers {data.num_workers}: these cannot be.",
                            "Give a --batch_size from 1 and a --num_workers from 0.")
        if train and len(index) < batch_size * processes:
            each = f" in each of {processes} processes" if processes > 1 else ""
            raise DetrError(f"{index.name}: {len(index)} pictures do not make a batch of {batch_size}{each}.",
                            f"Give a --batch_size of at most {len(index) // processes}.")
        if masks and index.objects.segmentations is None:
            raise ValueError("the index was read without masks")
        self.index, self.batch_size, self.train, self.seed, self.masks = index, batch_size, train, seed, masks
        self.rank, self.processes = rank, processes
        self.remove_difficult = data.remove_difficult
        self.recipe = Recipe(data.augmentation if train else "none", data.min_size, data.max_size)
        self.pool = Pool(data.num_workers) if data.num_workers else None

    def __len__(self) -> int:
        """Batches in an epoch, of this process."""
        return len(self.numbers())

    def numbers(self, start: int = 0) -> range:
        """The numbers of this process's batches among those of all processes, from its own number `start` on.

        In training each process has as many; in a step their batches are neighbours, so that N of B pictures are the
        pictures of one batch of N · B.
        """
        whole, rest = divmod(len(self.index), self.batch_size)
        total = whole - whole % self.processes if self.train else whole + (rest > 0)
        return range(self.rank + start * self.processes, total, self.processes)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on. One epoch at a time; it may be given up half-way.

        Errors: DetrError if a worker dies or hangs.
        """
        order, size = self.order(epoch), self.batch_size
        requests = (self.request(epoch, order[b * size:(b + 1) * size]) for b in self.numbers(start))
        return self.pool.run(requests) if self.pool else map(make_batch, requests)

    def order(self, epoch: int) -> np.ndarray:
        """[N] the places in the index in the order of an epoch."""
        count = len(self.index)
        return generator(self.seed, epoch).permutation(count) if self.train else np.arange(count)

    def request(self, epoch: int, places: np.ndarray) -> Request:
        """What a batch of the pictures at these places [B] of the index is made of."""
        annotations = [self.index.annotations(place) for place in places]
        if not self.masks:
            annotations = [replace(a, segmentations=None) for a in annotations]
        return Request([self.index.images[place] for place in places], annotations, self.recipe, self.seed, epoch,
                       self.remove_difficult)

    def close(self) -> None:
        """End the workers."""
        if self.pool:
            self.pool.close()
