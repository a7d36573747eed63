"""One of several processes that answer as one service: what it shares with the others."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from twotower.bundle.manifest import Manifest
from twotower.errors import InputError
from twotower.service.api.metrics import Metrics
from twotower.service.service import Service
from twotower.service.state import StateConflictError
from twotower.service.write_counter import Writes

logger = logging.getLogger(__name__)

Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family, and what `bind` takes for it."""
Swap: TypeAlias = tuple[tuple[int, int], str | None]
"""Which reload of which process it was, and the name of the bundle."""


@dataclass(frozen=True)
class Place:
    """What a process is given when it starts.

    Attributes
    ----------
    number
        Which process of the service it is, from 0.
    addresses
        Where all of them listen.
    counts
        ``(processes,)``, shared: see `Writes`.
    pipe
        To the supervisor. It closes when the supervisor ends.
    metrics
        Folder of all processes' metrics.
    swap
        The newest reload, or None while the configured bundle is served.
    """

    number: int
    addresses: Sequence[Address]
    counts: MutableSequence[int]
    pipe: Connection
    metrics: Path
    swap: Swap | None


@dataclass
class Sibling:
    """A process among the others, as it sees itself.

    Attributes
    ----------
    place
        What it was given.
    writes
        What all of them wrote.
    """

    place: Place
    writes: Writes = field(init=False)

    def __post_init__(self) -> None:
        self.writes = Writes(self.place.counts, self.place.number)
        self._swap = self.place.swap
        self._reloads = 0
        self._asked = threading.Lock()
        self._swapping = threading.Lock()
        self._sending = threading.Lock()

    @property
    def bundle(self) -> str | None:
        """Name of the bundle to begin with; None for the configured one."""
        return None if self.place.swap is None else self.place.swap[1]

    def sockets(self) -> list[socket.socket]:
        """Sockets of this process's own, bound where those of the others are.

        The kernel spreads connections over them. One socket for all would let the process that is
        quickest to accept take most connections, and a process that is killed would leave some
        behind that nobody answers.
        """
        return [bound(address, shared=True) for address in self.place.addresses]

    def say(self, what: str, value: object = None) -> None:
        """Tell the supervisor. Where it is gone, this process is about to end."""
        with self._sending, contextlib.suppress(OSError):
            self.place.pipe.send((what, value))

    def reload(self, service: Service, name: str | None) -> Manifest:
        """As `Service.reload`; then the others follow."""
        if not self._asked.acquire(blocking=False):
            raise StateConflictError("a reload is under way", "wait until it has ended")
        try:
            with self._swapping:  # waits where another process's reload is being followed
                manifest = service.reload(name)
                self._reloads += 1
                self._swap = ((os.getpid(), self._reloads), name)
                self.say("swapped", self._swap)
        finally:
            self._asked.release()
        return manifest

    def listen(self, service: Service, metrics: Metrics) -> None:
        """Follow what the supervisor says from now on, and end when it does."""
        threading.Thread(
            target=self._listen, args=(service, metrics), name="twotower-sibling", daemon=True
        ).start()

    def _listen(self, service: Service, metrics: Metrics) -> None:
        while True:
            try:
                swap = self.place.pipe.recv()
                while self.place.pipe.poll():  # the newest one alone counts
                    swap = self.place.pipe.recv()
            except (EOFError, OSError):
                logger.error("the supervisor is gone: this process ends")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._follow(swap, service, metrics)

    def _follow(self, swap: Swap, service: Service, metrics: Metrics) -> None:
        """Reload what another process reloaded.

        All processes hear of all reloads, their own too, in one order: so all end with the same.
        """
        with self._swapping:
            if swap == self._swap:
                return
            self._swap = swap
            try:
                service.reload(swap[1])
            except Exception as error:
                metrics.reloads.labels("refused").inc()
                logger.error("the old bundle goes on, the new one cannot be used", exc_info=error)
            else:
                metrics.reloads.labels("followed").inc()
                metrics.note(service)


class Numbered(logging.Filter):
    """Adds the number of the process to every line of the log."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def filter(self, record: logging.LogRecord) -> bool:
        """Add it; every line passes."""
        record.__dict__["fields"] = {**getattr(record, "fields", {}), "process": self._number}
        return True


def bound(address: Address, *, shared: bool) -> socket.socket:
    """A socket bound to an address, which others may bind too if all of them are ``shared``."""
    family, place = address
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(place)
    except OSError:
        one.close()
        raise
    return one


def reserve(host: str, port: int) -> list[socket.socket]:
    """Sockets that hold the address while no process has one yet. They take no connection."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses: dict[Address, None] = dict.fromkeys((one[0], one[4]) for one in found)
    with contextlib.ExitStack() as opened:
        kept: list[socket.socket] = []
        for family, place in addresses:
            if port == 0 and kept:  # the free port that the first one got
                place = (place[0], kept[0].getsockname()[1], *place[2:])
            try:
                # Whoever listens there may share its port, as we do: it must not be with us.
                bound((family, place), shared=False).close()
                one = bound((family, place), shared=True)
            except OSError as error:
                raise InputError(
                    f"cannot listen on {place[0]} port {place[1]} ({error.strerror})",
                    "end what listens there, or choose another host or port",
                ) from None
            kept.append(opened.enter_context(one))
        opened.pop_all()
    return kept
