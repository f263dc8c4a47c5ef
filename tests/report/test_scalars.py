"""The event file, read by TensorBoard's own message definitions (as tensorboardX ships them)."""

import math
import struct
import subprocess
import sys

from detr_jittor.report.scalars import ScalarWriter, checksum


def test_the_checksum_is_crc32c():
    """Test vectors of RFC 3720, appendix B.4, masked as TFRecord has it."""
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        assert checksum(data) == struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def test_tensorboards_own_reader_understands_it(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    writer = ScalarWriter(tmp_path / "tensorboard")
    writer.add({"loss": 1.5, "class error/ü": float("nan"), "giant": 1e300}, step=300)
    writer.add({"loss": -0.25}, step=2**40)
    writer.close()
    content = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    events = []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert content[8:12] == checksum(content[:8])
        body, content = content[12:12 + length], content[12 + length:]
        assert content[:4] == checksum(body)
        content = content[4:]
        events.append(Event.FromString(body))
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events[1:]] == [300, 2**40] and all(e.wall_time > 1e9 for e in events)
    values = {value.tag: value.simple_value for value in events[1].summary.value}
    assert values["loss"] == 1.5 and math.isnan(values["class error/ü"]) and values["giant"] == math.inf
    assert events[2].summary.value[0].simple_value == -0.25


def test_the_engine_imports_no_framework(tmp_path):
    probe = ("import sys, detr_jittor.cli.train, detr_jittor.cli.evaluate, detr_jittor.report.log as log, pathlib; "
             "log.RunLog(pathlib.Path(sys.argv[1])).close(); "
             "sys.exit(' '.join({'torch', 'jittor', 'tensorboardX'} & sys.modules.keys()) or 0)")
    done = subprocess.run([sys.executable, "-c", probe, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
