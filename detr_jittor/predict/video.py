"""Video, read and written through PyAV, which nothing else needs. H, W height and width."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from detr_jittor.errors import DetrError
from detr_jittor.extras import package


def pyav():
    """Errors: DetrError if it is not installed."""
    return package("av", "video", "video")


class Video:
    """The frames of a video, one at a time and upright."""

    def __init__(self, path: str | Path):
        """Errors: DetrError if it cannot be read or has no pictures."""
        av = pyav()
        self.path, self.broken = path, av.error.FFmpegError
        try:
            self.container = av.open(str(path))
        except (self.broken, OSError) as error:
            raise DetrError(f"{path}: not a readable video ({error.strerror}).", "Pass a video.") from None
        if not self.container.streams.video:
            self.container.close()
            raise DetrError(f"{path}: holds no moving pictures.", "Pass a video.")
        self.stream = self.container.streams.video[0]
        self.rate = Fraction(self.stream.average_rate or 25)  # pictures a second, on average
        self.length = self.stream.frames  # pictures as the file says, 0 if it does not

    def pictures(self) -> Iterator[tuple[float, np.ndarray]]:
        """(seconds from the beginning, [H, W, 3] uint8) of each picture.

        Errors: DetrError where the file is damaged.
        """
        number = 0
        try:
            for frame in self.container.decode(self.stream):
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # a phone held upright
                yield frame.time or 0.0, np.ascontiguousarray(pixels)
                number += 1
        except self.broken as error:
            raise DetrError(f"{self.path}: damaged after picture {number} ({error.strerror}).",
                            "What came before is drawn.") from None

    def close(self) -> None:
        self.container.close()


class VideoWriter:
    """A new video (H.264 in MP4), which is complete once `close` has been called."""

    def __init__(self, path: Path, rate: Fraction):
        """Args: rate: pictures a second."""
        self.av = pyav()
        self.container = self.av.open(str(path), "w")
        self.stream = self.container.add_stream("libx264", rate=rate.limit_denominator(65_535),
                                                options={"crf": "20", "preset": "veryfast"})
        self.stream.pix_fmt = "yuv420p"
        self.size: tuple[int, int] | None = None

    def add(self, image: Image.Image) -> None:
        """One more picture, at the size of the first one, of which an odd row or column is left out."""
        if self.size is None:
            self.size = tuple(max(2, side // 2 * 2) for side in image.size)
            self.stream.width, self.stream.height = self.size
        if image.size != self.size:
            even = (image.width // 2 * 2, image.height // 2 * 2)
            image = image.crop((0, 0, *self.size)) if even == self.size else image.resize(self.size)
        self.container.mux(self.stream.encode(self.av.VideoFrame.from_image(image)))

    def close(self) -> None:
        if self.size is not None:
            self.container.mux(self.stream.encode())
        self.container.close()
