"""Objects with large arrays from one process to another, through shared memory.

An object is pickled with its arrays out of band: they are laid one after the other into a file in memory, of which
only the descriptor crosses the socket. The receiver maps the file and gets arrays that lie in it; when the last of
them is gone, so is the file. No name exists that could be left behind, whatever becomes of either process, and the
limit of /dev/shm (64 MB in a container) does not apply.
"""

import mmap
import os
import pickle
import socket
import tempfile
from multiprocessing.connection import Connection

ALIGNMENT = 64  # bytes


def send(connection: Connection, value) -> None:
    """Send any value that pickles. Errors: OSError if the other side is gone."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(content), *(buffer.raw() for buffer in buffers)]
    sizes = [part.nbytes for part in parts]
    file = memory_file()
    try:
        with mmap_of(file, max(1, sum(map(aligned, sizes)))) as memory:
            start = 0
            for part in parts:
                memory[start:start + part.nbytes] = part
                start += aligned(part.nbytes)
        connection.send(sizes)
        # Not multiprocessing.reduction, which waits for an answer from Python 3.14 on: both sides send at once here
        with socket_of(connection) as there:
            socket.send_fds(there, [b"."], [file])
    finally:
        os.close(file)


def receive(connection: Connection):
    """Wait for the next value. Errors: EOFError or OSError if the other side is gone."""
    sizes = connection.recv()
    with socket_of(connection) as there:
        _, files, *_ = socket.recv_fds(there, 1, 1)
    if not files:
        raise EOFError
    (file,) = files
    try:
        memory = memoryview(mmap.mmap(file, 0))
    finally:
        os.close(file)
    parts, start = [], 0
    for size in sizes:
        parts.append(memory[start:start + size])
        start += aligned(size)
    return pickle.loads(parts[0], buffers=parts[1:])


def socket_of(connection: Connection) -> socket.socket:
    """The same socket once more; closing it leaves the connection open."""
    return socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def memory_file() -> int:
    """The descriptor of a file in memory; on disk where Python was built without memfd_create."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("detr-jittor")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def mmap_of(file: int, size: int) -> mmap.mmap:
    os.ftruncate(file, size)
    return mmap.mmap(file, size)
