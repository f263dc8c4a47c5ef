"""Fetching weights, against a server on this machine that has every fault."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from detr_jittor.checkpoint import backbone, download
from detr_jittor.errors import DetrError
from detr_jittor.types import State

CONTENT = np.random.default_rng(0).bytes(3_000_000)
NAME = f"weights-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cut` bytes a connection, `ranges` or not, `files` by name."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.ranges, self.asked = {NAME: CONTENT}, None, True, []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.rsplit("/", 1)[-1]
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if name not in server.files:
            self.send_error(404, "Not Found")
            return
        content, start = server.files[name], 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if wanted and server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, args=(0.02,))
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def test_downloaded_once(server, tmp_path):
    path = download.fetch(server.url(NAME), tmp_path)
    assert path == tmp_path / NAME and path.read_bytes() == CONTENT
    assert download.fetch(server.url(NAME), tmp_path) == path
    assert server.asked == [None] and [p.name for p in tmp_path.iterdir()] == [NAME]


def test_cut_off_and_taken_up_again(server, tmp_path):
    server.cut = 1_100_000
    assert download.fetch(server.url(NAME), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1100000-", "bytes=2200000-"]


def test_resumed_by_a_later_call(server, tmp_path):
    server.cut = 100_000
    with pytest.raises(DetrError, match=rf"broke off 4 times.*Download .*{NAME} by other means and put it into"):
        download.fetch(server.url(NAME), tmp_path)
    assert (tmp_path / f"{NAME}.part").stat().st_size == 400_000
    server.cut, server.asked = None, []
    assert download.fetch(server.url(NAME), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"]


def test_a_server_without_ranges(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    server.ranges = False
    assert download.fetch(server.url(NAME), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"something else", CONTENT + b"more", b"x" * len(CONTENT)])
def test_a_half_of_something_else_is_thrown_away(server, tmp_path, left):
    (tmp_path / f"{NAME}.part").write_bytes(left)
    assert download.fetch(server.url(NAME), tmp_path).read_bytes() == CONTENT


def test_a_whole_part_needs_no_more(server, tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert download.fetch(server.url(NAME), tmp_path).read_bytes() == CONTENT


def test_wrong_hash(server, tmp_path):
    server.files["weights-01234567.pth"] = CONTENT
    with pytest.raises(DetrError, match="SHA-256"):
        download.fetch(server.url("weights-01234567.pth"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_in_the_cache(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(DetrError, match=f"{NAME}: damaged.*Delete it"):
        download.fetch(server.url(NAME), tmp_path)


def test_not_there_and_no_network(server, tmp_path):
    with pytest.raises(DetrError, match="HTTP 404 Not Found") as error:
        download.fetch(server.url("gone-01234567.pth"), tmp_path)
    assert f"put it into {tmp_path}/" in str(error.value)
    with pytest.raises(DetrError, match=r"cannot be downloaded .*refused.*put it into"):
        download.fetch("http://127.0.0.1:9/weights-01234567.pth", tmp_path)
    with pytest.raises(DetrError, match=r"cannot be downloaded .*put it into"):
        download.fetch("http://no-such-host.invalid/weights-01234567.pth", tmp_path)


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DetrError, match="cannot be downloaded"):
        download.fetch(server.url(NAME), tmp_path / "file")


SHAPES = {"conv1.weight": (4, 3, 7, 7), "bn1.weight": (4,), "layer1.0.conv1.weight": (4, 4, 3, 3),
          "layer4.0.conv1.weight": (8, 4, 3, 3)}


def resnet(**changed) -> dict:
    torch.manual_seed(0)
    tensors = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    return {**tensors, "bn1.num_batches_tracked": torch.tensor(3), "fc.weight": torch.randn(10, 8),
            "fc.bias": torch.randn(10), **changed}


def model(prefix: str = "", stages: int = 4) -> State:
    names = {name: shape for name, shape in SHAPES.items() if stages == 4 or "layer4" not in name}
    return State({"query_embed.weight": np.ones((2, 4), np.float32),
                  **{f"{prefix}backbone.0.body.{n}": np.zeros(s, np.float32) for n, s in names.items()}}, {})


@pytest.mark.parametrize("prefix", ["", "detr."])
@pytest.mark.parametrize("stages", [3, 4])
def test_into_the_backbone(tmp_path, prefix, stages):
    torch.save(resnet(), tmp_path / "resnet.pth")
    before = model(prefix, stages)
    after = backbone.with_backbone(before, tmp_path / "resnet.pth", stages).model
    assert list(after) == list(before.model) and (after["query_embed.weight"] == 1).all()
    for name in after:
        if "backbone" in name:
            assert np.array_equal(after[name], resnet()[name.split("body.")[1]].numpy())


def test_weights_of_another_backbone(tmp_path):
    wrong = resnet(**{"layer1.0.conv3.weight": torch.zeros(1), "conv1.weight": torch.zeros(4, 1, 7, 7)})
    del wrong["bn1.weight"]
    torch.save(wrong, tmp_path / "resnet.pth")
    with pytest.raises(DetrError, match=r"missing \(1\): bn1\.weight; surplus \(1\): layer1\.0\.conv3\.weight; "
                                        r"of another shape \(1\): conv1\.weight"):
        backbone.with_backbone(model(), tmp_path / "resnet.pth")
    (tmp_path / "resnet.pth").write_bytes(b"<html>")
    with pytest.raises(DetrError, match=r"resnet\.pth: not a readable checkpoint"):
        backbone.with_backbone(model(), tmp_path / "resnet.pth")


def test_auto_looks_in_the_cache_then_in_the_network(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backbone, "SERVER", server.url(""))
    monkeypatch.setitem(backbone.FILES, "resnet18", NAME)
    path = backbone.weights_file("resnet18", "auto")
    assert path == tmp_path / "detr-jittor" / "weights" / NAME and path.read_bytes() == CONTENT
    with pytest.raises(DetrError, match=r"resnet50-0676ba61\.pth.*put it into .*--backbone_weights none"):
        backbone.weights_file("resnet50", "auto")


def test_the_official_files():
    assert backbone.SERVER == "https://download.pytorch.org/models/"
    assert backbone.FILES == {"resnet18": "resnet18-f37072fd.pth", "resnet34": "resnet34-b627a593.pth",
                              "resnet50": "resnet50-0676ba61.pth", "resnet101": "resnet101-63fe2227.pth"}
