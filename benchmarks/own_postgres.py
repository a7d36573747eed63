"""A PostgreSQL server of a benchmark's own, on a free port of this machine."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self


class OwnPostgres:
    """Runs until it is stopped; its data are temporary.

    Parameters
    ----------
    binaries
        Folder of ``initdb`` and ``pg_ctl``.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="twotower-postgres-"))
        # The server refuses to run as root; Debian's package makes a user for it.
        root = os.geteuid() == 0
        self._user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if root else {}
        if root:
            shutil.chown(self._folder, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._do("initdb", "-D", "data", "-U", "twotower", "-A", "trust", "--no-sync")
        self.start()
        self.url = f"postgresql://twotower@127.0.0.1:{self._port}/postgres"

    @classmethod
    def started(cls) -> Self | None:
        """A running server; None where PostgreSQL is not installed."""
        on_path = shutil.which("initdb")
        found = [Path(on_path).resolve().parent] if on_path else []
        found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        binaries = next((one for one in found if (one / "initdb").exists()), None)
        return None if binaries is None else cls(binaries)

    def start(self) -> None:
        """Start it."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self._do("pg_ctl", "-D", "data", "-w", "-l", "server.log", "-o", options, "start")

    def stop(self) -> None:
        """Stop it as a crash would."""
        self._do("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        """Stop it, and delete its data."""
        self.stop()
        shutil.rmtree(self._folder)

    def _do(self, command: str, *arguments: str) -> None:
        with (self._folder / "log").open("a") as log:
            subprocess.run(
                [self._binaries / command, *arguments],
                cwd=self._folder, check=True, stdout=log, stderr=log, timeout=60, **self._user,
            )  # fmt: skip
