"""Scalars for TensorBoard: an event file, written by hand.

tensorboardX would import torch into a Jittor process wherever torch is installed, and wait for ever on a full disk.
The format is TFRecord around protobuf messages (tensorflow/core/util/event.proto); scalars need five of its fields.
"""

import contextlib
import os
import socket
import struct
import time
from pathlib import Path


class ScalarWriter:
    """Appends scalars to an event file of its own in a folder.

    Errors: OSError, from `close` none.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.file = open(folder / name, "wb")  # noqa: SIM115 - open for as long as the run lasts
        self.write(field(3, b"brain.Event:2"))

    def add(self, values: dict[str, float], step: int) -> None:
        """One point of each curve."""
        points = b"".join(field(1, field(1, name.encode()) + number(2, value)) for name, value in values.items())
        self.write(whole(2, step) + field(5, points))

    def write(self, event: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + event  # 1: wall_time
        length = struct.pack("<Q", len(event))
        self.file.write(length + checksum(length) + event + checksum(event))
        self.file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # only what could not be written before, which was said then
            self.file.close()


def field(tag: int, content: bytes) -> bytes:
    """A protobuf field with a text or another message in it."""
    return varint(tag << 3 | 2) + varint(len(content)) + content


def number(tag: int, value: float) -> bytes:
    """A protobuf field with a float32; what is too large for one becomes infinite."""
    try:
        return varint(tag << 3 | 5) + struct.pack("<f", value)
    except OverflowError:
        return varint(tag << 3 | 5) + struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def whole(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc_table()


def checksum(data: bytes) -> bytes:
    """TFRecord's masked CRC-32C."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
