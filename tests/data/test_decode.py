"""Picture files: pixels equal to Pillow's, and every damaged file an error that names it."""

import io
import warnings

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from detr_jittor.data import decode
from detr_jittor.data.decode import read_image, upright_size
from detr_jittor.errors import DetrError

RANDOM = np.random.default_rng(5)
NOISE = RANDOM.integers(0, 256, (37, 53, 3), dtype=np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE[:6, :7]).resize((97, 61), Image.Resampling.BICUBIC))


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("pixels", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 75, 98])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_bit_identical_to_pillow(tmp_path, monkeypatch, pixels, subsampling, quality, progressive):
    path = saved(tmp_path / "a.jpg", Image.fromarray(pixels), quality=quality, subsampling=subsampling,
                 progressive=progressive)
    monkeypatch.setattr(decode, "with_pillow", None)  # the fast way has to serve
    assert np.array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


@settings(max_examples=40)
@given(height=st.integers(1, 80), width=st.integers(1, 80), quality=st.integers(1, 100),
       subsampling=st.sampled_from([0, 1, 2]), seed=st.integers(0, 9))
def test_jpeg_of_any_size_is_bit_identical_to_pillow(height, width, quality, subsampling, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    assert np.array_equal(decode.fast_jpeg(file.getvalue()), np.asarray(Image.open(file).convert("RGB")))


@pytest.mark.parametrize("mode, format", [
    ("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("1", "PNG"),
    ("RGB", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("CMYK", "TIFF"), ("RGB", "WEBP"), ("YCbCr", "TIFF")])
def test_every_mode_is_read_as_the_reference_reads_it(tmp_path, mode, format):
    if mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow 12 cannot read the TIFF in YCbCr that it writes")
    path = saved(tmp_path / "picture", Image.fromarray(SMOOTH).convert(mode), format=format)
    pixels = read_image(path)
    assert pixels.shape == SMOOTH.shape and pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(Image.open(path).convert("RGB")))
    if format not in ("GIF",) and mode not in ("1", "P"):
        grey = SMOOTH if mode not in ("L", "LA") else np.asarray(Image.fromarray(SMOOTH).convert("L"))[:, :, None]
        assert np.abs(pixels.astype(int) - grey).mean() < 8


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(tmp_path, format):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    path = saved(tmp_path / "deep", Image.fromarray(values), format=format)
    assert read_image(path).tolist() == [[[v] * 3 for v in (0, 0, 1, 128, 255)]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_that_are_no_picture(tmp_path, dtype):
    path = saved(tmp_path / "odd.tiff", Image.fromarray(np.array([[70000, 5]], dtype)))
    with pytest.raises(DetrError, match=r"16 bits|floating-point"):
        read_image(path)


def test_animations_give_their_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format", ["jpg", "png", "tif", "webp"])  # two decoders; TIFF's Pillow turns itself
def test_pictures_are_read_upright(tmp_path, format, turn):
    exif = Image.Exif()
    exif[decode.ORIENTATION] = turn
    path = saved(tmp_path / f"turned.{format}", Image.fromarray(SMOOTH), exif=exif)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(read_image(path), wanted)
    assert read_image(path).shape == ((61, 97, 3) if turn < 5 else (97, 61, 3))
    assert bool(decode.orientation_told(path, wanted.shape[:2])) == (turn > 1)


def test_a_quarter_turn_is_left_where_the_annotations_are_as_stored(tmp_path):
    """What the size tells; of a square picture it tells nothing, and one rule holds: upright."""
    exif = Image.Exif()
    exif[decode.ORIENTATION] = 6
    path = saved(tmp_path / "turned.png", Image.fromarray(SMOOTH), exif=exif)
    assert np.array_equal(read_image(path, (61, 97)), SMOOTH)
    assert np.array_equal(read_image(path, (97, 61)), np.rot90(SMOOTH, -1))
    assert read_image(path, (5, 5)).shape == (97, 61, 3)
    assert "they are not turned" in decode.orientation_told(path, (61, 97))[0]
    assert "turned upright" in decode.orientation_told(path, (97, 61))[0]
    square = saved(tmp_path / "square.png", Image.fromarray(SMOOTH[:50, :50]), exif=exif)
    assert np.array_equal(read_image(square, (50, 50)), np.rot90(SMOOTH[:50, :50], -1))
    assert "turned upright" in decode.orientation_told(square, (50, 50))[0]


TIFF = b"MM\0*\0\0\0\x08"


@pytest.mark.parametrize("exif", [
    b"no TIFF header", b"", b"II*", TIFF + b"\xff\xff" + b"\x01\x12\0\x03" * 9,
    TIFF + b"\0\x01\x01\x12\0\x02\0\0\0\x01x" + bytes(7), TIFF + b"\0\x01\x01\x12\0\x0a\0\0\0\x01\0\0\0\x50"],
    ids=["none", "empty", "cut", "too many entries", "a text", "outside"])
def test_damaged_orientation_is_none(tmp_path, exif):
    """Older versions of Pillow raise a SyntaxError for some of them."""
    path = saved(tmp_path / "a.jpg", Image.fromarray(SMOOTH), exif=b"Exif\0\0" + exif)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert decode.orientation_told(path, (61, 97)) == [] and read_image(path).shape == (61, 97, 3)
    assert told == []


def jpeg(image=SMOOTH) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("content, told", [
    (b"", "empty"), (b"<html><body>404</body></html>", "no known format"), (RANDOM.bytes(500), "no known format"),
    (jpeg()[:len(jpeg()) // 2], "truncated"), (jpeg()[:20], "no known format"), (jpeg()[:2], "no known format"),
    (png()[:len(png()) // 2], "truncated"), (png()[:10], "no known format"),
    (png()[:60] + bytes(50) + png()[110:], "broken")])
def test_damaged_files_are_named(tmp_path, content, told):
    path = tmp_path / "damaged.jpg"
    path.write_bytes(content)
    with pytest.raises(DetrError, match=told) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    for name in ("nowhere.jpg", "link.jpg", "null\0.jpg", "."):
        with pytest.raises(DetrError, match="cannot be read"):
            read_image(tmp_path / name)


def test_pictures_of_a_bomb_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "LARGEST", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    for name, content in (("a.jpg", jpeg()), ("a.png", png())):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DetrError, match="exceeds limit"):
            read_image(tmp_path / name)


@settings(max_examples=150)
@given(base=st.sampled_from([jpeg(), png()]), data=st.data())
def test_bytes_changed_at_random_end_in_pixels_or_an_error(tmp_path_factory, base, data):
    content = bytearray(base)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content)
    try:
        pixels = read_image(path)
    except DetrError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3
    with Image.open(path) as image:  # and then Pillow reads the same
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("largest, told", [
    (4095, "with values below 4096 alone: as the upper 8 bits are taken, they are read nearly black; multiply them by "
           "16 or"),
    (1023, "multiply them by 64"), (16383, "multiply them by 4"), (200, "multiply them by 256"), (0, "by 256"),
    (16384, None), (65535, None)])
def test_16_bits_of_which_few_are_used(tmp_path, largest, told):
    """12 bits of a camera or a microscope come out nearly black, and that is said."""
    path = saved(tmp_path / "a.png", Image.fromarray(np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)))
    assert (told or "") in decode.depth_told(path) and bool(decode.depth_told(path)) == bool(told)
    assert any("16 bits a pixel" in part and (told is None or told in part) for part in decode.unused(path))
    assert read_image(path).max() == largest >> 8


def test_other_pictures_are_not_called_dark(tmp_path):
    (tmp_path / "none.png").write_bytes(b"x")
    for path in (saved(tmp_path / "a.png", Image.new("RGB", (4, 4))), tmp_path / "none.png", tmp_path / "gone.png"):
        assert decode.depth_told(path) == ""


def test_the_suffixes_of_what_can_be_read():
    suffixes = decode.readable_suffixes()
    assert {".jpg", ".jpeg", ".jfif", ".png", ".avif", ".jp2", ".webp", ".tif", ".bmp", ".gif", ".ppm"} <= suffixes
    assert not {".txt", ".json", ".mp4", ".mpg", ".eps", ".h5", ".pdf", ""} & suffixes


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_the_size_that_the_head_of_a_file_tells(tmp_path, suffix, turn):
    """Is that of the pixels as they are read, upright."""
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {} if suffix in ("bmp", "gif") else {"exif": exif}
    Image.new("RGB", (30, 20)).save(tmp_path / f"a.{suffix}", **options)
    size = upright_size(tmp_path / f"a.{suffix}")
    assert size == read_image(tmp_path / f"a.{suffix}").shape[:2]
    assert size == ((30, 20) if turn >= 5 and options else (20, 30))
