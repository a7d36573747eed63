"""A `twotower serve` of a benchmark's own, on a free port of this machine."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from twotower.service.api.auth import Scope, new_key
from twotower.service.client import Client

_PATIENCE_S: Final = 120


class Served:
    """Runs while the block that it is opened in does; its database and log are temporary.

    Parameters
    ----------
    bundle
        What is served.
    options
        More of `twotower serve`.
    source
        The ``src`` folder of another checkout that answers.
    rerank
        Whether answers come from both stages.
    processes
        How many answer. What is measured then is of all of them and their supervisor together.

    Attributes
    ----------
    address
        Where it listens.
    key
        An API key that may do everything.
    seconds_to_ready
        From the start of the process until ``/ready`` said so; of several, until all listened.
    """

    def __init__(
        self,
        bundle: Path,
        *options: str,
        rerank: bool = False,
        processes: int = 1,
        source: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self.key, line = new_key("benchmark", Scope.ADMIN)
        (folder / "keys").write_text(line)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._log = folder / "log"
        state = f"sqlite:///{folder / 'state.sqlite3'}"
        # Not what the bundle prefers: figures of different bundles are to compare.
        environment = {"TWOTOWER_RERANK": str(rerank).lower(), **os.environ}
        if source is not None:
            environment["PYTHONPATH"] = str(source.absolute())
        began = time.perf_counter()
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-c", "from twotower.cli import main; main()", "serve",
                    "--bundle", str(bundle), "--keys", str(folder / "keys"), "--state", state,
                    "--port", str(port), "--processes", str(processes), *options,
                ],
                stderr=log, env=environment,
            )  # fmt: skip
        self.seconds_to_ready = self._wait(began, processes)

    def _wait(self, began: float, processes: int) -> float:
        while time.perf_counter() < began + _PATIENCE_S:
            if self.process.poll() is not None:
                break
            try:
                ready = httpx.get(f"{self.address}/ready").status_code == 200
                if ready and (processes == 1 or '"listening"' in self._log.read_text()):
                    return time.perf_counter() - began
            except httpx.TransportError:
                time.sleep(0.005)
        self.close()
        raise RuntimeError(f"twotower serve did not start: {self._log.read_text()}")

    def client(self) -> Client:
        """A client with the key."""
        return Client(self.address, self.key, timeout=60)

    @property
    def pids(self) -> list[int]:
        """Of the process that was started, and of those that it started."""
        pid = self.process.pid
        return [pid, *(int(one.name) for one in _processes() if int(_stat(one)[1]) == pid)]

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        stats = [_stat(Path(f"/proc/{pid}")) for pid in self.pids]
        return sum(int(one[11]) + int(one[12]) for one in stats) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, what: str = "VmRSS") -> float:
        """Resident memory, or with ``VmHWM`` the most that there was.

        Of several processes it is the sum, where pages that they share count for each; with ``Pss``
        those count once.
        """
        file = "smaps_rollup" if what == "Pss" else "status"
        return sum(_kilobytes(Path(f"/proc/{pid}/{file}"), what) for pid in self.pids) / 1024

    @property
    def maps_torch(self) -> bool:
        """Whether a library of torch is loaded; ``import torch`` always loads some."""
        return any("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in self.pids)

    def close(self) -> None:
        """Stop it as an operator would."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _processes() -> list[Path]:
    return [one for one in Path("/proc").iterdir() if one.name.isdigit()]


def _stat(process: Path) -> list[str]:
    """What follows a process's name: its state, its parent and more; zeros of one that is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 13


def _kilobytes(file: Path, what: str) -> int:
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0])
    raise RuntimeError(f"{file} does not say {what}")
