"""Where a model looks in one picture: drawn, and as arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.predict.found import Found, png, write
from detr_jittor.report.attention import Point, draw_objects, draw_points
from detr_jittor.report.notebook import show
from detr_jittor.types import Classes, Look

MOST_POINTS = 3  # whose attention is drawn where none are given


class Looked:
    """The objects in a picture, and where the model looked for each of them.

    Attributes:
        look: the attention itself, N objects on h × w places of the feature map (`types.Look`).
        found: the objects.
    """

    def __init__(self, picture: np.ndarray | str | Path, pixels: np.ndarray, look: Look, classes: Classes):
        """Args: pixels: [H, W, 3] uint8, the picture's."""
        self.look, self.pixels = look, pixels
        self.found = Found(picture, pixels.shape[:2], look.found, classes)

    def objects(self) -> Image.Image | None:
        """A sheet: all objects, then each of the best with where the last decoder layer looks for it; None where
        nothing was found."""
        if not len(self.found):
            return None
        return draw_objects(Image.fromarray(self.pixels), self.look, self.found.classes.name_of())

    def points(self, points: Sequence[Point] | None = None) -> Image.Image | None:
        """A sheet: where the last encoder layer looks from points of the picture; None of a model without encoder.

        Args:
            points: (x, y) in pixels; those outside are moved to the edge. None: the middles of the best objects.
        """
        if self.look.places is None:
            return None
        height, width = self.pixels.shape[:2]
        middles = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in self.found.boxes[:MOST_POINTS].tolist()]
        chosen = points or middles or [(width / 2, height / 2)]
        inside = [(min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)) for x, y in chosen]
        return draw_points(Image.fromarray(self.pixels), self.look, inside)

    def draw(self) -> Image.Image:
        """The sheet of objects, else that of points, else the picture."""
        return self.objects() or self.points() or Image.fromarray(self.pixels)

    def show(self) -> None:
        """As `Found.show`."""
        show(self.draw())

    def save(self, path: str | Path) -> Path:
        """As `Found.save`."""
        return write(self.draw(), path)

    def __repr__(self) -> str:
        return f"Looked: {self.found!r}"

    def _repr_png_(self) -> bytes:
        return png(self.draw())
