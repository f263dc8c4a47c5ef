"""`detr-jittor demo`: the main road from generated pictures to curves, without any download."""

import argparse
import time
from pathlib import Path

from PIL import Image

from detr_jittor.cli.commands import main
from detr_jittor.config.options import FRAMEWORKS, OPTIONS, Config
from detr_jittor.config.presets import PRESETS
from detr_jittor.data.demo import write_demo_set

HELP = "generate pictures, train on them from scratch, evaluate, predict, draw the curves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output_dir", default="demo", metavar="D", help="folder for everything [demo]")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="jittor", help="which twin runs")
    parser.add_argument("--decoder", choices=tuple(PRESETS), default="box", help="which detector: box, for few "
                        "pictures, or DETR as in the paper")
    parser.add_argument("--train", type=int, default=800, metavar="N", help="pictures for training [800]")
    parser.add_argument("--val", type=int, default=200, metavar="N", help="pictures for validation [200]")
    parser.add_argument("--epochs", type=int, help=f"epochs [{PRESETS['box']['demo'].optim.epochs}, of DETR "
                        f"{PRESETS['detr']['demo'].optim.epochs}]")


def run(args: argparse.Namespace) -> int:
    start = time.time()
    folder = Path(args.output_dir)
    data, training, prediction = folder / "data", folder / "training", folder / "prediction"
    preset = PRESETS[args.decoder]["demo"]
    epochs = args.epochs or preset.optim.epochs
    print(f"1/4 Generating pictures of shapes in {data}", flush=True)
    write_demo_set(data, args.train, args.val, preset.data.min_size)
    settings = preset.replace(coco_path=str(data), output_dir=str(training), framework=args.framework, epochs=epochs,
                              lr_drop=max(epochs * 4 // 5, 1))
    print("2/4 Training on them, from scratch. The first run compiles some operators first.", flush=True)
    if status := main(["train", *flags(settings)]):
        return status
    checkpoint = training / f"checkpoint{'.pkl' if args.framework == 'jittor' else '.pth'}"
    print(f"3/4 Evaluating on {args.val} pictures that it has not seen", flush=True)
    common = ["--resume", str(checkpoint), "--framework", args.framework]
    if status := main(["evaluate", *common, "--coco_path", str(data), "--output_dir", str(training)]):
        return status
    print("4/4 Predicting on twelve of them", flush=True)
    pictures = sorted(map(str, (data / "val2017").iterdir()))[:12]
    if status := main(["predict", *common, "--threshold", "best", "--output_dir", str(prediction), *pictures]):
        return status
    sheet(sorted(prediction.glob("[0-9]*.jpg"))).save(prediction / "sheet.jpg", quality=92)
    print(f"\nDone in {(time.time() - start) / 60:.1f} minutes. Look at:")
    for path, what in ((prediction / "sheet.jpg", "pictures that it had not seen, with what it found in them"),
                       (training / "training_loss_comparison.png", "the loss"),
                       (training / "performance_comparison.png", "the average precision"),
                       (training / "eval_summary.txt", "the same in numbers")):
        print(f"  {path!s:<46} {what}")
    return 0


def sheet(files: list[Path], columns: int = 6) -> Image.Image:
    """Pictures of one size side by side."""
    pictures = [Image.open(file) for file in files]
    width, height = pictures[0].size
    whole = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height))
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place % columns * width, place // columns * height))
    return whole


def flags(config: Config) -> list[str]:
    """The command line that gives these settings."""
    words = []
    for name, value in config.flat().items():
        if value == OPTIONS[name][2].default:
            continue
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words
