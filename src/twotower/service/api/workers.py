"""Worker processes: uvicorn's supervisor with a crash-loop limit and a bounded shutdown."""

import contextlib
import logging
import math
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from sqlalchemy.engine import make_url
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from twotower.errors import InputError, TwoTowerError
from twotower.inference.business_rules import read_rules
from twotower.service.api.auth import read_keys
from twotower.service.api.logs import configure_logging
from twotower.service.settings import ServeSettings
from twotower.service.state import StateStore

logger = logging.getLogger(__name__)

Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family, and what `bind` takes for it."""

_ENDING_S: Final = 10
"""Seconds that workers get to shut down, beyond the time for their requests."""
_HUNG_S: Final = 60
"""A worker that does not answer a ping for this many seconds is killed."""
_LONG_LIFE_S: Final = 10
"""A worker that ran for this many seconds does not count as a failed start."""
_LONGEST_PAUSE_S: Final = 30
_MOST_FAILED_STARTS: Final = 5
"""Crash-loop limit: failed starts in a row while no worker answers."""
_FAILURE: Final = "failure"
"""Name prefix, before the pid, of the file in which a worker reports why it cannot start."""


def run_workers(config: uvicorn.Config, settings: ServeSettings, folder: Path) -> None:
    """Run ``config.workers`` workers until SIGTERM or SIGINT, then shut all of them down.

    A worker that ends is replaced. If this process is killed, its workers end.

    Parameters
    ----------
    config
        Its app is a factory that every worker calls, and that calls `report_failure` on failure.
    folder
        Folder of all workers' metrics.

    Raises
    ------
    TwoTowerError
        If the database, the keys or the address cannot be used, or no worker can be started.
    SystemExit
        With 1 if a worker did not end in time and was killed.
    """
    _check(settings)
    configure_logging()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # this one logs what it does
    ending_s = math.ceil(settings.drain_s) + _ENDING_S
    with contextlib.ExitStack() as stack:
        addresses = reserve(settings.host, settings.port)
        for address in addresses:
            stack.enter_context(address)
        stack.enter_context(_environment("PROMETHEUS_MULTIPROC_DIR", str(folder)))
        Supervisor(config, addresses, folder, ending_s).run()


class Supervisor(Multiprocess):
    """uvicorn's supervisor of worker processes.

    uvicorn starts, pings and ends the workers, and restarts them one by one at SIGHUP. This adds a
    log line when all of them listen, back-off between failed starts, a limit on these, and a
    shutdown even if a worker hangs. Workers get ``ending_s`` seconds to end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        addresses: "list[SharedAddress]",
        folder: Path,
        ending_s: float,
    ) -> None:
        super().__init__(config, [*addresses])
        self._addresses = addresses
        self._folder = folder
        self._ending_s = ending_s
        self._pids: set[int] = set()
        self._answered: dict[int, float] = {}  # by pid: the last ping
        self._ready: dict[int, float] = {}  # by pid: since when
        self._starts: dict[int, float] = {}  # by place: when the worker that ended is replaced
        self._short_lives: dict[int, int] = {}  # by place: in a row
        self._failed_starts = 0
        self._listening = False
        self._failure: str | None = None
        self._killed = 0

    def run(self) -> None:
        """Supervise until a signal comes; see `run_workers`."""
        super().run()
        if self._failure is not None:
            raise TwoTowerError(self._failure)
        if self._killed:
            logger.error("%d processes were killed before they had ended", self._killed)
            raise SystemExit(1)
        logger.info("stopped")

    def keep_subprocess_alive(self) -> None:
        """Check every worker once."""
        for place, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if place in self._starts:
                if self._starts[place] <= time.monotonic():
                    self._start(place)
            elif not worker.process.is_alive():
                self._note_end(place, worker)
            else:
                self._ping(worker)
        pids = {worker.pid for worker in self.processes if worker.pid is not None}
        for pid in self._pids - pids:  # of a restart too
            mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
        self._pids = pids
        if not self._listening and pids <= self._ready.keys():
            self._listening = True
            for address in self._addresses:
                host, port = address.getsockname()[:2]
                fields = {"host": host, "port": port, "processes": len(pids)}
                logger.info("listening", extra={"fields": fields})

    def join_all(self) -> None:
        """Wait for the workers, which were asked to end; kill them at the deadline or a signal."""
        deadline = time.monotonic() + self._ending_s
        self.signal_queue.clear()
        for worker in self.processes:
            while worker.process.is_alive():
                worker.process.join(0.1)
                if time.monotonic() > deadline or {
                    signal.SIGTERM, signal.SIGINT
                } & {*self.signal_queue}:  # fmt: skip
                    deadline = 0.0
                    worker.process.kill()
                    worker.process.join()
                    self._killed += 1

    def init_processes(self) -> None:
        """Start all workers."""
        for _ in range(self.processes_num):
            worker = Worker(self.config, self.sockets)
            worker.start()
            self.processes.append(worker)

    def _start(self, place: int) -> None:
        worker = Worker(self.config, self.sockets)
        try:
            worker.start()
        except OSError as error:  # the machine has no room for it at the moment
            self._starts[place] = time.monotonic() + 1
            logger.error("a process cannot be started: %s", error.strerror)
        else:
            del self._starts[place]
            self.processes[place] = worker

    def _ping(self, worker: Process) -> None:
        pid, now = worker.pid, time.monotonic()
        assert pid is not None
        late = []  # answers to earlier pings: on a busy machine all of them may be
        while worker.parent_conn.poll():
            late.append(worker.parent_conn.recv())
        if pid not in self._ready:
            if any(late) or worker.is_ready(timeout=0.1):
                self._ready[pid] = self._answered[pid] = now
                self._failed_starts = 0
                logger.info("a process answers", extra={"fields": {"process": pid}})
        elif late or worker.ping(timeout=1):
            self._answered[pid] = now
        elif now - self._answered[pid] > _HUNG_S:
            logger.error("a process hangs and is killed", extra={"fields": {"process": pid}})
            worker.process.kill()

    def _note_end(self, place: int, worker: Process) -> None:
        """Schedule the replacement of a worker that ended, or give up."""
        assert worker.pid is not None
        now = time.monotonic()
        ready = self._ready.pop(worker.pid, None)
        failure = None
        with contextlib.suppress(FileNotFoundError):
            failure = (self._folder / f"{_FAILURE}-{worker.pid}").read_text(encoding="utf-8")
        if ready is None:
            self._failed_starts += 1
            if not self._listening or (
                not self._ready and self._failed_starts >= _MOST_FAILED_STARTS
            ):
                self._failure = failure or (
                    f"a process ended with exit code {worker.exitcode} while it started; "
                    "the log may say why, and with -9 it was killed: fewer processes need less "
                    "memory"
                )
                self.should_exit.set()
                return
        lived = 0.0 if ready is None else now - ready
        short = 0 if lived >= _LONG_LIFE_S else self._short_lives.get(place, 0) + 1
        self._short_lives[place] = short
        pause = 0.0 if short < 2 else min(_LONGEST_PAUSE_S, 0.5 * 2.0 ** (short - 2))
        self._starts[place] = now + pause
        fields: dict[str, Any] = {"process": worker.pid, "exit_code": worker.exitcode}
        fields["pause_s"] = pause
        if failure is not None:
            fields["why"] = failure
        logger.error("a process ended and is replaced", extra={"fields": fields})


class Worker(Process):
    """uvicorn's worker process.

    uvicorn creates its server on first access, from the thread that answers pings or the one that
    runs it. If both access it at once, two are created, and pings forever report that the one that
    never runs has not started.
    """

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Run in the new process."""
        self._server = uvicorn.Server(self.config)
        super().target(sockets)


def report_failure(folder: Path, error: Exception) -> None:
    """Tell the supervisor why this worker cannot start."""
    (folder / f"{_FAILURE}-{os.getpid()}").write_text(str(error), encoding="utf-8")


def end_with_supervisor() -> None:
    """Shut this worker down gracefully if its supervisor is killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            logger.error("the supervisor is gone: this process ends")
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="twotower-supervisor", daemon=True).start()


def _check(settings: ServeSettings) -> None:
    """Check, before any worker starts, for errors that would fail all of them.

    The bundle is left to the workers: verifying it takes as long as their start.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise InputError("several processes cannot share a port here", "use one, or run on Linux")
    StateStore(settings.database, settings.state_timeout_s).close()
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InputError(
            "several processes cannot share a database in memory",
            "set state_url to sqlite:///FILE",
            cli_fix="pass --state sqlite:///FILE",
        )
    if settings.keys_file is not None:
        read_keys(settings.keys_file)
    if settings.rules is not None:
        read_rules(settings.rules)


class SharedAddress(socket.socket):
    """A bound socket that reserves an address for the workers and accepts no connections.

    Unpickled in a worker, it becomes the worker's own socket, bound to the same address: the kernel
    spreads connections over the listening ones. With one shared socket, the worker quickest to
    accept would take most connections, and a killed worker would leave some waiting for its
    successor.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _bound, (self.family, self.getsockname())


def reserve(host: str, port: int) -> list[SharedAddress]:
    """Reserve an address for workers; `InputError` if others listen there."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses: dict[Address, None] = dict.fromkeys((info[0], info[4]) for info in found)
    with contextlib.ExitStack() as opened:
        reserved: list[SharedAddress] = []
        for family, place in addresses:
            if port == 0 and reserved:  # the free port that the first one got
                place = (place[0], reserved[0].getsockname()[1], *place[2:])
            try:
                # Others that listen there may share their port, as workers do: not with these.
                _bound(family, place, shared=False).close()
                address = _bound(family, place, kind=SharedAddress)
            except OSError as error:
                raise InputError(
                    f"cannot listen on {place[0]} port {place[1]} ({error.strerror})",
                    "end what listens there, or choose another host or port",
                ) from None
            assert isinstance(address, SharedAddress)
            reserved.append(opened.enter_context(address))
        opened.pop_all()
    return reserved


def _bound(
    family: socket.AddressFamily,
    place: tuple[Any, ...],
    *,
    shared: bool = True,
    kind: type[socket.socket] = socket.socket,
) -> socket.socket:
    """A socket bound to an address, which others may bind too if all of them are ``shared``."""
    made = kind(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(place)
    except OSError:
        made.close()
        raise
    return made


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
