"""`detr-jittor predict`: the objects or segments in pictures, drawn and as JSON."""

import argparse
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.checkpoint.architecture import told
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import FRAMEWORKS, Config
from detr_jittor.data.decode import depth_told, read_image, readable_suffixes
from detr_jittor.data.masks import run_lengths
from detr_jittor.data.segments import write_segments
from detr_jittor.engine.start import opened
from detr_jittor.errors import DetrError, visible, writing
from detr_jittor.evaluate.segmentation import THRESHOLD
from detr_jittor.predict.predictor import Predictor, settings
from detr_jittor.predict.video import Video, VideoWriter
from detr_jittor.report.attention import draw_objects, draw_points
from detr_jittor.report.pictures import COLOURS, draw_detections
from detr_jittor.report.progress import Progress
from detr_jittor.report.segments import draw_masks, draw_segmentation
from detr_jittor.types import Classes, Detections

HELP = "find objects in pictures; writes them drawn and as predictions.json"
MOST_POINTS = 3  # whose attention is drawn where none are given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="*", metavar="PICTURE|FOLDER", help="picture, or folder of pictures")
    parser.add_argument("--video", metavar="FILE", help="video, in place of pictures (needs the package av)")
    parser.add_argument("--resume", "--weights", required=True, metavar="CKPT",
                        help="checkpoint of either framework, or the name of a published model such as detr-r50")
    parser.add_argument("--output_dir", required=True, metavar="D", help="folder for what is written")
    parser.add_argument("--threshold", type=float,
                        help="smallest score that is shown (default 0.7, with --decoder box 0.4, of segments "
                             f"{THRESHOLD})")
    parser.add_argument("--attention", action="store_true",
                        help="draw too where the model looks: for each object, and from points of the picture")
    parser.add_argument("--points", nargs="+", metavar="X,Y", type=point,
                        help="these points, in pixels of the picture (default: the middles of the best objects)")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="jittor", help="which twin runs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what it runs on")
    parser.add_argument("--min_size", type=int, help="short side of the pictures (default: the checkpoint's)")
    parser.add_argument("--max_size", type=int, help="longest side of the pictures (default: the checkpoint's)")
    parser.add_argument("--config", metavar="FILE", help="config.json, for a checkpoint that holds none")


def run(args: argparse.Namespace) -> int:
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise DetrError(f"--threshold {args.threshold} is no score.", "Give a number from 0 to 1.")
    if bool(args.pictures) == bool(args.video):
        raise DetrError("predict takes pictures or one --video.", "Pass either.")
    if args.attention and args.video:
        raise DetrError("--attention goes with pictures only.", "Leave out --video.")
    if args.points and not args.attention:
        raise DetrError("--points are those of --attention.", "Pass --attention too.")
    folder = Path(args.output_dir)
    files = [Path(args.video)] if args.video else picture_files(args.pictures)
    with writing(f"{folder}:"):
        folder.mkdir(parents=True, exist_ok=True)
    drawings = drawing_names(files, folder, ".mp4" if args.video else ".jpg")
    video = Video(args.video) if args.video else None
    args.resume, checkpoint = opened(args.resume)
    if not args.config:
        for sentence in told(checkpoint, args.resume):
            print(sentence)
    predictor = Predictor(checkpoint, config_for(checkpoint, args), args.resume)
    if video:
        records = [predict_video(predictor, video, drawings[0], args.threshold)]
    else:
        records = predict_pictures(predictor, files, drawings, args)
    with writing(f"{folder}:"):
        text = json.dumps(records, indent=1, ensure_ascii=False)
        (folder / "predictions.json").write_text(text, "utf-8", "backslashreplace")  # which is JSON's own escape
    print(f"{len(records)} {'video' if video else 'pictures'} drawn in {folder}, what was found in "
          f"{folder / 'predictions.json'}")
    if len(records) < len(files):
        print(f"{len(files) - len(records)} of {len(files)} pictures could not be read")
    return 0


def predict_pictures(predictor: Predictor, files: list[Path], drawings: list[Path], args: argparse.Namespace) -> list:
    """Draw each picture. Returns: the records of predictions.json. Errors: DetrError if none can be read."""
    records = []
    for file, drawing in zip(files, drawings):
        try:
            pixels = read_image(file)
        except DetrError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        if dark := depth_told(file):
            print(visible(f"{file}: {dark}."))
        image, found, segments = find(predictor, pixels, args.threshold)
        with writing(f"{drawing.parent}:"):
            image.save(drawing, quality=95)
            if segments is not None:
                found = {"segment_file": f"{drawing.stem}_segments.png", **found}
                write_segments(segments, drawing.with_name(found["segment_file"]))
            if args.attention:
                draw_attention(predictor, pixels, drawing, args.threshold, args.points)
        records.append({"file": str(file), "drawing": drawing.name, "width": pixels.shape[1],
                        "height": pixels.shape[0], **found})
        print(f"{file}: {counted(found)}")
    if not records:
        raise DetrError(f"none of the {len(files)} pictures could be read.", "Pass other pictures.")
    return records


def predict_video(predictor: Predictor, video: Video, drawing: Path, threshold: float | None) -> dict:
    """Draw a video, frame by frame. Returns: the record of predictions.json."""
    record = {"file": str(video.path), "drawing": drawing.name, "pictures_a_second": round(float(video.rate), 3)}
    pictures, stopped = [], None
    with (writing(f"{drawing.parent}:"), contextlib.closing(video),
          contextlib.closing(VideoWriter(drawing, video.rate)) as out,
          contextlib.closing(Progress(str(video.path), video.length)) as progress):
        try:
            for seconds, pixels in video.pictures():
                image, found, _ = find(predictor, pixels, threshold)
                out.add(image)
                record |= {"width": pixels.shape[1], "height": pixels.shape[0]}
                pictures.append({"seconds": round(seconds, 3), **found})
                progress.update({"found": counted(found)})
        except DetrError as error:
            stopped = error
    if not pictures:
        raise stopped or DetrError(f"{video.path}: holds no pictures.", "Pass another video.")
    if stopped:
        print(f"warning: {stopped}", file=sys.stderr)
    print(f"{video.path}: {len(pictures)} pictures")
    return {**record, "pictures": pictures}


def counted(found: dict) -> str:
    what = "segment" if "segments" in found else "object"
    n = len(found["segments" if "segments" in found else "detections"])
    return f"{n} {what}" + "s" * (n != 1)


def point(text: str) -> tuple[int, int]:
    """"X,Y" """
    x, y = (int(part) for part in text.split(","))
    return x, y


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
        suffixes = readable_suffixes()
        inside = sorted(f for f in argument.iterdir() if f.is_file() and not f.name.startswith("."))
        pictures = [f for f in inside if f.suffix.lower() in suffixes]
        if not pictures:
            raise DetrError(f"{argument}: no pictures in this folder{skipped(inside)}.",
                            "Pass one that holds pictures, such as .jpg, .png, .tif or .webp.")
        if len(pictures) < len(inside):
            print(visible(f"{argument}: {len(pictures)} pictures{skipped(set(inside) - set(pictures))}"))
        files += pictures
    return list(dict.fromkeys(files))


def skipped(files: Collection[Path]) -> str:
    """How many files are no pictures, and of which kinds, in words; HEIC is a picture that Pillow does not read."""
    if not files:
        return ""
    kinds = Counter(f.suffix.lower() or "no suffix" for f in files).most_common(5)
    heic = " (save .heic as .jpg to have them read)" if {".heic", ".heif"} & {kind for kind, _ in kinds} else ""
    return f"; {len(files)} other files are skipped ({', '.join(f'{count} {kind}' for kind, count in kinds)}){heic}"


def drawing_names(files: list[Path], folder: Path, suffix: str) -> list[Path]:
    """Where each drawing goes: the picture's name with this suffix, and with a number where several pictures share it.

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
        drawings.append(folder / f"{stem}{suffix}")
    sources = {file.resolve() for file in files}
    if replaced := next((d for d in drawings if d.resolve() in sources), None):
        raise DetrError(f"{replaced}: the drawing would replace this picture.", "Choose another --output_dir.")
    return drawings


def find(predictor: Predictor, pixels: np.ndarray,
         threshold: float | None) -> tuple[Image.Image, dict, np.ndarray | None]:
    """The picture with what is found in it, what predictions.json says of that, and the segments [H, W] if any."""
    if predictor.is_panoptic:
        return find_segments(predictor, pixels, THRESHOLD if threshold is None else threshold)
    found = predictor.detect(pixels, threshold)
    image = Image.fromarray(pixels)
    if found.masks is not None:
        image = draw_masks(image, found.masks, [COLOURS[label % len(COLOURS)] for label in found.labels])
    image = draw_detections(image, found.boxes, found.labels, found.scores, predictor.classes.name_of())
    return image, {"detections": detection_records(found, predictor.classes)}, None


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


def find_segments(predictor: Predictor, pixels: np.ndarray, threshold: float) -> tuple[Image.Image, dict, np.ndarray]:
    found = predictor.segment(pixels, threshold)
    category_of, name_of = predictor.classes.category_of(), predictor.classes.name_of()
    areas = np.bincount(found.numbers.ravel(), minlength=len(found.labels) + 1)[1:].tolist()
    segments = [{"id": k + 1, "category_id": category_of[label], "category": name_of[label], "score": round(score, 4),
                 "area": area, "isthing": int(not predictor.classes.is_stuff(label))}
                for k, (label, score, area) in enumerate(zip(found.labels.tolist(), found.scores.tolist(), areas))]
    return draw_segmentation(Image.fromarray(pixels), found, name_of), {"segments": segments}, found.numbers


def draw_attention(predictor: Predictor, pixels: np.ndarray, drawing: Path, threshold: float | None,
                   points: list[tuple[int, int]] | None) -> None:
    """Beside the drawing NAME.jpg: NAME_objects.jpg, where the decoder looks for each object, and NAME_points.jpg,
    where the encoder looks from points of the picture."""
    look, (height, width) = predictor.look(pixels, threshold), pixels.shape[:2]
    image = Image.fromarray(pixels)
    if len(look.found.boxes):
        sheet = draw_objects(image, look, predictor.classes.name_of())
        sheet.save(drawing.with_name(f"{drawing.stem}_objects.jpg"), quality=95)
    if look.places is None:
        return
    middles = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in look.found.boxes[:MOST_POINTS].tolist()]
    chosen = points or middles or [(width / 2, height / 2)]
    inside = [(min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)) for x, y in chosen]
    draw_points(image, look, inside).save(drawing.with_name(f"{drawing.stem}_points.jpg"), quality=95)
