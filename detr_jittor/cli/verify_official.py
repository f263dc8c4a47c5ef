"""`detr-jittor verify-official`: hold the published weights, in both twins, against what is known of them."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.checkpoint.official import OFFICIAL, Official, official_file
from detr_jittor.config.options import FRAMEWORKS
from detr_jittor.data.decode import read_image
from detr_jittor.data.splits import open_split
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.start import RESUME, Start
from detr_jittor.errors import DetrError
from detr_jittor.evaluate.postprocess import softmax
from detr_jittor.evaluate.results import Results
from detr_jittor.predict.predictor import Predictor, batch_of
from detr_jittor.types import Outputs

HELP = "hold published weights, in both twins, against what is known of them"
PICTURE = "000000039769.jpg"  # of val2017: two cats, two remote controls and a couch
PICTURES = 5000  # in val2017
TOLERANCE = 2e-4  # of logits, boxes and scores
AP_TOLERANCE = 0.1  # per cent: the published numbers have one decimal


@dataclass(frozen=True)
class Golden:
    """What the reference code says of the picture, resized to 800 / 1333."""

    logits: np.ndarray  # [3, 3] of the first queries and classes
    boxes: np.ndarray  # [3, 3] of the first queries, (cx, cy, w)
    scores: np.ndarray  # [5] above .9, in the order of the queries
    labels: np.ndarray  # [5]


GOLDEN = {"detr-r50": Golden(
    np.array([[-19.1194, -0.0893, -11.0154], [-17.3640, -1.8035, -14.0219], [-20.0461, -0.5837, -11.1060]]),
    np.array([[0.4433, 0.5302, 0.8852], [0.5494, 0.2517, 0.0529], [0.4998, 0.5360, 0.9955]]),
    np.array([0.9982, 0.9960, 0.9955, 0.9988, 0.9987]), np.array([75, 75, 63, 17, 17]))}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", choices=tuple(OFFICIAL), default="detr-r50", help="[%(default)s]")
    parser.add_argument("--image", metavar="FILE", help=f"COCO's picture {PICTURE}, if there is no --coco_path")
    parser.add_argument("--coco_path", metavar="D", help="COCO: its val2017 is evaluated, which takes hours on a CPU")
    parser.add_argument("--coco_panoptic_path", metavar="D", help="COCO's panoptic part, for the panoptic models")
    parser.add_argument("--framework", choices=("both", *FRAMEWORKS), default="both",
                        help="which twins run; AP is measured in the first [%(default)s]")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what they run on")


def run(args: argparse.Namespace) -> int:
    """Returns: 0 only if everything that could be compared agrees."""
    model, image = OFFICIAL[args.name], picture(args)
    file = official_file(args.name)
    print(f"{file}: " + ("its SHA-256 begins as its name says" if file.name == model.file else
                         f"taken as it is; the published file is {model.file}"))
    checkpoint, frameworks = store.load(file), list(FRAMEWORKS) if args.framework == "both" else [args.framework]
    found = {name: outputs_of(model, checkpoint, file, image, name, args.device) for name in frameworks}
    verdicts = [verdict for name in frameworks for verdict in against_golden(name, found[name], GOLDEN.get(args.name))]
    if len(found) == 2:
        verdicts += between_twins(*found.values())
    if args.coco_path:
        verdicts += published_numbers(model, *evaluated(model, checkpoint, file, args, frameworks[0]))
    for what, agrees in verdicts:
        print(f"{'agrees' if agrees else 'DIFFERS'}  {what}")
    return 0 if all(agrees for _, agrees in verdicts) else 1


def picture(args: argparse.Namespace) -> Path:
    if not (args.image or args.coco_path):
        raise DetrError("verify-official needs a picture.", f"Pass --coco_path, or COCO's {PICTURE} with --image.")
    return Path(args.image) if args.image else Path(args.coco_path) / "val2017" / PICTURE


def outputs_of(model: Official, checkpoint: Checkpoint, file: Path, image: Path, framework: str,
               device: str) -> Outputs:
    """What a twin says of the picture. Errors: DetrError if the weights do not fit or it cannot be read."""
    pixels = read_image(image)
    predictor = Predictor(checkpoint, model.config.replace(framework=framework, device=device), file)
    return predictor.twin.predict(batch_of([pixels], predictor.recipe))


def against_golden(name: str, outputs: Outputs, golden: Golden | None) -> list[tuple[str, bool]]:
    """[(what was compared, whether it agrees)]; nothing for a model whose values are not known."""
    if golden is None:
        return []
    probability = softmax(outputs.logits[0])[:, :-1]  # [Q, C]
    sure = probability.max(axis=1) > 0.9
    scores, labels = probability.max(axis=1)[sure], probability.argmax(axis=1)[sure]
    same = np.array_equal(labels, golden.labels)
    return [
        distance(f"{name}: logits of the first queries", outputs.logits[0, :3, :3], golden.logits),
        distance(f"{name}: boxes of the first queries", outputs.boxes[0, :3, :3], golden.boxes),
        (f"{name}: labels above .9 are {labels.tolist()}, published {golden.labels.tolist()}", same),
        *([distance(f"{name}: their scores", scores, golden.scores)] if same and len(scores) else []),
    ]


def between_twins(one: Outputs, other: Outputs) -> list[tuple[str, bool]]:
    scale = max(1.0, float(np.abs(other.logits).max()))
    return [distance("both twins: logits, relative to the largest", one.logits / scale, other.logits / scale),
            distance("both twins: boxes", one.boxes, other.boxes)]


def distance(what: str, found: np.ndarray, wanted: np.ndarray) -> tuple[str, bool]:
    largest = float(np.abs(found - wanted).max())
    return f"{what}: largest difference {largest:.1e}, allowed {TOLERANCE:.0e}", largest <= TOLERANCE


def evaluated(model: Official, checkpoint: Checkpoint, file: Path, args: argparse.Namespace,
              name: str) -> tuple[Results, int]:
    """(results on val2017, its pictures), in batches as large as the published numbers were made with, because padding
    changes AP."""
    config = model.config.replace(
        coco_path=args.coco_path, coco_panoptic_path=args.coco_panoptic_path, framework=name, device=args.device,
        batch_size=1 if model.config.model.dilation or "PQ" in model.results else 2, resume=str(file))
    pictures = len(open_split(config.data, "val"))
    return evaluate(config, Start(RESUME, str(file), checkpoint)), pictures


def published_numbers(model: Official, results: Results, count: int) -> list[tuple[str, bool]]:
    """[(what was compared, whether it agrees)]; on other pictures than val2017 nothing is compared, but told."""
    values = {"box AP": results.bbox.ap}
    if results.segm and results.panoptic:
        values |= {"mask AP": results.segm.ap, "PQ": results.panoptic.groups["All"].pq}
    if count != PICTURES:
        print(f"not compared: {', '.join(f'{n} {100 * v:.1f}' for n, v in values.items())} on {count:,} pictures; the "
              f"published numbers are of the {PICTURES:,} of val2017")
        return []
    return [(f"{name}: {100 * value:.2f}, published {model.results[name]}",
             abs(100 * value - model.results[name]) <= AP_TOLERANCE) for name, value in values.items()]
