"""Hostile files: nothing in them runs, and each ends in a DetrError. The canary file must stay untouched."""

import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from checkpoint_samples import sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detr_jittor.checkpoint import pickle_file, store, unpickle
from detr_jittor.errors import DetrError
from detr_jittor.types import Classes

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """The opcodes that call module.name(*arguments), where each argument is opcodes too."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def attacks(canary: str) -> dict[str, bytes]:
    """Pickle programs that touch the canary file when Python's own unpickler reads them (those that it can)."""
    shell = f"touch {canary}"
    python = f"open({canary!r}, 'w')"
    nested = b"\x80\x02" + call("os", "system", text(shell)) + b"."
    latin = b"U" + bytes([len(nested)]) + nested
    module = call("builtins", "__import__", text("os"))
    return {
        "os.system": call("os", "system", text(shell)),
        "posix.system": call("posix", "system", text(shell)),
        "eval": call("builtins", "eval", text(python)),
        "exec": call("builtins", "exec", text(python)),
        "popen": call("subprocess", "getoutput", text(shell)),
        "getattr chain": call("builtins", "getattr", module, text("system")) + b"(" + text(shell) + b"tR",
        "stack global": text("os") + text("system") + b"\x93(" + text(shell) + b"tR",
        "dotted name": text("shutil") + text("os.system") + b"\x93(" + text(shell) + b"tR",
        "inst": b"(" + text(shell) + b"ios\nsystem\n",
        "obj": b"(cos\nsystem\n" + text(shell) + b"o",
        "newobj": b"csubprocess\nPopen\n((" + text("touch") + text(canary) + b"lt\x81",
        "newobj_ex": b"csubprocess\nPopen\n((" + text("touch") + text(canary) + b"lt}\x92",
        "nested pickle": call("pickle", "loads", call("_codecs", "encode", text(nested.decode("latin-1")),
                                                      text("latin1"))),
        "nested torch": call("torch.storage", "_load_from_bytes", latin),
        "numpy runstring": call("numpy.testing._private.utils", "runstring", text(python), b"}"),
        "numpy in a module": call("numpy.core.multiarray", "os.system", text(shell)),
        "jittor command": call("jittor_utils", "run_cmd", text(shell)),
        "jittor variable of a call": call("jittor", "jittor_core.Var", call("os", "system", text(shell))),
        "reconstruct": call("copyreg", "_reconstructor", b"cos\n_wrap_close\n", b"cbuiltins\nobject\n", b"N"),
        "state of a class": b"cargparse\nNamespace\n(N}" + text("__init__") + b"cos\nsystem\nsutb",
        "state of a name": b"cargparse\nNamespace\n}" + text("__init__") + text(shell) + b"sb",
        "attribute of an allowed name": text("argparse") + text("Namespace.__init__.__globals__") + b"\x93",
        "class of a dictionary": b"}}" + text("__class__") + text("os") + b"sb",
        "extension registry": b"\x82\x01",
        "persistent id": text("os.system") + b"Q",
        "functools": call("functools", "partial", b"cos\nsystem\n", text(shell)) + b"(tR",
    }


def test_the_attacks_are_real(tmp_path):
    """The control: Python's own unpickler falls for at least twelve of them."""
    fallen = []
    for name in attacks(""):
        canary = tmp_path / name.replace(" ", "_")
        probe = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
        program = b"\x80\x04" + attacks(str(canary))[name] + b"."
        if "torch" not in name and "jittor" not in name and "numpy" not in name:
            subprocess.run([sys.executable, "-c", probe], input=program, capture_output=True)
        fallen += [name] * canary.exists()
    assert len(fallen) >= 12, fallen


def wrapped(program: bytes, form: str) -> bytes:
    """A pickle program inside a file of each format."""
    program = b"\x80\x04" + program + b"."
    if form == "jittor":
        file = io.BytesIO()
        hashing = pickle_file.Hashing(file)
        hashing.write(program)
        return file.getvalue() + hashing.sha1.digest() + pickle_file.MARK
    if form == "legacy":
        return MAGIC + program
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    return file.getvalue()


@pytest.mark.parametrize("form", ["jittor", "legacy", "zip"])
@pytest.mark.parametrize("name", attacks(""))
def test_no_attack_runs(tmp_path, name, form):
    canary, path = tmp_path / "canary", tmp_path / ("a.pkl" if form == "jittor" else "a.pth")
    program = attacks(str(canary))[name]
    for inside in (program, b"}" + text("model") + b"}" + text("w") + program + b"ss"):
        path.write_bytes(wrapped(inside, form))
        with pytest.raises(DetrError, match=r"a\.p(kl|th): not a readable checkpoint") as error:
            store.load(path)
        assert "\n" not in str(error.value)
    assert not canary.exists()


def reconstructed(shape: bytes, code: bytes, content: bytes) -> bytes:
    """An array as NumPy pickles it, with any shape, type and content."""
    made = call("numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"C\x01b")
    kind = call("numpy", "dtype", text(code.decode()), b"\x89", b"\x88")
    kind += b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return made + b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


def model(value: bytes) -> bytes:
    return b"}" + text("model") + b"}" + text("w") + value + b"ss"


NUMBERS = b"C\x08" + bytes(8)
GOOD = model(reconstructed(b"K\x02\x85", b"f4", NUMBERS))
DOUBLED = b"]q\x00" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(100))
BOMBS = {
    "an array of objects": model(reconstructed(b"K\x01\x85", b"O8", b"]" + text("x") + b"a")),
    "an array of records": model(reconstructed(b"K\x01\x85", b"V8", NUMBERS)),
    "an array of texts": model(reconstructed(b"K\x01\x85", b"U2", NUMBERS)),
    "another byte order": model(reconstructed(b"K\x02\x85", b"f4", NUMBERS).replace(text("<"), text(">"))),
    "too few bytes": model(reconstructed(b"K\x03\x85", b"f4", NUMBERS)),
    "too many bytes": model(reconstructed(b"K\x01\x85", b"f4", NUMBERS)),
    "a giant shape": model(reconstructed(b"\x8a\x08" + b"\xff" * 7 + b"\x1f\x85", b"f4", NUMBERS)),
    "a negative shape": model(reconstructed(b"(J\xfe\xff\xff\xffJ\xff\xff\xff\xfft", b"f4", NUMBERS)),
    "a shape of texts": model(reconstructed(text("ab") + b"\x85", b"f4", NUMBERS)),
    "bytes that are not there": model(b"\x8e" + struct.pack("<Q", 1 << 60) + b"x"),
    "a byte array that is not there": model(b"\x96" + struct.pack("<Q", 1 << 60) + b"x"),
    "a text that is not there": b"\x8d" + struct.pack("<Q", 1 << 62),
    "a number that is not there": b"\x8b" + struct.pack("<i", 0x7FFFFFFF),
    "a giant memo": b"]r\xff\xff\xff\xff" + b"\x8a\x10" + b"\x7f" * 16,
    "a memo that is not there": b"h\x07",
    "nested tuples as a key": b"}" + b")" + b"\x85" * 200_000 + b"Ns",
    "nested tuples in a name": b"}" + b")" + b"\x85" * 200_000 + b"N\x93",
    "nested lists as the model": b"}" + text("model") + b"]" + b"]a" * 5 + b"s",
    "a list in itself": b"]q\x00h\x00a" + b"\x85",
    "doubled lists": DOUBLED + text("args") + b"\x86",
    "doubled lists in the settings":
        GOOD + text("epoch") + b"K\x00s" + text("args") + b"}" + text("lr") + b"(" + DOUBLED + b"tss" +
        text("detr_jittor") + b"}(" + text("parameters") + b"]" + text("optimizer_steps") + b"K\x00" + text("step") +
        b"K\x00us",
    "the same text a million times": text("x" * 100_000) + b"q\x00" + text("latin1") + b"q\x01" +
                                     b"(" + b"c_codecs\nencode\nh\x00h\x01\x86R" * 50_000 + b"l",
    "the same array two thousand times":
        b"B\x00\x40\x00\x00" + bytes(16384) + b"q\x000}" + text("model") + b"}" + b"".join(
            text(f"w{i}") + reconstructed(b"M\x00\x40\x85", b"u1", b"h\x00") + b"s" for i in range(2000)) + b"s",
    "no end": b"]]]",
    "nothing on the stack": b"",
    "a mark too few": b"t",
    "an opcode without meaning": b"\xff",
    "no dictionary": b"K\x05",
    "an empty dictionary": b"}",
    "a model of numbers": model(b"K\x05"),
}


@pytest.mark.parametrize("form", ["jittor", "legacy", "zip"])
def test_bombs_and_damage(tmp_path, form):
    """All in one process with 1 GB of memory to spare, so that a bomb that goes off is seen."""
    suffix = ".pkl" if form == "jittor" else ".pth"
    for name, program in BOMBS.items():
        content = wrapped(program, form)
        (tmp_path / f"{name}{suffix}").write_bytes(content[:-29] if name == "no end" and form == "jittor" else content)
    probe = """
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
    done = subprocess.run([sys.executable, "-c", probe, tmp_path], capture_output=True, text=True, timeout=120,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(lines) == len(BOMBS) and all(line.startswith("refused") for line in lines), done.stdout
    assert "not enough memory" not in done.stdout


@pytest.mark.parametrize("more, fault", [
    (b"", None), (b"\x98", "opcode READONLY_BUFFER"), (b"(" + text("epoch") + b"u", "a dictionary's key"),
    (b"N0" * 60, "longer than any")], ids=["nothing", "an opcode", "a key without a value", "opcodes without end"])
def test_what_no_checkpoint_has(tmp_path, monkeypatch, more, fault):
    """After a good model, so that nothing else can be the reason."""
    monkeypatch.setattr(unpickle, "MOST_OPCODES", 100)
    (tmp_path / "a.pkl").write_bytes(wrapped(GOOD + more, "jittor"))
    if fault is None:
        assert store.load(tmp_path / "a.pkl").state.model["w"].shape == (2,)
    else:
        with pytest.raises(DetrError, match=fault):
            store.load(tmp_path / "a.pkl")


def archive(tmp_path, members: dict[str, bytes], compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return tmp_path / "a.pth"


def tensor(key: str, count: int, shape: tuple, stride: tuple, offset: int = 0, kind: str = "Float") -> bytes:
    """The opcodes of a tensor whose storage is data/KEY."""
    def ints(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", v) for v in values) + b"t"

    storage = (b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu")
               + b"\x8a\x08" + struct.pack("<q", count) + b"tQ")
    return call("torch._utils", "_rebuild_tensor_v2", storage, b"\x8a\x08" + struct.pack("<q", offset), ints(shape),
                ints(stride), b"\x89", b"N")


def stored_tensor(*arguments, **options) -> bytes:
    """The pickle of {"model": {"w": tensor}}."""
    return b"\x80\x02" + model(tensor(*arguments, **options)) + b"."


def as_two_types(count: int) -> bytes:
    """The pickle of two tensors that read the same member: so a file could ask for itself again and again."""
    both = [text(kind) + tensor("0", count, (count,), (1,), kind=kind) for kind in ("Float", "Int")]
    return b"\x80\x02}" + text("model") + b"}" + b"s".join(both) + b"ss."


ZIPS = {
    "good": ({"a/data.pkl": stored_tensor("0", 4, (2, 2), (2, 1)), "a/data/0": bytes(16)}, None),
    "wrong length": ({"a/data.pkl": stored_tensor("0", 4, (2, 2), (2, 1)), "a/data/0": bytes(12)}, "12 bytes"),
    "giant count": ({"a/data.pkl": stored_tensor("0", 1 << 60, (2, 2), (2, 1)), "a/data/0": bytes(16)}, "16 bytes"),
    "outside": ({"a/data.pkl": stored_tensor("0", 4, (2, 2), (2, 1), offset=1), "a/data/0": bytes(16)}, "damaged"),
    "negative offset": ({"a/data.pkl": stored_tensor("0", 4, (1,), (1,), offset=-1), "a/data/0": bytes(16)}, "damaged"),
    "negative stride": ({"a/data.pkl": stored_tensor("0", 4, (2,), (-1,), offset=1), "a/data/0": bytes(16)}, "damaged"),
    "broadcast bomb": ({"a/data.pkl": stored_tensor("0", 4, (1 << 40,), (0,)), "a/data/0": bytes(16)}, "damaged"),
    "no storage": ({"a/data.pkl": stored_tensor("7", 4, (2, 2), (2, 1)), "a/data/0": bytes(16)}, "data/7"),
    "path traversal": ({"a/data.pkl": stored_tensor("../../../../../etc/passwd", 4, (2, 2), (2, 1)),
                        "a/data/0": bytes(16)}, "passwd"),
    "member with a path": ({"a/data.pkl": stored_tensor("../../canary", 4, (2, 2), (2, 1)),
                            "a/data/../../canary": bytes(16)}, None),
    "one storage as two types": ({"a/data.pkl": as_two_types(1000), "a/data/0": bytes(4000)}, "larger than the file"),
    "no data.pkl": ({"a/data/0": bytes(16)}, "without one data"),
    "two": ({"a/data.pkl": b"", "b/data.pkl": b""}, "without one data"),
    "big endian": ({"a/data.pkl": b"}.", "a/byteorder": b"big"}, "big-endian"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_zip_archives(tmp_path, name):
    """Nothing is ever unpacked: a member's name is looked up, not used as a path."""
    members, fault = ZIPS[name]
    path = archive(tmp_path, members)
    if fault is None:
        assert store.load(path).state.model["w"].shape == (2, 2)
    else:
        with pytest.raises(DetrError, match=fault):
            store.load(path)
    assert os.listdir(tmp_path) == ["a.pth"]


def test_zip_bomb(tmp_path):
    members = {"a/data.pkl": stored_tensor("0", 1 << 26, (1 << 26,), (1,)), "a/data/0": bytes(1 << 28)}
    path = archive(tmp_path, members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DetrError, match="compressed or larger"):
        store.load(path)
    members, _ = ZIPS["good"]
    with pytest.raises(DetrError, match="compressed or larger"):  # compressed, and yet smaller than the file
        store.load(archive(tmp_path, members, zipfile.ZIP_DEFLATED))


def test_an_archive_that_ends_within_a_member(tmp_path):
    members, _ = ZIPS["good"]
    path = archive(tmp_path, members)
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")  # of the storage in the directory: its length, compressed and not
    length = len(content) - len(members["a/data.pkl"])  # no more than the file has
    content[entry + 20:entry + 28] = struct.pack("<II", length, length)
    path.write_bytes(content)
    with pytest.raises(DetrError, match="not a readable checkpoint"):
        store.load(path)


def test_a_legacy_file_without_its_magic_number(tmp_path):
    path, rest = tmp_path / "a.pth", b"\x80\x02" + GOOD + b"." + pickle.dumps([], 2)
    path.write_bytes(MAGIC + rest)
    assert store.load(path).state.model["w"].shape == (2,)
    path.write_bytes(MAGIC.replace(pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1, 2)) + rest)
    with pytest.raises(DetrError, match="no PyTorch checkpoint"):
        store.load(path)


def test_safetensors_damage(tmp_path):
    path = tmp_path / "a.safetensors"
    for content in (b"", b"\xff" * 8, struct.pack("<Q", 1 << 50) + b"{}", struct.pack("<Q", 2) + b"[]",
                    struct.pack("<Q", 68) + b'{"w":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}',
                    struct.pack("<Q", 30) + b'{"__metadata__":{"detr_jittor"'):
        path.write_bytes(content)
        with pytest.raises(DetrError, match="not a readable checkpoint"):
            store.load(path)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("genuine")
    for suffix in (".pkl", ".pth", ".safetensors"):
        store.save(folder / f"a{suffix}", sample())
    files = {suffix: (folder / f"a{suffix}").read_bytes() for suffix in (".pkl", ".pth", ".safetensors")}
    files[".pkl"] = files[".pkl"][: -pickle_file.TRAILER]  # without its checksum, so that the reader itself is tried
    return files


@given(st.sampled_from([".pkl", ".pth", ".safetensors"]), st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_anywhere(tmp_path, genuine, suffix, data):
    """A few bytes changed or the end cut off: a checkpoint or a DetrError, never anything else."""
    content = bytearray(genuine[suffix])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))):]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    try:
        assert all(isinstance(value, np.ndarray) for value in store.load(path).state.model.values())
    except DetrError as error:
        assert str(path) in str(error)


def test_a_flipped_bit_is_found(tmp_path, checkpoint):
    """In the weights, where every bit pattern is a valid number: the checksum tells."""
    for suffix in (".pkl", ".pth"):
        path = tmp_path / f"a{suffix}"
        store.save(path, checkpoint)
        content = bytearray(path.read_bytes())
        position = content.find(checkpoint.state.model["query_embed.weight"].tobytes())
        content[position + 5] ^= 1
        path.write_bytes(content)
        with pytest.raises(DetrError, match=r"checksum|CRC"):
            store.load(path)


def test_a_name_forges_no_lines_of_the_log(tmp_path):
    name = "numpy\nerror: none\r\x1b[2K"  # by STACK_GLOBAL, which takes any text
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04" + text(name) + text("x") + b"\x93.")
    with pytest.raises(DetrError) as caught:
        store.load(path)
    assert r"numpy\nerror: none\r\x1b[2K.x" in str(caught.value) and str(caught.value).isprintable()


def test_class_names_that_no_file_takes(tmp_path, checkpoint):
    """A pickle can hold halves of a character, which would end a later save or print."""
    checkpoint.classes = Classes((1,), ("\ud83d",), (1,), 2)
    store.save(tmp_path / "a.pkl", checkpoint)
    with pytest.raises(DetrError, match="the classes"):
        store.load(tmp_path / "a.pkl")
