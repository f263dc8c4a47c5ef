"""Which pictures are taken for the same: copies in other formats, qualities and sizes are, others are not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from detr_jittor.data import same_pictures
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.same_pictures import are_same, details, grid_of, groups

COCO_MINI = Path(__file__).parents[3] / "shared" / "coco-mini"
SIZE = (320, 240)


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Noise of several sizes, as a photograph has large and small things."""
    random, whole = np.random.default_rng(seed), np.zeros((size[1], size[0], 3))
    for side, share in ((4, 0.5), (16, 0.3), (64, 0.2)):
        noise = Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))
        whole += share * np.asarray(noise.resize(size, Image.Resampling.BICUBIC), float)
    return Image.fromarray(whole.astype(np.uint8))


def are_found(tmp_path, *pictures: Image.Image | Path) -> list[list[int]]:
    files = []
    for number, picture in enumerate(pictures):
        files.append(picture)
        if isinstance(picture, Image.Image):
            picture.save(file := tmp_path / f"{number}.png")
            files[-1] = file
    grids = [grid_of(str(file)) for file in files]
    kept = [k for k, grid in enumerate(grids) if grid is not None]
    return [[kept[k] for k in group] for group in groups([grids[k] for k in kept])]


def saved(image: Image.Image, file: Path, **options) -> Path:
    image.save(file, **options)
    return file


@pytest.mark.parametrize("again", [
    lambda image, file: saved(image, file.with_suffix(".jpg"), quality=95),
    lambda image, file: saved(image, file.with_suffix(".jpg"), quality=30),
    lambda image, file: saved(image, file.with_suffix(".webp"), quality=50),
    lambda image, file: saved(image, file.with_suffix(".bmp")),
    lambda image, file: saved(image.resize((160, 120)), file.with_suffix(".png")),
    lambda image, file: saved(image.resize((107, 80), Image.Resampling.BILINEAR), file.with_suffix(".jpg")),
    lambda image, file: saved(image.resize((640, 480)), file.with_suffix(".png")),
    lambda image, file: saved(image.resize((200, 200)), file.with_suffix(".png")),  # stretched to a square
    lambda image, file: saved(image.quantize(64), file.with_suffix(".png")),  # a palette
    lambda image, file: saved(image.rotate(90, expand=True), file.with_suffix(".jpg"), exif=sideways()),
], ids=["q95", "q30", "webp", "bmp", "half", "third", "double", "square", "palette", "turned by the camera's note"])
def test_copies_are_found(tmp_path, again):
    original = scene(1)
    copy = again(original, tmp_path / "copy")
    assert are_found(tmp_path, scene(2), original, copy, scene(3)) == [[1, 2]]


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    return exif


def with_patch(image: Image.Image, place: tuple[int, int], side: int) -> Image.Image:
    changed = image.copy()
    changed.paste((250, 240, 20), (*place, place[0] + side, place[1] + side))
    return changed


def dark_corners(seed: int) -> Image.Image:
    """A slide: what all have in common is much brighter than what tells them apart."""
    y, x = np.mgrid[-1:1:240j, -1:1:320j]
    specks = gaussian_filter(np.random.default_rng(seed).normal(0, 1, (240, 320)), 6)
    grey = 220 - 90 * (x ** 2 + y ** 2) + 4.5 * specks / specks.std()
    return Image.fromarray(np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2))


def sky(seed: int) -> Image.Image:
    """The same sky above another ground."""
    whole = Image.linear_gradient("L").resize(SIZE).convert("RGB")
    whole.paste(scene(seed).crop((0, 180, 320, 240)), (0, 180))
    return whole


@pytest.mark.parametrize("others", [
    [scene(seed) for seed in range(20)],
    [scene(1), ImageOps.mirror(scene(1)), scene(1).rotate(180), ImageOps.invert(scene(1))],
    [scene(1), scene(1).crop((40, 30, 280, 210)), ImageEnhance.Brightness(scene(1)).enhance(0.8)],
    [with_patch(scene(1), (20, 20), 80), with_patch(scene(1), (200, 120), 80)],
    [dark_corners(seed) for seed in range(10)],
    [sky(seed) for seed in range(10)],
], ids=["scenes", "mirrored", "cropped and darkened", "an object elsewhere", "dark corners", "sky"])
def test_others_are_not(tmp_path, others):
    assert are_found(tmp_path, *others) == []


@pytest.mark.parametrize("uniform", [
    lambda k: Image.new("RGB", SIZE, (255, 255, 255)),
    lambda k: Image.new("L", SIZE, 100 + k),
    lambda k: Image.linear_gradient("L").resize(SIZE),
    lambda k: Image.effect_noise(SIZE, 8),  # grain, of which nothing is left on the grid
    lambda k: with_patch(Image.new("RGB", SIZE, (240, 240, 240)), (30 * k, 20 * k), 4),  # a page with a speck
], ids=["white", "grey", "gradient", "grain", "speck"])
def test_nearly_uniform_pictures_are_not_compared(tmp_path, uniform):
    assert are_found(tmp_path, *(uniform(k) for k in range(5))) == []


def test_what_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 cut off")
    assert grid_of(str(tmp_path / "a.jpg")) is None and grid_of(str(tmp_path / "none.jpg")) is None
    assert list(groups([])) == []


def test_generated_pictures_are_all_different(tmp_path):
    write_demo_set(tmp_path, 60, 20, 96, 0)
    files = sorted(file for split in ("train", "val") for file in (tmp_path / f"{split}2017").iterdir())
    assert len(files) == 80 and are_found(tmp_path, *files) == []


def test_all_near_ones_are_compared(monkeypatch):
    """The coarse grid leaves out no pair that the fine one would take for the same, wherever they differ."""
    random = np.random.default_rng(0)
    base = random.integers(40, 160, (32, 32, 3)).astype(np.uint8)
    near = []
    for place in range(30):
        changed = base.astype(int)
        rows = slice(place, place + 2)
        changed[rows] += int(same_pictures.NEAR * 15)  # 2 of 32 rows: a mean of 15/16 of what is allowed
        near.append(changed.astype(np.uint8))
    monkeypatch.setattr(same_pictures, "LIKE", 0)
    assert all(are_same(base, other) for other in near)
    assert [len(group) for group in groups([base, *near])] == [31]


def test_details_are_what_stands_out():
    grid = np.full((32, 32, 3), 50, np.uint8)
    assert np.abs(details(grid)).max() < 1e-4
    grid[16, 16] = 150
    assert details(grid)[16, 16] == pytest.approx([96, 96, 96]) and details(grid)[14, 14, 0] == pytest.approx(-4)


@pytest.mark.skipif(not COCO_MINI.is_dir(), reason="photographs are not here")
def test_photographs(tmp_path):
    """No two different ones of COCO's are taken for the same, and copies of them are found."""
    files = sorted((COCO_MINI / "val2017").iterdir())[:60]
    assert are_found(tmp_path, *files) == []
    for number, file in enumerate(files[:20]):
        image = Image.open(file).convert("RGB")
        half = saved(image.resize((image.width // 2, image.height // 2)), tmp_path / f"{number}h.jpg", quality=75)
        assert are_found(tmp_path, file, half) == [[0, 1]], file
