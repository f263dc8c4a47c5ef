"""A picture file → pixels, [H, W, 3] uint8, exactly those that Pillow gives.

The reference code reads `Image.open(file).convert("RGB")`, and so do we: pixels as they are stored. The orientation
that a camera notes in the file (EXIF) is not applied, since COCO's boxes are in stored pixels; `upright=True` applies
it, for pictures without annotations. Alpha is dropped, of an animation the first frame is taken. One thing differs:
a grey picture of 16 bits is scaled to 8 bits by its upper byte, as Pillow does for colour; its `convert` would clip.
"""

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from detr_jittor.errors import DetrError

LARGEST = 2 * Image.MAX_IMAGE_PIXELS  # pixels from which Pillow takes a picture for an attack
MEND = "Replace or remove the file."
ORIENTATION = 0x0112  # EXIF tag


def read_image(path: str | Path, upright: bool = False) -> np.ndarray:
    """[H, W, 3] uint8.

    Errors: DetrError naming the file, if it is missing, truncated, no picture or too large.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise DetrError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}).", MEND) from None
    try:
        pixels = None if upright else fast_jpeg(content)
        return with_pillow(content, upright) if pixels is None else pixels
    except Exception as error:  # a damaged file can raise almost anything in its decoder
        raise DetrError(f"{path}: not a readable picture ({reason(error, content)}).", MEND) from None


def fast_jpeg(content: bytes) -> np.ndarray | None:
    """The pixels of an ordinary JPEG, four times as fast as Pillow and equal to it; None for whatever is unusual."""
    if not content.startswith(b"\xff\xd8"):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "RGB", "Gray") or height * width > LARGEST:
            return None
        return simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:  # a fault, or a warning that Pillow would overlook: Pillow is to decide
        return None


def with_pillow(content: bytes, upright: bool) -> np.ndarray:
    with opened(io.BytesIO(content)) as image:
        image.load()
        return eight_bits(ImageOps.exif_transpose(image) if upright else image)


@contextlib.contextmanager
def opened(file):
    """A file's picture, without warnings: of large pictures and odd metadata, of which nothing follows here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            yield image


def eight_bits(image: Image.Image) -> np.ndarray:
    """[H, W, 3] uint8 of a picture of any mode."""
    if image.mode.startswith("I"):  # whole numbers of 16 bits, which older versions of Pillow hold in 32
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise ValueError("more than 16 bits a channel")
        grey = (values >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers")
    return np.asarray(image.convert("RGB"))


def reason(error: Exception, content: bytes) -> str:
    """Why a file cannot be decoded, in words."""
    if not content:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "of no known format"
    return str(error) or type(error).__name__


def unused(path: str | Path) -> list[str]:
    """What of a picture that can be read is not used, in words."""
    with opened(path) as image:
        parts = {"an alpha channel, which is dropped": "A" in image.getbands() or "transparency" in image.info,
                 "16 bits a pixel, of which the upper 8 are taken": image.mode.startswith("I"),
                 "several frames, of which the first is taken": getattr(image, "n_frames", 1) > 1}
    return [what for what, there in parts.items() if there]


def is_turned(path: str | Path) -> bool:
    """Whether the camera noted that the picture is to be turned by a quarter; what is damaged notes nothing."""
    try:
        with opened(path) as image:
            return image.getexif().get(ORIENTATION, 1) >= 5
    except Exception:  # damaged metadata can raise almost anything, a SyntaxError too
        return False
