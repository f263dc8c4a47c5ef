"""A picture file → pixels, [H, W, 3] uint8, exactly those that Pillow gives.

The reference code reads `Image.open(file).convert("RGB")`, and so do we, but for two things. The orientation that a
camera notes in the file (EXIF) is applied, in training, evaluation and prediction alike: every browser, and with them
the tools in which people draw boxes, shows pictures upright, and COCO's own pictures note none. Where the annotated
size says that a picture was annotated as it is stored, it stays so. And a grey picture of 16 bits is scaled to 8 bits
by its upper byte, as Pillow does for colour; its `convert` would clip. Alpha is dropped, of an animation the first
frame is taken.
"""

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from detr_jittor.errors import DetrError

LARGEST = 2 * Image.MAX_IMAGE_PIXELS  # pixels from which Pillow takes a picture for an attack
MEND = "Replace or remove the file."
ORIENTATION = 0x0112  # EXIF tag
HEADS = {b"\xff\xd8": ("JPEG", "MPO"), b"\x89P": ("PNG",)}  # first bytes → formats, so that no others are tried
# Formats that Pillow knows by name, and opens only with programs or plug-ins that are not here.
STUBS = {".bufr", ".grib", ".h5", ".hdf", ".mpg", ".mpeg", ".eps", ".ps", ".wmf", ".emf"}
UNREAD = {".heic", ".heif", ".hif", ".jxl"}  # pictures that Pillow does not read without a plug-in, which nothing loads
SAVE = "Save it as .jpg or .png."
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # kinds of HEIF files


def read_image(path: str | Path, annotated: tuple[int, int] | None = None) -> np.ndarray:
    """[H, W, 3] uint8, upright.

    Args:
        annotated: (height, width) by the annotations. A picture of this size only without its quarter turn was
            annotated as it is stored.

    Errors: DetrError naming the file, if it is missing, truncated, no picture or too large.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise DetrError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}).", MEND) from None
    try:
        pixels = fast_jpeg(content)
        pixels, turn = with_pillow(content) if pixels is None else (pixels, noted_in_jpeg(content))
    except Exception as error:  # a damaged file can raise almost anything in its decoder
        raise unreadable(path, error, content) from None
    return pixels if turn == 1 or as_stored(turn, pixels.shape[:2], annotated) else turned(pixels, turn)


def as_stored(turn: int, stored: tuple[int, int], annotated: tuple[int, int] | None) -> bool:
    """Whether a picture was annotated without the quarter turn that it notes; (height, width) each."""
    return turn >= 5 and annotated is not None and stored == tuple(annotated) != stored[::-1]


def turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """[H, W, 3] as the EXIF orientation 2 … 8 says, as Pillow's `exif_transpose` does it."""
    upright = {2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
               5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1),
               7: lambda p: p.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90}
    return np.ascontiguousarray(upright[turn](pixels))


def noted_in_jpeg(content: bytes) -> int:
    """The orientation that a JPEG notes; most note none, which is seen without a parser."""
    if b"Exif\0\0" not in content and b"tiff:Orientation" not in content:
        return 1
    with opened(io.BytesIO(content)) as image:
        return noted(image)


def noted(image: Image.Image) -> int:
    """The orientation 1 … 8 that the camera noted; what is damaged notes nothing."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata can raise almost anything, a SyntaxError too
        return 1
    return value if value in range(2, 9) else 1


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


def with_pillow(content: bytes) -> tuple[np.ndarray, int]:
    """(pixels, orientation to apply); TIFF's Pillow applies itself when it loads."""
    with opened(io.BytesIO(content)) as image:
        image.load()
        return eight_bits(image), noted(image)


def pixels_of(image: Image.Image) -> np.ndarray:
    """[H, W, 3] uint8, upright, of a picture that is open already, as `read_image` reads its file.

    Errors: DetrError if it is damaged, or of a kind that is not read.
    """
    try:
        image.load()
        pixels, turn = eight_bits(image), noted(image)
    except Exception as error:  # as in read_image
        name = getattr(image, "filename", "") or "the picture"
        raise DetrError(f"{name}: not a readable picture ({reason(error, b'?')}).", MEND) from None
    return pixels if turn == 1 else turned(pixels, turn)


@contextlib.contextmanager
def opened(file, formats: tuple[str, ...] | None = None):
    """A file's picture, without warnings about large pictures and odd metadata, which change nothing here.

    Args: formats: that are tried, by Pillow's names; None: all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(file, formats=formats) as image:
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


def unreadable(path: str | Path, error: Exception, content: bytes) -> DetrError:
    if isinstance(error, Image.UnidentifiedImageError) and (kind := unread_kind(content)):
        return DetrError(f"{path}: not a readable picture ({kind}, which Pillow does not read).", SAVE)
    return DetrError(f"{path}: not a readable picture ({reason(error, content)}).", MEND)


def unread_kind(content: bytes) -> str:
    """Which kind of picture Pillow does not read this is; empty where it is none that is known here."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIF:
        return "HEIC"
    if content.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL"
    bits = jpeg_bits(content)
    return f"a JPEG of {bits} bits a sample" if bits not in (0, 8) else ""


def jpeg_bits(content: bytes) -> int:
    """Bits of a sample, by the frame header of a JPEG (SOFn, ITU T.81 B.2.2); 0 if there is none."""
    place = 2
    while content.startswith(b"\xff\xd8") and content[place:place + 1] == b"\xff" and place + 4 < len(content):
        marker = content[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # these are tables and extensions
            return content[place + 4]
        place += 2 + int.from_bytes(content[place + 2:place + 4], "big")
    return 0


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
                 deep_told(image): image.mode.startswith("I"),
                 "several frames, of which the first is taken": getattr(image, "n_frames", 1) > 1}
    return [what for what, there in parts.items() if there]


def deep_told(image: Image.Image) -> str:
    """What is used of a picture of 16 bits, in words: cameras and microscopes often fill 10 to 14 of them only."""
    what = "16 bits a pixel, of which the upper 8 are taken"
    if not image.mode.startswith("I"):
        return what
    bits = max(8, int(np.asarray(image).max(initial=0)).bit_length())
    return what if bits > 14 else (
        f"16 bits a pixel with values below {2 ** bits} alone: as the upper 8 bits are taken, they are read nearly "
        f"black; multiply them by {2 ** (16 - bits)} or save them with 8 bits")


def depth_told(path: str | Path) -> str:
    """Why a picture of 16 bits comes out nearly black, in words; empty for any other."""
    try:
        with opened(path) as image:
            what = deep_told(image) if image.mode.startswith("I") else ""
    except Exception:  # whoever reads the picture says what is wrong with it
        return ""
    return what if "black" in what else ""


def readable_suffixes() -> set[str]:
    """The suffixes of files that Pillow can open here, in small letters."""
    Image.init()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN} - STUBS


def upright_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a picture as `read_image` gives it, from the head of its file alone.

    Errors: DetrError naming the file, if it is missing or no picture.
    """
    try:
        with open(path, "rb") as file, opened(file, HEADS.get(file.read(2))) as image:
            width, height = image.size
            is_turned = image.format != "TIFF" and noted(image) >= 5  # of TIFF, Pillow gives the upright size
    except Exception as error:  # a damaged file can raise almost anything in its decoder
        content = Path(path).read_bytes() if isinstance(error, Image.UnidentifiedImageError) else b" "
        raise unreadable(path, error, content) from None
    return (width, height) if is_turned else (height, width)


def orientation_told(path: str | Path, annotated: tuple[int, int]) -> list[str]:
    """What is done about the orientation that the camera noted in a picture of this (height, width), in words."""
    with opened(path) as image:
        turn, stored, is_tiff = noted(image), (image.height, image.width), image.format == "TIFF"
    if turn == 1:
        return []
    if not is_tiff and as_stored(turn, stored, annotated):
        return ["a quarter turn noted by the camera, but are annotated as they are stored: they are not turned, in "
                "prediction they are"]
    return ["an orientation noted by the camera: they are turned upright, as in prediction"]
