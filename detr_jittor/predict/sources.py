"""The pictures that one asks about: files, folders, Pillow's pictures and arrays; read ahead while the model works."""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.data.batch import Request, make_batch
from detr_jittor.data.decode import pixels_of, read_image, readable_suffixes
from detr_jittor.data.pool import Pool
from detr_jittor.data.recipe import Recipe
from detr_jittor.data.records import ImageRecord
from detr_jittor.errors import DetrError, visible
from detr_jittor.predict.predictor import batch_of
from detr_jittor.types import Batch

Picture = str | os.PathLike | np.ndarray | Image.Image
AHEAD_FROM = 3  # batches of files; fewer are read sooner in this process than others start


@dataclass(frozen=True)
class Asked:
    """The pictures of a question, in order.

    Attributes:
        pictures: files, or arrays [H, W, 3] uint8.
        single: whether one picture was asked about, so that one answer is expected.
        strict: whether one that cannot be read is an error, as where it was named. Of a folder it is left out.
    """

    pictures: list[Path | np.ndarray]
    single: bool
    strict: bool


def asked(pictures: Picture | Iterable[Picture]) -> Asked:
    """Errors: DetrError for a folder without pictures, and for what is no picture."""
    if isinstance(pictures, (str, os.PathLike)):
        path = Path(pictures)
        return Asked(picture_files([path]), False, False) if path.is_dir() else Asked([path], True, True)
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        return Asked([pixels_in(array) for array in pictures], False, True)
    if isinstance(pictures, (np.ndarray, Image.Image)):
        return Asked([pixels_in(pictures)], True, True)
    if not isinstance(pictures, Iterable) or isinstance(pictures, (bytes, dict)):
        raise no_picture(pictures)
    found: list[Path | np.ndarray] = []
    for picture in pictures:
        if isinstance(picture, (str, os.PathLike)):
            found += picture_files([Path(picture)])
        else:
            found.append(pixels_in(picture))
    return Asked(found, False, True)


def pixels_in(picture: np.ndarray | Image.Image) -> np.ndarray:
    """[H, W, 3] uint8 of a picture in memory: of an array grey is taken three times and alpha is dropped.

    Errors: DetrError for what is no picture.
    """
    if isinstance(picture, Image.Image):
        return pixels_of(picture)
    if not isinstance(picture, np.ndarray):
        raise no_picture(picture)
    array = picture[:, :, None] if picture.ndim == 2 else picture
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape or array.dtype != np.uint8:
        raise DetrError(f"an array of shape {list(picture.shape)} and type {picture.dtype} is no picture.",
                        "Pass [height, width, 3] uint8, red first; of OpenCV's pictures [:, :, ::-1].")
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[:, :, :3])


def no_picture(thing) -> DetrError:
    return DetrError(f"{type(thing).__name__} is no picture.",
                     "Pass a path, a picture of Pillow, an array [height, width, 3] uint8, a list of them or a folder.")


def batches(pictures: list[Path | np.ndarray], recipe: Recipe, size: int, workers: int) -> Iterator[Batch]:
    """The pictures in batches of at most `size`; each target's `image_id` is the picture's place in the list.

    Files are read ahead by so many processes where there are enough of them. Those that cannot be read are left out of
    their batch and named in `bad_images`.

    Errors: DetrError if a reading process dies.
    """
    if any(isinstance(picture, np.ndarray) for picture in pictures):
        yield from (batch_at(pictures, places, recipe) for places in chunks(len(pictures), size))
        return
    requests = (Request([ImageRecord(place, str(pictures[place]), 0, 0) for place in places], None, recipe, 0, 0)
                for places in chunks(len(pictures), size))
    if not workers or len(pictures) < AHEAD_FROM * size:
        yield from map(make_batch, requests)
        return
    pool = Pool(workers)
    try:
        yield from pool.run(requests)
    finally:
        pool.close()


def batch_at(pictures: list[Path | np.ndarray], places: list[int], recipe: Recipe) -> Batch:
    """A batch of arrays, and of files among them."""
    bad_images, kept, arrays = [], [], []
    for place in places:
        picture = pictures[place]
        try:
            arrays.append(picture if isinstance(picture, np.ndarray) else read_image(picture))
            kept.append(place)
        except DetrError as error:
            bad_images.append(str(error))
    batch = batch_of(arrays, recipe)
    for target, place in zip(batch.targets, kept):
        target.image_id = place
    return Batch(batch.images, batch.mask, batch.targets, bad_images)


def chunks(count: int, size: int) -> Iterator[list[int]]:
    """[0, 1], [2, 3], …"""
    places = iter(range(count))
    while part := list(itertools.islice(places, size)):
        yield part


def picture_files(paths: list[Path]) -> list[Path]:
    """The pictures, each once; of a folder those directly in it, by name.

    Errors: DetrError for a folder without pictures. A file that is missing is told like one that cannot be read.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        suffixes = readable_suffixes()
        inside = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
        pictures = [f for f in inside if f.suffix.lower() in suffixes]
        if not pictures:
            raise DetrError(f"{path}: no pictures in this folder{skipped(inside)}.",
                            "Pass one that holds pictures, such as .jpg, .png, .tif or .webp.")
        if len(pictures) < len(inside):
            print(visible(f"{path}: {len(pictures)} pictures{skipped(set(inside) - set(pictures))}"))
        files += pictures
    return list(dict.fromkeys(files))


def skipped(files: Collection[Path]) -> str:
    """How many files are no pictures, and of which kinds, in words; HEIC is a picture that Pillow does not read."""
    if not files:
        return ""
    kinds = Counter(f.suffix.lower() or "no suffix" for f in files).most_common(5)
    heic = " (save .heic as .jpg to have them read)" if {".heic", ".heif"} & {kind for kind, _ in kinds} else ""
    return f"; {len(files)} other files are skipped ({', '.join(f'{count} {kind}' for kind, count in kinds)}){heic}"
