"""The Python interface: a detector that predicts, is trained, is evaluated and is exported, in a few lines.

    from detr_jittor import Detector
    found = Detector("detr-r50").predict("street.jpg")
    found.save("street-found.jpg")

It holds no model code: it is the predictor, the training loop and the evaluation loop of the commands.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, overload

from detr_jittor.checkpoint.architecture import told
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.config.options import OPTIONS, Config
from detr_jittor.data.decode import depth_told, read_image
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.engine.settings import preset as preset_options
from detr_jittor.engine.settings import settings_and_start
from detr_jittor.engine.start import opened
from detr_jittor.engine.train import train
from detr_jittor.errors import DetrError, visible
from detr_jittor.evaluate.results import Results
from detr_jittor.frameworks.load import load_twin
from detr_jittor.predict.export import export, package
from detr_jittor.predict.found import Found
from detr_jittor.predict.looked import Looked
from detr_jittor.predict.predictor import COMPUTING, Predictor, Threshold, settings
from detr_jittor.predict.sources import Asked, Picture, asked, batches
from detr_jittor.predict.tiles import find_in_tiles
from detr_jittor.report.progress import Progress
from detr_jittor.types import Classes

Where = str | os.PathLike


class Detector:
    """A DETR with its weights.

    Several of them can be used in one process, and by several threads: one computes at a time. While one of them is
    trained or evaluated, what other threads ask for waits.
    """

    def __init__(self, weights: Where | None = None, *, framework: Literal["jittor", "pytorch"] = "jittor",
                 device: str = "auto", min_size: int | None = None, max_size: int | None = None,
                 config: Where | None = None):
        """
        Args:
            weights: the name of a published model, such as "detr-r50", or a file of weights (.pkl, .pth,
                .safetensors) of either framework, or a folder of the transformers library. None: a detector that is
                to be trained from scratch.
            framework: which twin computes.
            device: "auto", "cpu" or "cuda".
            min_size, max_size: short and longest side to which pictures are scaled; None: as in training.
            config: a config.json, for a file that does not say what model it belongs to.

        Errors: DetrError if the weights cannot be had, or are none of a DETR.
        """
        sizes = {"min_size": min_size, "max_size": max_size}
        self._options = {"framework": framework, "device": device,
                         **{name: size for name, size in sizes.items() if size is not None}}
        self._config_file = None if config is None else os.fspath(config)
        self._predictor: Predictor | None = None
        self.file: Path | None = None
        self._has_settings = False
        Config().replace(**self._options)  # a wrong value is told now
        if weights is not None:
            self._load(weights)

    def _load(self, weights: Where) -> None:
        file, checkpoint = opened(os.fspath(weights))
        for sentence in () if self._config_file else told(checkpoint, file):
            print(sentence)
        config = settings(checkpoint, file, self._config_file).replace(**self._options)
        with COMPUTING:
            self._predictor = Predictor(checkpoint, config, file)
        self.file, self._has_settings = Path(file), checkpoint.config is not None

    @property
    def predictor(self) -> Predictor:
        """The model with the scaling of its pictures. Errors: DetrError if there are no weights yet."""
        if self._predictor is None:
            raise DetrError("this detector has no weights yet.",
                            'Train it, or name some: Detector("detr-r50"), Detector("output/best.pkl").')
        return self._predictor

    @property
    def classes(self) -> Classes:
        """Numbers, names and category ids of the classes."""
        return self.predictor.classes

    @property
    def names(self) -> dict[int, str]:
        """{label: class name}"""
        return self.classes.name_of()

    @property
    def framework(self) -> str:
        """"jittor" or "pytorch"."""
        return self._options["framework"]

    @overload
    def predict(self, pictures: Iterable[Picture], threshold: Threshold = ..., *, batch_size: int = ...,
                workers: int = ..., tile: int | None = ..., stream: Literal[True]) -> Iterator[Found]: ...

    @overload
    def predict(self, pictures: Picture | Iterable[Picture], threshold: Threshold = ..., *, batch_size: int = ...,
                workers: int = ..., tile: int | None = ..., stream: bool = ...) -> Any: ...

    def predict(self, pictures, threshold=None, *, batch_size=4, workers=2, tile=None, stream=False):
        """Find objects; with a panoptic model, segments.

        Args:
            pictures: a path, a picture of Pillow, an array [H, W, 3] uint8 (red first), a list of these, an array
                [N, H, W, 3], or a folder.
            threshold: the smallest score of what is given back, from 0 to 1; None: 0.7, with the box decoder 0.4,
                of segments 0.85. "best": for each class the one from which its F1 was best at the last evaluation of
                its training; or the mistakes.json of an evaluation.
            batch_size: how many pictures go through the model together. Smaller pictures of a batch are padded to its
                largest, which changes their scores a little; 1 gives each what it gives alone.
            workers: processes that read files ahead, where there are many.
            tile: look too at overlapping tiles of so many pixels, of pictures much larger than the model's size.
            stream: give results back one by one, while the next ones are computed, not all in a list.

        Returns: `Found` for one picture, else a list of them in order. What is unreadable in a folder is told and left
            out (`found.path` says which file a result belongs to).

        Errors: DetrError for a picture that was named and cannot be read, and for a folder without any that can.
        """
        if batch_size < 1 or workers < 0:
            raise DetrError(f"batch_size {batch_size}, workers {workers}: these cannot be.",
                            "Give a batch_size from 1 and workers from 0.")
        predictor = self.predictor
        question, threshold = asked(pictures), predictor.threshold_of(threshold)
        if tile is None:
            each = self._each(question, predictor, threshold, batch_size, workers, quiet=stream)
        else:
            each = self._each_in_tiles(question, predictor, threshold, tile)
        if question.single:
            return next(each)
        return each if stream else list(each)

    __call__ = predict

    def _each(self, question: Asked, predictor: Predictor, threshold: Threshold, batch_size: int, workers: int,
              quiet: bool) -> Iterator[Found]:
        pictures, given = question.pictures, 0
        rounds = -(-len(pictures) // batch_size)
        with closing(Progress("prediction", rounds, quiet=quiet or rounds < 2)) as progress:
            for batch in batches(pictures, predictor.recipe, batch_size, workers):
                for text in batch.bad_images:
                    if question.strict:
                        raise DetrError(text)
                    print(f"error: {text}", file=sys.stderr)
                found = predictor.find(batch, threshold) if len(batch) else []
                progress.update({})
                for target, what in zip(batch.targets, found):
                    picture = pictures[target.image_id]
                    if isinstance(picture, Path) and (dark := depth_told(picture)):
                        print(visible(f"{picture}: {dark}."), file=sys.stderr)
                    given += 1
                    yield Found(picture, target.orig_size, what, predictor.classes)
        check_some(question, given)

    def _each_in_tiles(self, question: Asked, predictor: Predictor, threshold: Threshold, tile: int) -> Iterator[Found]:
        given = 0
        for picture in question.pictures:
            try:
                pixels = read_image(picture) if isinstance(picture, Path) else picture
            except DetrError as error:
                if question.strict:
                    raise
                print(f"error: {error}", file=sys.stderr)
                continue
            given += 1
            yield Found(picture, pixels.shape[:2], find_in_tiles(predictor, pixels, tile, threshold), predictor.classes)
        check_some(question, given)

    def attention(self, picture: Picture, threshold: Threshold = None) -> Looked:
        """Where the model looks in one picture: for each object that it finds, and from points of the picture.

        Errors: DetrError if it cannot be read.
        """
        question = asked(picture)
        if not question.single:
            raise DetrError("attention takes one picture.", "Call it for each.")
        (what,) = question.pictures
        pixels = read_image(what) if isinstance(what, Path) else what
        return Looked(what, pixels, self.predictor.look(pixels, threshold), self.classes)

    def train(self, data: Where, *, output_dir: Where = "output", preset: Literal["small", "demo"] | None = None,
              **options: Any) -> Path:
        """Train on a dataset, beginning with this detector's weights, which are fitted to its classes; without any,
        from scratch. Afterwards this detector has the best weights of the run.

        Args:
            data: the folder of the dataset, in whichever layout `detr-jittor train --data` takes.
            output_dir: where logs and checkpoints go; what an earlier run left there is moved into a folder of its own.
            preset: settings for a few hundred pictures from scratch, see `detr-jittor train --help`.
            options: every option of `detr-jittor train`, by its name: epochs=50, batch_size=4, lr=1e-5, resume="auto".

        Returns: the checkpoint with the best AP.

        Errors: DetrError for settings, data or weights that are not right. KeyboardInterrupt after Ctrl-C; what was
            learned is saved then, and this detector has it.
        """
        given = self._given(data, {"output_dir": os.fspath(output_dir), **options})
        if self.file is not None:
            given.setdefault("weights", str(self.file))
        if preset:
            given = {**preset_options(preset, Config().replace(**given), given.get("decoder", "box")), **given}
        with COMPUTING:
            status = train(*settings_and_start(given))
        suffix = load_twin(given["framework"]).checkpoint_suffix
        names = ("best", "checkpoint") if status == 0 else ("checkpoint", "best")
        files = [Path(given["output_dir"]) / f"{name}{suffix}" for name in names]
        if file := next((file for file in files if file.is_file()), None):
            self._config_file = None
            self._load(file)
        if status:
            raise KeyboardInterrupt(f"the training was stopped; what was learned is in {given['output_dir']}")
        if file is None:
            raise DetrError(f"{given['output_dir']}: nothing was trained, so there is no checkpoint.",
                            "Give more epochs or steps.")
        return file

    def evaluate(self, data: Where, **options: Any) -> Results:
        """Measure AP on the validation split of a dataset.

        Args:
            data: the folder of the dataset.
            options: every option of `detr-jittor evaluate`, by its name: batch_size=2, output_dir="output/evaluated".

        Returns: the numbers: `.ap`, `.bbox` (all twelve, and each class's), with masks `.segm` and `.panoptic`;
            `print(results)` shows them as a table, `.to_json()` gives plain data.

        Errors: DetrError for settings, data or weights that are not right.
        """
        # Where the file holds the settings of its run, they are taken as `--resume FILE --eval` takes them.
        source = "resume" if self.predictor and self._has_settings else "weights"
        given = self._given(data, {"eval": True, source: str(self.file), **options})
        with COMPUTING:
            return evaluate(*settings_and_start(given))

    def export(self, path: Where) -> Path:
        """Write the model as an ONNX file, after ONNX Runtime's outputs were compared with PyTorch's.

        Returns: the file. Errors: DetrError if a package is missing, the outputs differ, or it cannot be written.
        """
        path = Path(path)
        if path.suffix != ".onnx":
            raise DetrError(f"{path}: is not the name of an ONNX file.", "Give one that ends in .onnx.")
        twin, classes = self.predictor.twin, self.classes
        for name in ("detr_jittor.pt.export", "onnx", "onnxruntime"):
            package(name)
        config = twin.config.replace(framework="pytorch", device="cpu")
        with COMPUTING:
            export(Predictor(Checkpoint(twin.state(), classes=classes), config, str(self.file)), path)
        return path

    def _given(self, data: Where, options: dict[str, Any]) -> dict[str, Any]:
        """{option: value} of a run on a dataset. Errors: DetrError for an option that there is not."""
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise DetrError(f"there is no option {unknown[0]!r}.", "detr-jittor train --help lists them.")
        paths = {name: os.fspath(value) for name, value in options.items() if isinstance(value, os.PathLike)}
        return {**self._options, "coco_path": os.fspath(data), **options, **paths}

    def __repr__(self) -> str:
        if self._predictor is None:
            return f"Detector (no weights yet, {self.framework})"
        return (f"Detector({str(self.file)!r}, {len(self.classes.names)} classes, {self._predictor.twin.name} on "
                f"{self._predictor.twin.device})")


def check_some(question: Asked, given: int) -> None:
    """Errors: DetrError if none of the pictures could be read."""
    if question.pictures and not given:
        raise DetrError(f"none of the {len(question.pictures)} pictures could be read.", "Pass other pictures.")
