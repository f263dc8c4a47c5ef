"""`detr-jittor predict`: the objects or segments in pictures, drawn and as JSON."""

import argparse
import contextlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import weights_path
from detr_jittor.checkpoint.store import load
from detr_jittor.config import Config
from detr_jittor.data.decode import read_image
from detr_jittor.data.masks import run_lengths
from detr_jittor.data.panoptic import is_thing
from detr_jittor.data.segments import write_segments
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.segmentation import THRESHOLD
from detr_jittor.predictor import Predictor, settings
from detr_jittor.report.pictures import COLOURS, draw_detections
from detr_jittor.report.segments import draw_masks, draw_segmentation
from detr_jittor.types import Classes, Detections

HELP = "find objects in pictures; writes them drawn and as predictions.json"
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="PICTURE|FOLDER", help="picture, or folder of pictures")
    parser.add_argument("--resume", "--weights", required=True, metavar="CKPT",
                        help="checkpoint of either framework, or the name of a published model such as detr-r50")
    parser.add_argument("--output_dir", required=True, metavar="D", help="folder for what is written")
    parser.add_argument("--threshold", type=float,
                        help=f"smallest score that is shown (default 0.7, of panoptic segments {THRESHOLD})")
    parser.add_argument("--framework", choices=("jittor", "pytorch"), default="jittor", help="which twin runs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what it runs on")
    parser.add_argument("--min_size", type=int, help="short side of the pictures (default: the checkpoint's)")
    parser.add_argument("--max_size", type=int, help="longest side of the pictures (default: the checkpoint's)")
    parser.add_argument("--config", metavar="FILE", help="config.json, for a checkpoint that holds none")


def run(args: argparse.Namespace) -> int:
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise DetrError(f"--threshold {args.threshold} is no score.", "Give a number from 0 to 1.")
    folder = Path(args.output_dir)
    files = picture_files(args.pictures)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    drawings = drawing_names(files, folder)
    args.resume = str(weights_path(args.resume))
    checkpoint = load(args.resume)
    predictor = Predictor(checkpoint, config_for(checkpoint, args), args.resume)
    records = []
    for file, drawing in zip(files, drawings):
        try:
            pixels = read_image(file, upright=True)
        except DetrError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        with writing(folder):
            found = (segment_one if predictor.is_panoptic else detect_one)(predictor, pixels, drawing, args.threshold)
        height, width = pixels.shape[:2]
        records.append({"file": str(file), "drawing": drawing.name, "width": width, "height": height, **found})
        print(f"{file}: " + (f"{len(found['segments'])} segments" if predictor.is_panoptic
                             else f"{len(found['detections'])} objects"))
    if not records:
        raise DetrError(f"none of the {len(files)} pictures could be read.", "Pass other pictures.")
    with writing(folder):
        (folder / "predictions.json").write_text(json.dumps(records, indent=1, ensure_ascii=False), "utf-8")
    print(f"{len(records)} pictures drawn in {folder}, their objects in {folder / 'predictions.json'}")
    if len(records) < len(files):
        print(f"{len(files) - len(records)} of {len(files)} pictures could not be read")
    return 0


def config_for(checkpoint: Checkpoint, args: argparse.Namespace) -> Config:
    """The checkpoint's settings with those of the command line."""
    sizes = {name: getattr(args, name) for name in ("min_size", "max_size") if getattr(args, name) is not None}
    config = settings(checkpoint, args.resume, args.config)
    return config.replace(framework=args.framework, device=args.device, **sizes)


def picture_files(arguments: list[str]) -> list[Path]:
    """The pictures, each once; of a folder those directly in it, by name.

    Errors: DetrError for a folder without pictures. A file that is missing is told like one that cannot be read.
    """
    files: list[Path] = []
    for argument in map(Path, arguments):
        if not argument.is_dir():
            files.append(argument)
            continue
        inside = sorted(f for f in argument.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file())
        if not inside:
            raise DetrError(f"{argument}: no pictures in this folder.",
                            f"Pass one that holds {', '.join(sorted(SUFFIXES))}.")
        files += inside
    return list(dict.fromkeys(files))


def drawing_names(files: list[Path], folder: Path) -> list[Path]:
    """Where each drawing goes: the picture's name as .jpg, with a number where several pictures share it.

    Errors: DetrError if a drawing would replace one of the pictures.
    """
    drawings: list[Path] = []
    taken = set()
    for file in files:
        stem, number = file.stem, 1
        while stem.lower() in taken:
            number += 1
            stem = f"{file.stem}-{number}"
        taken.add(stem.lower())
        drawings.append(folder / f"{stem}.jpg")
    sources = {file.resolve() for file in files}
    if replaced := next((d for d in drawings if d.resolve() in sources), None):
        raise DetrError(f"{replaced}: the drawing would replace this picture.", "Choose another --output_dir.")
    return drawings


def detect_one(predictor: Predictor, pixels: np.ndarray, drawing: Path, threshold: float | None) -> dict:
    """Draw the objects of a picture. Returns: what predictions.json says of them."""
    found = predictor.detect(pixels, 0.7 if threshold is None else threshold)
    image = Image.fromarray(pixels)
    if found.masks is not None:
        image = draw_masks(image, found.masks, [COLOURS[label % len(COLOURS)] for label in found.labels])
    names = predictor.classes.name_of()
    draw_detections(image, found.boxes, found.labels, found.scores, names).save(drawing, quality=95)
    return {"detections": detection_records(found, predictor.classes)}


def detection_records(found: Detections, classes: Classes) -> list[dict]:
    """Detections in COCO's format of results; boxes are [x, y, width, height] in pixels, masks are run lengths."""
    category_of, name_of = classes.category_of(), classes.name_of()
    records = [
        {"category_id": category_of[label], "category": name_of[label], "score": round(score, 4),
         "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]}
        for score, label, (x1, y1, x2, y2) in zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist())]
    if found.masks is not None:
        for record, mask in zip(records, found.masks):
            record |= {"area": int(mask.sum()), "segmentation": run_lengths(mask)}
    return records


def segment_one(predictor: Predictor, pixels: np.ndarray, drawing: Path, threshold: float | None) -> dict:
    """Draw the segments of a picture, and write them as COCO's panoptic PNG. Returns: what predictions.json says."""
    found = predictor.segment(pixels, THRESHOLD if threshold is None else threshold)
    category_of, name_of = predictor.classes.category_of(), predictor.classes.name_of()
    draw_segmentation(Image.fromarray(pixels), found, name_of).save(drawing, quality=95)
    file = drawing.with_name(f"{drawing.stem}_segments.png")
    write_segments(found.numbers, file)
    areas = np.bincount(found.numbers.ravel(), minlength=len(found.labels) + 1)[1:].tolist()
    segments = [{"id": k + 1, "category_id": category_of[label], "category": name_of[label], "score": round(score, 4),
                 "area": area, "isthing": int(is_thing(category_of[label]))}
                for k, (label, score, area) in enumerate(zip(found.labels.tolist(), found.scores.tolist(), areas))]
    return {"segment_file": file.name, "segments": segments}


@contextlib.contextmanager
def writing(folder: Path):
    """Turns what goes wrong on disk into an error that the user reads."""
    try:
        yield
    except OSError as error:
        raise DetrError(f"{folder}: cannot be written ({error.strerror or error}).",
                        "Choose another --output_dir.") from None
