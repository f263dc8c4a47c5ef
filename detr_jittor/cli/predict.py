"""`detr-jittor predict`: the objects or segments in pictures, drawn and as JSON."""

import argparse
import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from detr_jittor.checkpoint.architecture import told
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import FRAMEWORKS, Config
from detr_jittor.data.decode import depth_told, read_image
from detr_jittor.data.segments import write_segments
from detr_jittor.engine.start import opened
from detr_jittor.errors import DetrError, visible, writing
from detr_jittor.evaluate.segmentation import THRESHOLD
from detr_jittor.predict.found import Found
from detr_jittor.predict.looked import Looked
from detr_jittor.predict.predictor import Predictor, Threshold, batch_of, settings
from detr_jittor.predict.sources import picture_files
from detr_jittor.predict.tiles import SMALLEST, find_in_tiles
from detr_jittor.predict.video import Video, VideoWriter
from detr_jittor.report.progress import Progress

HELP = "find objects in pictures; writes them drawn and as predictions.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="*", metavar="PICTURE|FOLDER", help="picture, or folder of pictures")
    parser.add_argument("--video", metavar="FILE", help="video, in place of pictures (needs the package av)")
    parser.add_argument("--resume", "--weights", required=True, metavar="CKPT",
                        help="checkpoint of either framework, or the name of a published model such as detr-r50")
    parser.add_argument("--output_dir", required=True, metavar="D", help="folder for what is written")
    parser.add_argument("--threshold", type=threshold, metavar="SCORE|best|FILE",
                        help="smallest score that is shown (default 0.7, with --decoder box 0.4, of segments "
                             f"{THRESHOLD}); best: for each class the one from which its F1 was best at the last "
                             "evaluation of its training; or the mistakes.json of an evaluation")
    parser.add_argument("--tile", type=int, metavar="PIXELS",
                        help="look at large pictures in overlapping tiles of this side too, to find small objects")
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
    if isinstance(args.threshold, float) and not 0 <= args.threshold <= 1:
        raise DetrError(f"--threshold {args.threshold} is no score.", "Give a number from 0 to 1.")
    if args.tile is not None and args.tile < SMALLEST:
        raise DetrError(f"--tile {args.tile} is too small.", f"Give at least {SMALLEST} pixels.")
    if args.tile and args.attention:
        raise DetrError("--attention goes with whole pictures.", "Leave out --tile.")
    if bool(args.pictures) == bool(args.video):
        raise DetrError("predict takes pictures or one --video.", "Pass either.")
    if args.attention and args.video:
        raise DetrError("--attention goes with pictures only.", "Leave out --video.")
    if args.points and not args.attention:
        raise DetrError("--points are those of --attention.", "Pass --attention too.")
    folder = Path(args.output_dir)
    files = [Path(args.video)] if args.video else picture_files([Path(name) for name in args.pictures])
    with writing(f"{folder}:"):
        folder.mkdir(parents=True, exist_ok=True)
    drawings = drawing_names(files, folder, ".mp4" if args.video else ".jpg")
    video = Video(args.video) if args.video else None
    args.resume, checkpoint = opened(args.resume)
    if not args.config:
        for sentence in told(checkpoint, args.resume):
            print(sentence)
    predictor = Predictor(checkpoint, config_for(checkpoint, args), args.resume)
    args.threshold = predictor.threshold_of(args.threshold)
    if video:
        records = [predict_video(predictor, video, drawings[0], args)]
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
        found = find(predictor, pixels, args)
        record = record_of(found)
        with writing(f"{drawing.parent}:"):
            found.draw().save(drawing, quality=95)
            if found.segmentation:
                record = {"segment_file": f"{drawing.stem}_segments.png", **record}
                write_segments(found.segmentation.numbers, drawing.with_name(record["segment_file"]))
            if args.attention:
                draw_attention(predictor, pixels, drawing, args.threshold, args.points)
        records.append({"file": str(file), "drawing": drawing.name, "width": found.width, "height": found.height,
                        **record})
        print(f"{file}: {counted(found)}")
    if not records:
        raise DetrError(f"none of the {len(files)} pictures could be read.", "Pass other pictures.")
    return records


def predict_video(predictor: Predictor, video: Video, drawing: Path, args: argparse.Namespace) -> dict:
    """Draw a video, frame by frame. Returns: the record of predictions.json."""
    record = {"file": str(video.path), "drawing": drawing.name, "pictures_a_second": round(float(video.rate), 3)}
    pictures, stopped = [], None
    with (writing(f"{drawing.parent}:"), contextlib.closing(video),
          contextlib.closing(VideoWriter(drawing, video.rate)) as out,
          contextlib.closing(Progress(str(video.path), video.length)) as progress):
        try:
            for seconds, pixels in video.pictures():
                found = find(predictor, pixels, args)
                out.add(found.draw())
                record |= {"width": found.width, "height": found.height}
                pictures.append({"seconds": round(seconds, 3), **record_of(found)})
                progress.update({"found": counted(found)})
        except DetrError as error:
            stopped = error
    if not pictures:
        raise stopped or DetrError(f"{video.path}: holds no pictures.", "Pass another video.")
    if stopped:
        print(f"warning: {stopped}", file=sys.stderr)
    print(f"{video.path}: {len(pictures)} pictures")
    return {**record, "pictures": pictures}


def counted(found: Found) -> str:
    return f"{len(found)} {'segment' if found.segmentation else 'object'}" + "s" * (len(found) != 1)


def threshold(text: str) -> float | str:
    """A number, or what else `Predictor.threshold_of` knows."""
    try:
        return float(text)
    except ValueError:
        return text


def point(text: str) -> tuple[int, int]:
    """"X,Y" """
    x, y = (int(part) for part in text.split(","))
    return x, y


def config_for(checkpoint: Checkpoint, args: argparse.Namespace) -> Config:
    """The checkpoint's settings with those of the command line."""
    sizes = {name: getattr(args, name) for name in ("min_size", "max_size") if getattr(args, name) is not None}
    config = settings(checkpoint, args.resume, args.config)
    return config.replace(framework=args.framework, device=args.device, **sizes)


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


def find(predictor: Predictor, pixels: np.ndarray, args: argparse.Namespace) -> Found:
    """What is found in a picture, with the pixels for the drawing."""
    if args.tile:
        what = find_in_tiles(predictor, pixels, args.tile, args.threshold)
    else:
        (what,) = predictor.find(batch_of([pixels], predictor.recipe), args.threshold)
    return Found(pixels, pixels.shape[:2], what, predictor.classes)


def record_of(found: Found) -> dict:
    """What predictions.json says of a picture, besides its name."""
    return {"segments" if found.segmentation else "detections": found.records()}


def draw_attention(predictor: Predictor, pixels: np.ndarray, drawing: Path, threshold: Threshold,
                   points: list[tuple[int, int]] | None) -> None:
    """Beside the drawing NAME.jpg: NAME_objects.jpg, where the decoder looks for each object, and NAME_points.jpg,
    where the encoder looks from points of the picture."""
    looked = Looked(pixels, pixels, predictor.look(pixels, threshold), predictor.classes)
    for name, sheet in (("objects", looked.objects()), ("points", looked.points(points))):
        if sheet:
            sheet.save(drawing.with_name(f"{drawing.stem}_{name}.jpg"), quality=95)
