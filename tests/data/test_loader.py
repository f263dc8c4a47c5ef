"""The loader: the same batches whatever makes them, and nothing that dies, hangs or is damaged goes unnoticed."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from detr_jittor.config.options import Config, DataConfig
from detr_jittor.data import pool
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
from detr_jittor.data.pool import AHEAD
from detr_jittor.data.transforms import MEAN, STD
from detr_jittor.errors import DetrError
from detr_jittor.types import Batch

pytestmark = pytest.mark.timeout(60)  # what is not noticed would be waited for without end


def options(workers: int = 0, **values) -> DataConfig:
    return Config().replace(num_workers=workers, **{"min_size": 64, "max_size": 100} | values).data


def index_of(dataset, masks: bool = False) -> CocoIndex:
    return CocoIndex.read(dataset.file(), dataset.folder(), masks)


def batches(dataset, workers=0, epoch=0, start=0, train=True, batch_size=2, seed=42, masks=False, **values):
    loader = Loader(index_of(dataset, masks), options(workers, **values), batch_size, train, seed, masks)
    try:
        return list(loader.epoch(epoch, start))
    finally:
        loader.close()


def equal(a: Batch, b: Batch) -> bool:
    arrays = [(a.images, b.images), (a.mask, b.mask)]
    for mine, yours in zip(a.targets, b.targets):
        if (mine.image_id, mine.size, mine.orig_size) != (yours.image_id, yours.size, yours.orig_size):
            return False
        arrays += [(mine.labels, yours.labels), (mine.boxes, yours.boxes), (mine.area, yours.area),
                   (mine.iscrowd, yours.iscrowd)]
        if mine.masks is not None:
            arrays.append((mine.masks, yours.masks))
    return (len(a.targets) == len(b.targets) and a.bad_images == b.bad_images
            and all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in arrays))


def test_a_batch_holds_what_its_type_says(dataset):
    for batch in batches(dataset, masks=True, batch_size=3):
        count, _, height, width = batch.images.shape
        assert batch.images.dtype == np.float32 and batch.mask.shape == (count, height, width)
        assert batch.mask.dtype == bool and len(batch.targets) == count == len(batch) == 3
        assert max(t.size[0] for t in batch.targets) == height and max(t.size[1] for t in batch.targets) == width
        for image, padding, target in zip(batch.images, batch.mask, batch.targets):
            h, w = target.size
            assert not padding[:h, :w].any() and padding[h:].all() and padding[:, w:].all()
            assert (image[:, padding] == 0).all()
            assert target.boxes.dtype == np.float32 and target.labels.dtype == np.int64
            assert target.masks.shape == (len(target.boxes), height, width) and not target.masks[:, padding].any()
            assert ((target.boxes >= 0) & (target.boxes <= 1)).all() and (target.boxes[:, 2:] > 0).all()


def test_evaluation_has_every_picture_in_order_as_it_is(dataset):
    result = batches(dataset, train=False)
    records = dataset.content["images"]
    assert [t.image_id for b in result for t in b.targets] == [r["id"] for r in records]
    assert [len(b) for b in result] == [2, 2, 2, 1]
    target = result[0].targets[1]  # 80×60, so 85×64
    annotation = dataset.content["annotations"][0]
    x, y, w, h = annotation["bbox"]
    assert target.orig_size == (80, 60) and target.size == (85, 64)
    assert np.allclose(target.boxes, [[(x + w / 2) / 60, (y + h / 2) / 80, w / 60, h / 80]], atol=1e-6)
    assert np.allclose(target.area, annotation["area"] * (64 / 60) * (85 / 80), rtol=1e-5)
    assert target.labels.tolist() == [annotation["category_id"]]


def test_training_pixels_are_those_of_the_picture(dataset):
    result = batches(dataset, augmentation="flip", min_size=48, max_size=96)
    pictures = {t.image_id: (b.images[place], t) for b in result for place, t in enumerate(b.targets)}
    for image_id, (image, target) in pictures.items():
        record = next(r for r in dataset.content["images"] if r["id"] == image_id)
        original = Image.open(dataset.folder() / record["file_name"])
        h, w = target.size
        pixels = np.rint((image[:, :h, :w] * STD[:, None, None] + MEAN[:, None, None]) * 255).transpose(1, 2, 0)
        flipped = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert any(np.array_equal(pixels, np.asarray(p.resize((w, h), Image.Resampling.BILINEAR)))
                   for p in (original, flipped))


def test_training_shuffles_and_drops_the_rest(dataset):
    orders = [[t.image_id for b in batches(dataset, epoch=epoch) for t in b.targets] for epoch in (0, 1)]
    assert all(len(order) == len(set(order)) == 6 for order in orders) and orders[0] != orders[1]
    loader = Loader(index_of(dataset), options(), 2, True, 0)
    assert len(loader) == 3 and len(Loader(index_of(dataset), options(), 2, False, 0)) == 4


@pytest.mark.parametrize("masks", [False, True])
def test_no_pixel_depends_on_the_number_of_workers(dataset, masks):
    expected = [batches(dataset, epoch=epoch, masks=masks) for epoch in (0, 1)]
    assert not equal(expected[0][0], expected[1][0])
    for workers in (1, 2):
        loader = Loader(index_of(dataset, masks), options(workers), 2, True, 42, masks)
        for epoch in (0, 1):
            assert all(map(equal, expected[epoch], loader.epoch(epoch)))
        assert equal(next(iter(loader.epoch(0))), expected[0][0])  # given up half-way …
        assert all(map(equal, expected[1], loader.epoch(1)))  # … and nothing of it is left over
        loader.close()


@pytest.mark.parametrize("processes, batch_size", [(2, 1), (3, 1), (2, 2), (3, 2)])
def test_batches_are_dealt_out_to_processes(dataset, processes, batch_size):
    """In training a step's pictures are those of one process with the whole batch; in evaluation each comes once."""
    def pictures(train, size, rank=0, count=1, start=0):
        loader = Loader(index_of(dataset), options(), size, train, 42, rank=rank, processes=count)
        return [[t.image_id for t in batch.targets] for batch in loader.epoch(3, start)]

    together = pictures(True, processes * batch_size)
    for start in (0, 1):
        parts = [pictures(True, batch_size, rank, processes, start) for rank in range(processes)]
        assert [[i for batch in step for i in batch] for step in zip(*parts, strict=True)] == together[start:]
    parts = [pictures(False, batch_size, rank, processes) for rank in range(processes)]
    assert sorted(tuple(batch) for part in parts for batch in part) == sorted(map(tuple, pictures(False, batch_size)))


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_goes_on_with_the_same_batches(dataset, workers):
    whole = batches(dataset, epoch=3)
    assert len(whole) == 3
    rest = batches(dataset, workers, epoch=3, start=1)
    assert len(rest) == 2 and all(map(equal, whole[1:], rest))
    assert batches(dataset, workers, epoch=3, start=3) == []


def test_draws_depend_on_seed_and_epoch_and_not_on_the_neighbours(dataset):
    def boxes(**where):
        return {t.image_id: t.boxes for b in batches(dataset, **where) for t in b.targets}

    alone = boxes(epoch=5, batch_size=1)
    assert all(np.array_equal(alone[i], found) for i, found in boxes(epoch=5, batch_size=2).items())
    for other in (boxes(epoch=6, batch_size=1), boxes(epoch=5, batch_size=1, seed=43)):  # the same pictures, not alike
        assert any(not np.array_equal(alone[i], found) for i, found in other.items())


def test_crowds_empty_and_difficult_objects_are_left_out(dataset):
    content = dataset.copy()
    mine = [a for a in content["annotations"] if a["image_id"] == 13]
    assert len(mine) == 3
    mine[0]["iscrowd"], mine[1]["bbox"][3], mine[2]["difficult"] = 1, 0, 1
    dataset.write("train", content)

    def left(**values):
        return next(t for b in batches(dataset, train=False, **values) for t in b.targets if t.image_id == 13).labels

    assert left().tolist() == [mine[2]["category_id"]]
    assert left(remove_difficult=True).tolist() == []


def test_boxes_that_reach_past_their_picture_are_clipped(dataset):
    content = dataset.copy()
    (mine,) = (a for a in content["annotations"] if a["image_id"] == 11)
    mine["bbox"] = [-5, 20, 30, 90]  # of 60×80 pixels
    dataset.write("train", content)
    target = next(t for b in batches(dataset, train=False) for t in b.targets if t.image_id == 11)
    assert np.allclose(target.boxes, [[12.5 / 60, 50 / 80, 25 / 60, 60 / 80]], atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_costs_itself_only(dataset, workers):
    whole = batches(dataset, train=False, batch_size=4)
    content = (dataset.folder() / "001.jpg").read_bytes()
    (dataset.folder() / "001.jpg").write_bytes(content[:len(content) // 2])
    result = batches(dataset, workers, train=False, batch_size=4)
    assert [t.image_id for t in result[0].targets] == [10, 12, 13] and len(result[0].images) == 3
    assert len(result[0].bad_images) == 1 and "001.jpg" in result[0].bad_images[0]
    assert equal(whole[1], result[1])


def test_a_batch_of_damaged_pictures_only_is_empty(dataset):
    for file in dataset.folder().iterdir():
        file.write_bytes(b"")
    result = batches(dataset, 1, train=False)
    assert all(len(b) == 0 and b.images.shape == (0, 3, 0, 0) and b.targets == [] for b in result)
    assert sum(len(b.bad_images) for b in result) == 7


def test_a_picture_of_another_size_than_annotated_is_named(dataset):
    Image.new("RGB", (60, 80)).save(dataset.folder() / "000.jpg")  # annotated as 80×60
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (80, 60)).save(dataset.folder() / "001.jpg", exif=exif)  # annotated as 60×80, as it is upright
    batch = batches(dataset, train=False)[0]
    bad, = batch.bad_images
    assert "000.jpg" in bad and "60×80 pixels, but image 10 says 80×60" in bad and "Correct width" in bad
    assert batch.targets[0].orig_size == (80, 60)


def test_sizes_that_cannot_be(dataset):
    index = index_of(dataset)
    for batch_size, values in ((0, {}), (8, {}), (2, {"num_workers": -1}), (2, {"min_size": 0})):
        with pytest.raises(DetrError, match="--"):
            Loader(index, Config().replace(**values).data, batch_size, True, 0)
    assert len(Loader(index, options(), 8, False, 0)) == 1
    with pytest.raises(ValueError, match="masks"):
        Loader(index, options(), 2, True, 0, masks=True)


@pytest.fixture
def running(dataset):
    """A loader whose two workers have made batches already."""
    loader = Loader(index_of(dataset), options(2), 1, True, 42)
    for _ in loader.epoch(0):
        pass
    yield loader
    loader.close()


def alive(loader: Loader) -> list[int]:
    return [w.process.pid for w in loader.pool.workers if psutil.pid_exists(w.process.pid)]


def test_a_killed_worker_is_noticed(running):
    os.kill(running.pool.workers[0].process.pid, signal.SIGKILL)
    with pytest.raises(DetrError, match="killed by signal 9") as caught:
        list(running.epoch(1))
    assert ".jpg" in str(caught.value) and alive(running) == []


def test_a_worker_killed_in_mid_epoch_is_noticed(running):
    epoch = running.epoch(1)
    next(epoch)
    os.kill(running.pool.workers[1].process.pid, signal.SIGKILL)
    with pytest.raises(DetrError, match="worker process"):
        list(epoch)


def test_a_hanging_worker_is_noticed(running):
    running.pool.patience = 2
    os.kill(running.pool.workers[1].process.pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(DetrError, match="has not answered for 2 s") as caught:
        list(running.epoch(1))
    assert ".jpg" in str(caught.value) and 1.5 < time.monotonic() - start < 30
    assert alive(running) == []


@pytest.mark.slow
def test_a_worker_that_computes_without_end_is_noticed(running, monkeypatch):
    running.pool.patience = 20
    used = iter(range(0, 1000, 3))
    monkeypatch.setattr(pool, "cpu_time", lambda worker: float(next(used)))
    os.kill(running.pool.workers[1].process.pid, signal.SIGSTOP)  # it answers no more, and seems to compute
    with pytest.raises(DetrError, match="has not answered"):
        list(running.epoch(1))
    assert next(used) >= 20


def test_a_large_batch_may_compute_for_longer(dataset, monkeypatch):
    """As --accumulate makes it: each of its pictures counts."""
    loader = Loader(index_of(dataset), options(1), 7, False, 42)
    assert len(next(iter(loader.epoch(0)))) == 7
    loader.pool.patience = 20
    used = iter(range(0, 1000, 35))
    monkeypatch.setattr(pool, "cpu_time", lambda worker: float(next(used)))
    os.kill(loader.pool.workers[0].process.pid, signal.SIGSTOP)
    with pytest.raises(DetrError, match="has not answered"):
        next(iter(loader.epoch(1)))
    assert next(used) == 105


def test_a_worker_whose_turn_seldom_comes_is_waited_for(running, monkeypatch):
    running.pool.patience = 2
    used = iter(np.arange(1, 100) * 0.01)
    monkeypatch.setattr(pool, "cpu_time", lambda worker: float(next(used)))
    stopped = running.pool.workers[1].process.pid
    os.kill(stopped, signal.SIGSTOP)
    threading.Timer(4, os.kill, (stopped, signal.SIGCONT)).start()
    assert len(list(running.epoch(1))) == 7


def test_processor_time_is_that_of_the_worker(running):
    worker = running.pool.workers[0]
    times = psutil.Process(worker.process.pid).cpu_times()
    assert pool.cpu_time(worker) > 0.02 and abs(pool.cpu_time(worker) - times.user - times.system) < 0.1
    running.close()
    assert pool.cpu_time(worker) == 0


def test_an_error_of_ours_in_a_worker_is_not_hidden(running):
    running.pool._send("no request")
    with pytest.raises(RuntimeError, match="AttributeError"):
        list(running.epoch(1))


def test_interrupts_are_the_parents_business(running):
    for worker in running.pool.workers:
        os.kill(worker.process.pid, signal.SIGINT)
        os.kill(worker.process.pid, signal.SIGTERM)
    assert len(list(running.epoch(1))) == 7


def test_closing_ends_the_workers(running):
    assert len(alive(running)) == 2
    running.close()
    running.close()
    assert alive(running) == []


PARENT = """
import sys
from detr_jittor.config.options import Config
from detr_jittor.data import pool
from detr_jittor.data.coco import CocoIndex
from detr_jittor.data.loader import Loader
index = CocoIndex.read(sys.argv[1], sys.argv[2])
loader = Loader(index, Config().replace(num_workers=2, min_size=32).data, 1, False, 0)
next(loader.epoch())
print(*[w.process.pid for w in loader.pool.workers], flush=True)
print(*sorted(m for m in sys.modules if m in ("torch", "jittor")), flush=True)
if sys.argv[3] == "wait":
    sys.stdin.read()
"""


def parent(dataset, how: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PARENT, dataset.file(), dataset.folder(), how], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def wait_until_gone(pids: list[int]) -> bool:
    for _ in range(100):
        running = {p.pid for p in psutil.process_iter(["status"]) if p.info["status"] != psutil.STATUS_ZOMBIE}
        if not running & set(pids):
            return True
        time.sleep(0.1)
    return False


def test_workers_do_not_outlive_their_parent(dataset):
    with parent(dataset, "end") as process:
        pids = list(map(int, process.stdout.readline().split()))
        assert len(pids) == 2 and process.stdout.read().strip() == ""  # neither framework is loaded
    assert process.returncode == 0 and wait_until_gone(pids)
    with parent(dataset, "wait") as process:
        pids = list(map(int, process.stdout.readline().split()))
        # the workers' own libraries: no framework there either
        maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
        assert "simplejpeg" in maps and "torch" not in maps and "jittor_core" not in maps
        process.kill()
    assert wait_until_gone(pids)


@pytest.mark.timeout(900)  # the import of torch from a cold disk
def test_workers_start_although_the_parent_runs_threads_and_has_no_main_guard(dataset, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import torch, threading, time\n"
                      "torch.ones(300, 300) @ torch.ones(300, 300)\n"
                      "threading.Thread(target=time.sleep, args=(3,), daemon=True).start()\n" + PARENT)
    result = subprocess.run([sys.executable, script, dataset.file(), dataset.folder(), "end"], text=True, timeout=900,
                            capture_output=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert result.returncode == 0 and result.stderr == "" and result.stdout.splitlines()[1] == "torch"


def test_shared_memory_is_given_back(dataset):
    gc.collect()
    before = memory_maps()  # what other tests of this process still hold
    loader = Loader(index_of(dataset), options(2), 1, True, 42)
    kept = None
    handles = []
    for epoch in range(6):
        for batch in loader.epoch(epoch):
            kept = batch if kept is None else kept
        handles.append((psutil.Process().num_fds(), memory_maps()))
    assert len(set(handles[1:])) == 1 and handles[-1][1] - before <= 2  # of the first batch and the last
    first = next(iter(loader.epoch(0)))
    assert equal(first, kept)  # what was kept was not written over
    kept.images += 1  # and it is ours to write
    loader.close()


def memory_maps() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:detr-jittor")


def test_work_goes_on_while_the_consumer_is_busy(dataset):
    loader = Loader(index_of(dataset), options(2), 1, True, 42)
    epoch = loader.epoch(0)
    next(epoch)
    assert sum(len(w.jobs) for w in loader.pool.workers) == 2 * AHEAD
    for _ in range(100):  # everything that was sent ahead gets done without being asked for
        if all(w.connection.poll(0.1) for w in loader.pool.workers):
            break
    else:
        pytest.fail("the workers wait to be asked")
    loader.close()


def test_without_memfd_files_serve(dataset, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    assert all(map(equal, batches(dataset), batches(dataset, 1)))


def test_a_picture_that_never_comes(dataset):
    """A named pipe nobody writes to is what a dead network disk looks like: reading it does not return."""
    os.remove(dataset.folder() / "003.jpg")
    os.mkfifo(dataset.folder() / "003.jpg")
    loader = Loader(index_of(dataset), options(2), 1, False, 42)
    epoch = loader.epoch(0)
    next(epoch)
    loader.pool.patience = 5
    with pytest.raises(DetrError, match=r"has not answered.*003\.jpg"):
        list(epoch)


def test_index_may_hold_masks_that_nobody_asks_for(dataset):
    loader = Loader(index_of(dataset, masks=True), options(), 7, False, 42)
    assert all(t.masks is None for t in next(iter(loader.epoch())).targets)
    assert json.loads(dataset.file().read_text())["annotations"][0]["segmentation"]
