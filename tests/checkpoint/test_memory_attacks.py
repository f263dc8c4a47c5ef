"""Files that would corrupt memory or ask for more of it than there is, most of them smaller than a kilobyte.

The first ones have the shape of CVE-2026-24747: SETITEM and SETITEMS applied to what is no dictionary, which writes
through a tensor, and a storage whose declared count is not that of its bytes. PyTorch's `weights_only` reader took both
before 2.10.
"""

import json
import resource
import struct
import subprocess
import sys

import numpy as np
import pytest
from small import SMALL
from test_attacks import NUMBERS, ZIPS, archive, model, reconstructed, stored_tensor, tensor, text, wrapped

from detr_jittor.checkpoint import store
from detr_jittor.checkpoint.layout import Checkpoint
from detr_jittor.errors import DetrError
from detr_jittor.frameworks.load import load_twin
from detr_jittor.predict.predictor import Predictor
from detr_jittor.types import State

MEMORY = 2 << 30  # bytes that reading may take, with Python and NumPy
FAR = b"\x8a\x08" + struct.pack("<q", 1 << 40)
ARRAY = reconstructed(b"K\x02\x85", b"f4", NUMBERS)
UNFINISHED = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + b"C\x01b" + b"\x87R"
TARGETS = {  # what SETITEM is applied to
    "a list": b"]", "a list of numbers": b"](K\x01K\x02e", "a tuple": b")", "a text": text("abcd"), "bytes": NUMBERS,
    "a byte array": b"\x96" + struct.pack("<Q", 8) + bytes(8), "a number": b"K\x07", "nothing": b"N",
    "an array": ARRAY, "an unfinished array": UNFINISHED, "a constructor": b"cnumpy.core.multiarray\n_reconstruct\n",
}
ITEMS = {"one item": b"K\x00K\x01s", "an item far away": FAR + b"K\x01s", "a negative one": b"J\xff\xff\xff\xffK\x01s",
         "several items": b"(K\x00K\x01K\x01K\x02u", "several far away": b"(" + FAR + b"K\x01u",
         "a slice of texts": b"(" + text("a") + b"K\x01u"}


@pytest.mark.parametrize("form", ["jittor", "legacy", "zip"])
@pytest.mark.parametrize("items", ITEMS)
def test_items_of_what_is_no_dictionary(tmp_path, form, items):
    for target in TARGETS.values():
        file = tmp_path / f"a{'.pkl' if form == 'jittor' else '.pth'}"
        file.write_bytes(wrapped(model(target + ITEMS[items]), form))
        assert file.stat().st_size < 1024
        with pytest.raises(DetrError, match="item of what is no dictionary"):
            store.load(file)


@pytest.mark.parametrize("items", ITEMS)
def test_items_of_a_tensor(tmp_path, items):
    """As in the CVE: a tensor stands on the stack, with a storage that is there."""
    program = b"\x80\x02" + model(tensor("0", 4, (2, 2), (2, 1)) + ITEMS[items]) + b"."
    with pytest.raises(DetrError, match="item of what is no dictionary"):
        store.load(archive(tmp_path, {"a/data.pkl": program, "a/data/0": bytes(16)}))


@pytest.mark.parametrize("count, shape, size", [
    (2, (2, 2), 16), (4, (2, 2), 8), (4, (2, 2), 15), (0, (2, 2), 16), (1 << 62, (2, 2), 16), (-4, (2, 2), 16),
    (4, (2, 2), 0), (1, (1 << 40,), 4), (2, (2, 1), 16)])
def test_a_storage_of_another_size_than_it_says(tmp_path, count, shape, size):
    """More than there is, less than there is, and a view beyond what is declared."""
    stride = (1,) if len(shape) == 1 else (2, 1)
    members = {"a/data.pkl": stored_tensor("0", count, shape, stride), "a/data/0": bytes(size)}
    with pytest.raises(DetrError, match="damaged"):
        store.load(archive(tmp_path, members))


def test_the_file_is_read_without_these(tmp_path):
    """Nothing else of it is the reason: the same tensor without items, of the right size."""
    members, _ = ZIPS["good"]
    assert store.load(archive(tmp_path, members)).state.model["w"].shape == (2, 2)


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


GIANT = number(1 << 60)
SMALL_BOMBS = {
    "an array of 2^60 numbers": model(reconstructed(GIANT + b"\x85", b"f4", NUMBERS)),
    "an empty array of 0 × 2^60": model(reconstructed(b"K\x00" + GIANT + GIANT + b"\x87", b"f4", b"C\x00")),
    "an array of 2^31 × 2^31 in two bytes": model(reconstructed(number(1 << 31) + number(1 << 31) + b"\x86", b"f4",
                                                                b"C\x02ab")),
    "bytes of 2^40": model(b"\x8e" + struct.pack("<Q", 1 << 40)),
    "a byte array of 2^40": model(b"\x96" + struct.pack("<Q", 1 << 40)),
    "a text of 2^40": b"\x8d" + struct.pack("<Q", 1 << 40),
    "a frame of 2^62": b"\x95" + struct.pack("<Q", 1 << 62) + model(b"K\x05"),
    "a number of 2 GB": b"\x8b" + struct.pack("<i", 0x7FFFFFFF) + bytes(99),
    "a decimal number of 800 digits as a shape": model(reconstructed(b"I" + b"9" * 800 + b"\n\x85", b"f4", NUMBERS)),
    "a memo of 2^32 entries": b"]r\xff\xff\xff\xff0" + model(b"K\x05"),
    "texts doubled by tuples": text("x" * 9) + b"q\x00" + b"h\x00\x86q\x00" * 99,
    "lists doubled a hundred times": b"]q\x00" + b"".join(b"](h\x00h\x00eq\x00" for _ in range(99)),
    "encoded over and over": text("x" * 99) + b"q\x000" + text("latin1") + b"q\x010" + b"(" +
                             b"c_codecs\nencode\nh\x00h\x01\x86R" * 30 + b"l",
    "dictionaries doubled": b"}q\x00" + b"".join(b"}(" + text("a") + b"h\x00" + text("b") + b"h\x00uq\x00"
                                                  for _ in range(40)),
}

PROBE = """
import sys
from pathlib import Path
from detr_jittor.checkpoint import store
from detr_jittor.errors import DetrError
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print("read", path.name, store.load(path))
    except DetrError as error:
        print("refused", path.name, "-", str(error).replace(str(path), ""))
"""


@pytest.mark.parametrize("form", ["jittor", "legacy", "zip"])
def test_allocation_bombs_below_a_kilobyte(tmp_path, form):
    """All in one process with little memory, so that one that goes off is seen."""
    for name, program in SMALL_BOMBS.items():
        content = wrapped(program, form)
        assert len(program) < 1024, name
        (tmp_path / f"{name}{'.pkl' if form == 'jittor' else '.pth'}").write_bytes(content)
    refused_within(tmp_path, len(SMALL_BOMBS))


def refused_within(folder, count: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, folder], capture_output=True, text=True, timeout=120,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == count and all(line.startswith("refused") for line in lines), done.stdout
    assert "not enough memory" not in done.stdout, done.stdout


def test_safetensors_bombs_below_a_kilobyte(tmp_path):
    def header(content: dict | bytes, length: int | None = None) -> bytes:
        head = content if isinstance(content, bytes) else json.dumps(content).encode()
        return struct.pack("<Q", len(head) if length is None else length) + head

    bombs = {"a header of 2^60": header(b"{}", 1 << 60), "a header of 99 MB": header(b"{}", 99 << 20),
             "a tensor of 2^60": header({"w": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}}) + bytes(4),
             "a tensor of 2^40 × 2^40": header({"w": {"dtype": "F32", "shape": [1 << 40, 1 << 40],
                                                      "data_offsets": [0, 0]}}),
             "offsets of 2^62": header({"w": {"dtype": "F32", "shape": [1], "data_offsets": [1 << 62, (1 << 62) + 4]}}),
             "nested": header(b"[" * 900)}
    for name, content in bombs.items():
        assert len(content) < 1024
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    refused_within(tmp_path, len(bombs))


@pytest.fixture(scope="module")
def weights() -> State:
    return State(load_twin("pytorch")(SMALL, 3).state().model, {})


@pytest.mark.parametrize("option", ["num_queries", "hidden_dim", "dim_feedforward", "enc_layers", "dec_layers"])
@pytest.mark.parametrize("value", [1 << 40, 8192])
def test_settings_that_describe_a_giant(weights, tmp_path, option, value):
    """In a checkpoint of small weights: refused before a model is built, also where a machine could just build it."""
    config = SMALL.replace(num_classes=3, **{option: value})
    with pytest.raises(DetrError, match=r"a\.pth: its settings are not those of its weights"):
        Predictor(Checkpoint(weights, config=config), config, "a.pth")


@pytest.mark.parametrize("options", [{"num_queries": 1 << 40}, {"min_size": 1 << 40, "max_size": 1 << 40}])
def test_settings_beyond_any_machine_without_weights_to_compare(options):
    config = SMALL.replace(**options)
    state = State({"class_embed.weight": np.zeros((4, 64), np.float32)}, {})
    with pytest.raises(DetrError, match="is more than any machine serves"):
        Predictor(Checkpoint(state, config=config), config, "a.pth")
