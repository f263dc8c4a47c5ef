"""Each check of the readers refuses with its own words.

Behind most of them another one, or an error of Python's, would refuse the same file: only the words tell whether the
check itself is there. Each fault stands in a file that is read without it.
"""

import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable

import pytest
from checkpoint_samples import sample
from test_attacks import GOOD, MAGIC, NUMBERS, archive, call, model, reconstructed, stored_tensor, tensor, text, wrapped

from detr_jittor.checkpoint import pickle_file, store
from detr_jittor.checkpoint.layout import to_record
from detr_jittor.errors import DetrError

NAMESPACE = b"cargparse\nNamespace\n)R"
ENCODE = b"c_codecs\nencode\n"
DTYPE = call("numpy", "dtype", text("f4"), b"\x89", b"\x88")


def typed(state: bytes) -> bytes:
    """A type with this state, in the place of a value."""
    return DTYPE + b"(" + state + b"tb"


def filled(shape: bytes, kind: bytes, content: bytes) -> bytes:
    """An array whose type is any value."""
    made = call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"C\x01b")
    return made + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


ANY = typed(b"K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00")
PROGRAMS = {  # what stands in a pickle behind a good model, and the words with which it is refused
    "append to a dictionary": (b"}K\x01a", "append to what is no list"),
    "a name that no checkpoint has": (b"cos\nsystem\n", "os.system, which no checkpoint needs"),
    "a number as a module's name": (b"K\x01" + text("x") + b"\x93", "a name that is no text"),
    "a number as a name": (text("x") + b"K\x01\x93", "a name that is no text"),
    "a call of a name": (b"cnumpy\nndarray\n)R", "calls what is no constructor"),
    "a call of a number": (b"K\x01)R", "calls what is no constructor"),
    "a call with a list": (ENCODE + b"](" + text("a") + text("latin1") + b"eR", "calls what is no constructor"),
    "the state of a number": (b"K\x01}b", "sets the state of what has none"),
    "the state of an object, which is a number": (NAMESPACE + b"K\x01b", "sets the state of what has none"),
    "a persistent id": (text("x") + b"Q", "a persistent id, which this format does not have"),
    "a tuple as a key": (b"})Ns", "a dictionary's key"),
    "a key without its value": (b"}(" + text("a") + b"u", "a dictionary's key"),
    "texts in an array": (reconstructed(b"K\x01\x85", b"U2", NUMBERS), "objects, records or texts"),
    "objects in an array": (reconstructed(b"K\x01\x85", b"O8", NUMBERS), "objects, records or texts"),
    "a number as a type's code": (call("numpy", "dtype", b"K\x05"), "objects, records or texts"),
    "another byte order": (typed(b"K\x03" + text(">") + b"NNN"), "records or of another byte order"),
    "a record's fields": (typed(b"K\x03" + text("<") + b"N)N"), "records or of another byte order"),
    "an array of a number's type": (filled(b"K\x02\x85", b"K\x05", NUMBERS), "an array without a type"),
    "an array of half a type": (filled(b"K\x02\x85", DTYPE, NUMBERS), "an array without a type"),
    "a negative length": (filled(b"J\xfe\xff\xff\xff\x85", ANY, b"C\x00"), "an array of impossible shape"),
    "a text as a length": (filled(text("a") + b"\x85", ANY, NUMBERS), "an array of impossible shape"),
    "too few bytes": (filled(b"K\x03\x85", ANY, NUMBERS), "with another number of bytes"),
    "too many bytes": (filled(b"K\x01\x85", ANY, NUMBERS), "with another number of bytes"),
    "a list in place of bytes": (filled(b"K\x01\x85", ANY, b"](K\x01K\x02K\x03K\x04e"), "with another number of bytes"),
    "another encoding": (call("_codecs", "encode", text("a"), text("utf-16")), "bytes in an unknown encoding"),
    "a variable of a number": (call("jittor.jittor_core", "Var", b"K\x05"), "a Jittor variable without an array"),
    "one text encoded over and over": (
        text("x" * 100_000) + b"q\x000" + text("latin1") + b"q\x010" + b"(" + (ENCODE + b"h\x00h\x01\x86R") * 99 + b"l",
        "far more data than the file holds"),
    # what Python raises on the way
    "bytes that are not there": (b"\x8e" + struct.pack("<Q", 1 << 60), r"damaged pickle \(ValueError"),
    "an argument too many": (ENCODE + b"(NNNtR", r"damaged pickle \(TypeError"),
    "nothing on the stack": (b"00000", r"damaged pickle \(IndexError"),
    "a memo that is not there": (b"h\x07", r"damaged pickle \(KeyError"),
    "a number to encode": (call("_codecs", "encode", b"K\x01", text("latin1")), r"damaged pickle \(AttributeError"),
}
WHOLE = {  # a pickle of its own, and the words with which it is refused
    "no dictionary": (b"K\x05", "it holds no dictionary"), "an empty one": (b"}", "neither .model. nor the file"),
    "an empty model": (b"}" + text("model") + b"}s", "neither .model. nor the file"),
    "a number as a weight": (model(b"K\x05"), "neither .model. nor the file"),
    "a number as a weight's name": (b"}" + text("model") + b"}K\x05" + reconstructed(b"K\x02\x85", b"f4", NUMBERS) +
                                    b"ss", "neither .model. nor the file"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_pickles_of_no_checkpoint(tmp_path, name):
    program, words = WHOLE[name]
    refused(tmp_path, ".pkl", wrapped(program, "jittor"), words)


@pytest.mark.parametrize("name", PROGRAMS)
def test_pickles(tmp_path, name):
    program, words = PROGRAMS[name]
    refused(tmp_path, ".pkl", wrapped(GOOD + program + b"0", "jittor"), words)


def refused(folder, suffix: str, content: bytes, words: str) -> None:
    file = folder / f"a{suffix}"
    file.write_bytes(content)
    with pytest.raises(DetrError, match=words):
        store.load(file)


def test_a_good_pickle_with_a_good_array_behind_it(tmp_path):
    """What the programs above are put together of is read."""
    for more in (filled(b"K\x02\x85", ANY, NUMBERS), NAMESPACE + b"}b", call("_codecs", "encode", text("a"),
                                                                           text("latin1"))):
        (tmp_path / "a.pkl").write_bytes(wrapped(GOOD + more + b"0", "jittor"))
        assert store.load(tmp_path / "a.pkl").state.model["w"].shape == (2,)


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


FLOAT, KEY, FOUR = b"ctorch\nFloatStorage\n", text("0"), number(4)
IDENTITIES = {
    "a text": text("storage"), "a list": b"](" + text("storage") + FLOAT + KEY + text("cpu") + FOUR + b"e",
    "four parts": b"(" + text("storage") + FLOAT + KEY + FOUR + b"t",
    "another kind": b"(" + text("module") + FLOAT + KEY + text("cpu") + FOUR + b"t",
    "a type that is a number": b"(" + text("storage") + b"K\x01" + KEY + text("cpu") + FOUR + b"t",
    "a key that is a number": b"(" + text("storage") + FLOAT + b"K\x00" + text("cpu") + FOUR + b"t",
    "a count that is a text": b"(" + text("storage") + FLOAT + KEY + text("cpu") + text("4") + b"t",
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_names_of_storages(tmp_path, name):
    program = b"\x80\x02" + GOOD + IDENTITIES[name] + b"Q0."
    with pytest.raises(DetrError, match=r"damaged \(a storage\)"):
        store.load(archive(tmp_path, {"a/data.pkl": program, "a/data/0": bytes(16)}))


def rebuilt(storage: bytes, offset: bytes, size: bytes, stride: bytes) -> bytes:
    return b"\x80\x02" + GOOD + call("torch._utils", "_rebuild_tensor_v2", storage, offset, size, stride) + b"0."


HELD = b"(" + text("storage") + FLOAT + KEY + text("cpu") + FOUR + b"tQ"
IMPOSSIBLE = "a tensor without storage or of impossible shape"
TENSORS = {
    "no storage": (b"K\x05", b"K\x00", b"K\x04\x85", b"K\x01\x85", IMPOSSIBLE),
    "a negative offset": (HELD, number(-1), b"K\x01\x85", b"K\x01\x85", IMPOSSIBLE),
    "a negative size": (HELD, b"K\x00", number(-1) + b"\x85", b"K\x01\x85", IMPOSSIBLE),
    "a negative stride": (HELD, b"K\x03", b"K\x02\x85", number(-1) + b"\x85", IMPOSSIBLE),
    "a size that is a text": (HELD, b"K\x00", text("a") + b"\x85", b"K\x01\x85", IMPOSSIBLE),
    "a stride too few": (HELD, b"K\x00", b"K\x02K\x02\x86", b"K\x01\x85", IMPOSSIBLE),
    "17 dimensions": (HELD, b"K\x00", b"(" + b"K\x01" * 17 + b"t", b"(" + b"K\x01" * 17 + b"t", IMPOSSIBLE),
    "its last number outside": (HELD, b"K\x01", b"K\x04\x85", b"K\x01\x85", r"a tensor of shape \(4,\) in a storage"),
    "a number five times": (HELD, b"K\x00", b"K\x05\x85", b"K\x00\x85", r"a tensor of shape \(5,\) in a storage"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(tmp_path, name):
    *parts, words = TENSORS[name]
    with pytest.raises(DetrError, match=words):
        store.load(archive(tmp_path, {"a/data.pkl": rebuilt(*parts), "a/data/0": bytes(16)}))


def test_a_good_tensor(tmp_path):
    """What the tensors above are put together of is read, and so is one without numbers, wherever it lies."""
    for parts in ((b"K\x04\x85", b"K\x01\x85"), (b"K\x03K\x00\x86", b"K\x05K\x01\x86")):
        content = {"a/data.pkl": rebuilt(HELD, b"K\x00", *parts), "a/data/0": bytes(16), "a/byteorder": b"little"}
        assert store.load(archive(tmp_path, content)).state.model["w"].shape == (2,)


def legacy(object_: bytes, keys: bytes, storages: bytes, magic: bytes = MAGIC) -> bytes:
    return magic + b"\x80\x02" + object_ + b".\x80\x02" + keys + b"." + storages


ONE_KEY = b"](" + KEY + b"e"
HELD_AS = model(tensor("0", 4, (4,), (1,)))
VIEW = HELD_AS.replace(text("cpu") + FOUR + b"tQ", text("cpu") + FOUR + b"(" + text("v") + b"K\x00K\x04ttQ")
NO_VIEW = HELD_AS.replace(text("cpu") + FOUR + b"tQ", text("cpu") + FOUR + b"NtQ")
LEGACY = {
    "good": (legacy(HELD_AS, ONE_KEY, struct.pack("<q", 4) + bytes(16)), None),
    "no view": (legacy(NO_VIEW, ONE_KEY, struct.pack("<q", 4) + bytes(16)), None),
    "no count": (legacy(HELD_AS, ONE_KEY, b"1234"), "error: unpack requires a buffer of 8 bytes"),
    "no magic number": (legacy(HELD_AS, ONE_KEY, struct.pack("<q", 4) + bytes(16), b"\x80\x02K\x01." + MAGIC),
                        "no PyTorch checkpoint"),
    "from a big-endian machine": (legacy(HELD_AS, ONE_KEY, struct.pack("<q", 4) + bytes(16),
                                         MAGIC.replace(b"\x88", b"\x89")), "big-endian"),
    "a view": (legacy(VIEW, ONE_KEY, struct.pack("<q", 4) + bytes(16)), "a view of a storage"),
    "a negative count": (legacy(HELD_AS, ONE_KEY, struct.pack("<q", -4) + bytes(16)), r"a storage of -4 numbers\)"),
    "a giant count": (legacy(HELD_AS, ONE_KEY, struct.pack("<q", 1 << 60) + bytes(16)), r"a storage of \d+ numbers\)"),
    "a key that nothing asks for": (legacy(HELD_AS, b"](" + text("1") + b"e", struct.pack("<q", 4) + bytes(16)),
                                    r"a storage of 4 numbers\)"),
    "too few bytes": (legacy(HELD_AS, ONE_KEY, struct.pack("<q", 4) + bytes(12)), "a storage of 4 numbers in 12 bytes"),
    "empty": (b"", "it is empty"),
}


@pytest.mark.parametrize("name", LEGACY)
def test_files_from_before_the_zip_format(tmp_path, name):
    content, words = LEGACY[name]
    if words is None:
        (tmp_path / "a.pth").write_bytes(content)
        assert store.load(tmp_path / "a.pth").state.model["w"].shape == (4,)
    else:
        refused(tmp_path, ".pth", content, words)


EIGHT_BITS = b'{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'


@pytest.mark.parametrize("suffix, content, words", [
    (".pkl", b"", "it is empty"),
    (".pth", b"PK\x03\x04" + bytes(99), "BadZipFile"),
    (".pkl", wrapped(GOOD, "jittor")[:-9] + b"\x00" + pickle_file.MARK, "its checksum is wrong"),
    (".safetensors", struct.pack("<Q", len(EIGHT_BITS)) + EIGHT_BITS + bytes(4), "an array of F8_E4M3; only plain"),
])
def test_other_files(tmp_path, suffix, content, words):
    refused(tmp_path, suffix, content, words)


def in_ours(key: str, value) -> Callable[[dict], None]:
    return lambda record: record["detr_jittor"].update({key: value})


def no_moment(record: dict) -> None:
    record["optimizer"]["state"][0]["exp_avg"] = 0.5


RECORDS = {  # what is changed in a checkpoint of ours
    "a list in the settings": (lambda record: record["args"].update(lr=[1]), "settings that are no plain values"),
    "an option that is none": (lambda record: record["args"].update(lr="fast"), "its settings"),
    "more batches than an epoch has": (in_ours("batches", 7), "more batches are done than an epoch has"),
    "a count below its least": (lambda record: record.update(epoch=-2), "no whole number from -1"),
    "a count that is no whole number": (in_ours("step", 1.0), "no whole number from 0"),
    "a moment that is no array": (no_moment, "the optimizer's state"),
    "settings that are a list": (lambda record: record.update(args=[1]), "settings that are no plain values"),
    "a threshold that is a whole number": (in_ours("thresholds", {"1": 1}), "a threshold that is no number"),
    "a threshold above 1": (in_ours("thresholds", {"1": 1.5}), "a threshold that is no number"),
    "a label that no output has": (
        lambda record: record["detr_jittor"]["classes"].update(labels=[1, 2, 4]), "damaged .the classes"),
    "a category's id that is a text": (
        lambda record: record["detr_jittor"]["classes"].update(category_ids=["1", 2, 3]), "damaged .the classes"),
    "a name that is a number": (
        lambda record: record["detr_jittor"]["classes"].update(names=["a", "b", 3]), "damaged .the classes"),
    "a name too few": (
        lambda record: record["detr_jittor"]["classes"].update(names=["a", "b"]), "damaged .the classes"),
    "kinds of stuff that are no list": (
        lambda record: record["detr_jittor"]["classes"].update(stuff=(1,)), "damaged .the classes"),
    "kinds of stuff that are texts": (
        lambda record: record["detr_jittor"]["classes"].update(stuff=["1"]), "damaged .the classes"),
    # float() of it raises OverflowError, and no check stands before it
    "an AP beyond all floats": (in_ours("best_ap", 10 ** 400), "OverflowError"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records(tmp_path, name):
    change, words = RECORDS[name]
    record = to_record(sample())
    change(record)
    with open(tmp_path / "a.pkl", "wb") as file:
        pickle_file.write(file, record)
    with pytest.raises(DetrError, match=words):
        store.load(tmp_path / "a.pkl")


def test_a_step_of_the_optimizer_that_is_infinite(tmp_path):
    """In a file from elsewhere, whose optimizer is left out if it is not understood."""
    record = to_record(sample())
    del record["detr_jittor"], record["args"]
    steps = {"good": 17.0, "infinite": float("inf")}
    notes = {}
    for name, step in steps.items():
        for state in record["optimizer"]["state"].values():
            state["step"] = step
        with open(tmp_path / "a.pkl", "wb") as file:
            pickle_file.write(file, record)
        checkpoint = store.load(tmp_path / "a.pkl")
        notes[name] = checkpoint.note, bool(checkpoint.state.optimizer)
    assert notes == {"good": ("", True), "infinite": (
        "its optimizer's state does not match its weights and is left out: AdamW starts anew", False)}


def test_a_file_larger_than_memory(tmp_path):
    """Said as what it is: nothing is wrong with the file."""
    large = 1 << 26
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as file:
        file.writestr("a/data.pkl", stored_tensor("0", large // 4, (large // 4,), (1,)))
        file.writestr("a/data/0", bytes(large))
    program = """
import resource, sys
from pathlib import Path
from detr_jittor.checkpoint import store
from detr_jittor.errors import DetrError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
if sys.argv[2] == "little":
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 25), used + (1 << 25)))
try:
    print(store.load(sys.argv[1]).state.model["w"].shape)
except DetrError as error:
    print(error)
"""
    said = [subprocess.run([sys.executable, "-c", program, tmp_path / "a.pth", memory], capture_output=True, text=True)
            for memory in ("enough", "little")]
    assert said[0].stdout == f"({large // 4},)\n", said[0].stderr[-2000:]
    assert said[1].stdout == (f"{tmp_path / 'a.pth'}: there is not enough memory to read it. "
                              "End other programs, or take a smaller file.\n"), said[1].stderr[-2000:]
