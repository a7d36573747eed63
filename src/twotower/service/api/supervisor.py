"""Several processes as one service: start them, replace one that ends, stop them all."""

import contextlib
import logging
import math
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, TypeAlias

from prometheus_client.multiprocess import mark_process_dead
from sqlalchemy.engine import make_url

from twotower.errors import InputError, TwoTowerError
from twotower.service.api.auth import read_keys
from twotower.service.api.limits import share_of_one
from twotower.service.api.logs import configure_logging
from twotower.service.api.metrics_folder import metrics_folder
from twotower.service.api.signals import SIGNALS, signals, spared_from_interrupts
from twotower.service.api.worker import Address, Place, Swap, reserve
from twotower.service.settings import ServeSettings
from twotower.service.state import StateStore

logger = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[ServeSettings, Place], None]
"""What one process does: load, say ``("ready", None)``, and answer until SIGTERM; or say
``("failed", why)`` and end."""

_PATIENCE_S: Final = 10
"""What processes get to end beyond the time for their requests."""
_LONG_LIFE_S: Final = 10
"""A process that answered for so long did not die of its start."""
_LONGEST_PAUSE_S: Final = 30
_MOST_FAILED_STARTS: Final = 5
"""So many in a row, and none that answers: it is no use."""


def supervise(settings: ServeSettings, answer: Answer) -> None:
    """Run ``settings.processes`` processes until SIGTERM or SIGINT, then let all of them end.

    One that ends is replaced. Where this process is killed, its pipes close, and the others end.

    Parameters
    ----------
    settings
        Of the whole service.
    answer
        What each of the processes does: a function of a module.

    Raises
    ------
    TwoTowerError
        Where the bundle, the database, the keys or the address cannot be used.
    SystemExit
        With 1 where a process did not end in time and was killed.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise InputError("several processes cannot share a port here", "use one, or run on Linux")
    _check_state(settings)
    if settings.keys_file is not None:
        read_keys(settings.keys_file)
    configure_logging()
    with contextlib.ExitStack() as stack:
        reserved = reserve(settings.host, settings.port)
        for one in reserved:
            stack.enter_context(one)
        addresses = [(one.family, one.getsockname()) for one in reserved]
        folder = stack.enter_context(metrics_folder())
        stack.enter_context(_environment("PROMETHEUS_MULTIPROC_DIR", str(folder)))
        heard = stack.enter_context(signals())
        _Supervisor(settings, answer, addresses, folder, heard).run()


@dataclass
class _Child:
    """A process that answers, or is about to.

    Attributes
    ----------
    number
        Which of the processes it is.
    process
        The process.
    pipe
        What it says comes from here; None when it will say no more.
    ready_at
        Since when it answers.
    failure
        Why it cannot.
    """

    number: int
    process: BaseProcess
    pipe: Connection | None
    ready_at: float | None = None
    failure: str | None = None


class _Supervisor:
    def __init__(
        self,
        settings: ServeSettings,
        answer: Answer,
        addresses: Sequence[Address],
        folder: Path,
        signals: socket.socket,
    ) -> None:
        self._settings = settings
        self._answer = answer
        self._addresses = addresses
        self._folder = folder
        self._signals = signals
        self._spawning = multiprocessing.get_context("spawn")
        self._counts = self._spawning.RawArray("Q", settings.processes)
        self._swap: Swap | None = None
        self._children: dict[int, _Child] = {}
        self._due = dict.fromkeys(range(settings.processes), 0.0)
        self._short_lives = dict.fromkeys(range(settings.processes), 0)
        self._failed_starts = 0
        self._listening = False

    def run(self) -> None:
        try:
            while not self._told_to_stop():
                self._start_those_due()
                self._wait()
                for child in list(self._children.values()):
                    ended = not child.process.is_alive()
                    self._hear(child)  # after that look: its last words too
                    if ended:
                        self._bury(child)
                self._announce()
        finally:
            self._stop()

    def _start_those_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            try:
                self._start(number)
            except OSError as error:
                if not self._listening:
                    raise
                self._due[number] = now + 1  # the machine has no room for it at the moment
                logger.error("a process cannot be started: %s", error.strerror)

    def _start(self, number: int) -> None:
        ours, theirs = self._spawning.Pipe()
        place = Place(number, self._addresses, self._counts, theirs, self._folder, self._swap)
        process = self._spawning.Process(
            target=self._answer, args=(share_of_one(self._settings), place), daemon=True
        )
        with spared_from_interrupts():
            process.start()
        theirs.close()  # so that ours ends when the process does
        self._children[number] = _Child(number, process, ours)

    def _wait(self) -> None:
        """Until there is something to do."""
        things: list[Any] = [self._signals]
        for child in self._children.values():
            things.append(child.process.sentinel)
            if child.pipe is not None:
                things.append(child.pipe)
        pause = None
        if self._due:
            pause = max(0.0, min(self._due.values()) - time.monotonic())
        wait(things, pause)

    def _hear(self, child: _Child) -> None:
        while child.pipe is not None:
            try:
                if not child.pipe.poll():
                    return
                what, value = child.pipe.recv()
            except (EOFError, OSError):
                child.pipe.close()
                child.pipe = None
                return
            if what == "ready":
                child.ready_at = time.monotonic()
                self._failed_starts = 0
                fields = {"process": child.number, "pid": child.process.pid}
                logger.info("a process answers", extra={"fields": fields})
            elif what == "failed":
                child.failure = value
            elif what == "swapped":
                self._swap = value
                self._tell_all(value)

    def _tell_all(self, swap: Swap) -> None:
        for child in self._children.values():
            if child.pipe is not None:
                with contextlib.suppress(OSError):  # it has just ended
                    child.pipe.send(swap)

    def _bury(self, child: _Child) -> None:
        """Take away a process that ended; see to it that it is replaced."""
        number, code = child.number, child.process.exitcode
        del self._children[number]
        if child.pipe is not None:
            child.pipe.close()
        mark_process_dead(child.process.pid, str(self._folder))  # type: ignore[no-untyped-call]
        failure = child.failure or (
            f"a process ended with exit code {code} while it started; "
            "the log may say why, and with -9 it was killed: fewer processes need less memory"
        )
        if child.ready_at is None:
            self._failed_starts += 1
            answering = any(one.ready_at is not None for one in self._children.values())
            if not self._listening or (
                not answering and self._failed_starts >= _MOST_FAILED_STARTS
            ):
                raise TwoTowerError(failure)
        lived = 0.0 if child.ready_at is None else time.monotonic() - child.ready_at
        short = 0 if lived >= _LONG_LIFE_S else self._short_lives[number] + 1
        self._short_lives[number] = short
        pause = 0.0 if short < 2 else min(_LONGEST_PAUSE_S, 0.5 * 2.0 ** (short - 2))
        self._due[number] = time.monotonic() + pause
        fields: dict[str, Any] = {"process": number, "exit_code": code, "pause_s": pause}
        if child.failure is not None:
            fields["why"] = child.failure
        logger.error("a process ended and is replaced", extra={"fields": fields})

    def _announce(self) -> None:
        """Say once that all processes listen."""
        ready = [child for child in self._children.values() if child.ready_at is not None]
        if self._listening or len(ready) < self._settings.processes:
            return
        self._listening = True
        for _, (host, port, *_) in self._addresses:
            fields = {"host": host, "port": port, "processes": self._settings.processes}
            logger.info("listening", extra={"fields": fields})

    def _told_to_stop(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return any(one in SIGNALS for one in self._signals.recv(64))
        return False

    def _stop(self) -> None:
        """Let all processes answer what they have begun, and end. Another signal ends them now."""
        processes = [child.process for child in self._children.values()]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + math.ceil(self._settings.drain_s) + _PATIENCE_S
        while alive := [process for process in processes if process.is_alive()]:
            wait(
                [self._signals, *(process.sentinel for process in alive)],
                max(0.0, deadline - time.monotonic()),
            )
            if time.monotonic() >= deadline or self._told_to_stop():
                for process in alive:
                    process.kill()
                    process.join()
                logger.error("%d processes were killed before they had ended", len(alive))
                raise SystemExit(1)
        if self._listening:
            logger.info("stopped")


def _check_state(settings: ServeSettings) -> None:
    """Open the database once, so that it is there, and good, for all of them."""
    store = StateStore(settings.database, settings.state_timeout_s)
    store.close()
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InputError(
            "several processes cannot share a database in memory",
            "set state_url to sqlite:///FILE",
        )


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
