"""HTTP connection limits: header size, header time and number of open connections.

uvicorn's own limits do not cover this: ``h11_max_incomplete_event_size`` only applies to its h11
protocol, httptools buffers an unfinished header without a limit, and ``limit_concurrency`` answers
all callers with 503 while enough connections are idle.
"""

import asyncio
import importlib.util
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from twotower.service.api.problems import MEDIA_TYPE, problem
from twotower.service.settings import ServeSettings

logger = logging.getLogger(__name__)

CONNECTION_LIMITS: Final = "connection_limits"
"""Key of the `ConnectionLimits` in the app's lifespan state."""
_QUIET_S: Final = 10
"""Seconds between two log lines about one kind of refused connection."""
_SPARE_FILES: Final = 100
"""Allowance for open files other than connections: bundle, database, listening sockets."""


@dataclass
class ConnectionLimits:
    """Limits of all connections of one process, and reporting of refused ones.

    Attributes
    ----------
    header_bytes
        Longest request line and headers together. The same limit holds for any other consecutive
        bytes outside a body: chunk extensions, trailers.
    wait_s
        Seconds that a client may take to send its headers or the rest of a body that was already
        answered, and to read some of a response.
    connections
        Most open connections.
    refused
        Called with the status of each request that is refused here.
    open
        The open connections.
    """

    header_bytes: int
    wait_s: float
    connections: int
    refused: Callable[[int], None] = lambda _: None
    open: "set[BoundedHttpProtocol]" = field(default_factory=set)
    _last_line: dict[str, float] = field(default_factory=dict)
    _unlogged: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: ServeSettings, refused: Callable[[int], None]) -> "ConnectionLimits":
        """The limits from the settings; raises the process's limit of open files as needed.

        If the system allows fewer files, fewer connections are allowed, and that is logged.
        """
        most = _with_files_for(settings.max_connections)
        if most < settings.max_connections:
            logger.warning(
                "max_connections is %d in place of %d: the system allows no more open files",
                most, settings.max_connections,
            )  # fmt: skip
        return cls(settings.max_header_bytes, settings.header_timeout_s, most, refused)

    async def sweep(self) -> None:
        """Check once a second for clients that took too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1)
            for connection in list(self.open):
                try:
                    connection.sweep(loop.time())
                except Exception as error:  # the others must not go without
                    logger.error("a connection cannot be looked after", exc_info=error)
                    self.open.discard(connection)

    def log(self, what: str) -> None:
        """Log a refused connection, at most one line per kind in ten seconds."""
        now = time.monotonic()
        self._unlogged[what] = self._unlogged.get(what, 0) + 1
        if now - self._last_line.get(what, -_QUIET_S) >= _QUIET_S:
            self._last_line[what] = now
            fields = {"connections": self._unlogged.pop(what)}
            logger.warning("%s", what, extra={"fields": fields})


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with `ConnectionLimits`.

    Attributes
    ----------
    waiting_since
        When this process began waiting for the client, or None if it is not waiting.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits: ConnectionLimits = self.app_state[CONNECTION_LIMITS]
        self._not_body = 0  # bytes in a row that are neither body nor the end of a header
        self._in_header = True
        self._unsent = 0
        self.waiting_since: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection; if there are too many, close the longest-idle one.

        Connections that never sent a request are closed before those that did.
        """
        super().connection_made(transport)
        self._limits.open.add(self)
        self.waiting_since = self.loop.time()
        if len(self._limits.open) <= self._limits.connections:
            return
        idle = [other for other in self._limits.open if other is not self and other.is_idle]
        if idle:
            oldest = min(idle, key=lambda each: (each.cycle is not None, each.waiting_since or 0.0))
            self._limits.log("idle connections were closed to make room for others")
            oldest.close()
        else:
            self._limits.log("connections were refused, since all that may be open are busy")
            self.refuse(
                503, f"more than {self._limits.connections:,} connections are open",
                "try again in a second",
            )  # fmt: skip

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._limits.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received data, in pieces no longer than the rest of the limit."""
        if self.waiting_since is None and self._in_header:
            self.waiting_since = self.loop.time()
        most = self._limits.header_bytes
        while data and self.parser is not None and not self.transport.is_closing():
            part, data = data[: most - self._not_body], data[most - self._not_body :]
            self._not_body += len(part)
            super().data_received(part)
            if self._not_body >= most and not self.transport.is_closing():
                self._limits.log("requests were refused for too long headers")
                self.refuse(431, f"the headers are longer than {most:,} bytes", "send fewer")

    def on_headers_complete(self) -> None:
        """A request can be answered."""
        self._not_body, self._in_header, self.waiting_since = 0, False, None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of a body came."""
        self._not_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next thing is another header."""
        self._not_body, self._in_header = 0, True
        if self.is_idle:
            self.waiting_since = self.loop.time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is written; the client may still have to send or to read."""
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def sweep(self, now: float) -> None:
        """Close the connection if its client took too long."""
        if self.waiting_since is None and self.transport.is_closing():
            self.waiting_since = now
        if self.waiting_since is None or now - self.waiting_since < self._limits.wait_s:
            return
        unsent = self.transport.get_write_buffer_size()
        if unsent:  # the answer is not read: as long as it goes on, however slowly, wait
            if self._unsent == 0 or unsent < self._unsent:
                self._unsent, self.waiting_since = unsent, now
                return
            self._limits.log("connections were closed, since their answers were not read")
            self.close()
        elif self._in_header and self._not_body and self.is_idle:
            self._limits.log("requests were refused for headers that took too long")
            self.refuse(408, f"no headers within {self._limits.wait_s:g} s", "send them at once")
        elif self.is_idle:
            self.close()

    def refuse(self, status: int, what: str, fix: str) -> None:
        """Answer with a problem, unless a response is in progress, and close the connection."""
        self._limits.refused(status)
        if self.is_idle:
            body = bytes(problem(status, what, fix=fix).body)
            self.transport.write(
                STATUS_LINE[status]
                + f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n".encode()
                + b"connection: close\r\n\r\n"
                + body
            )
        self.close()

    def close(self) -> None:
        """Close the connection and stop counting it, whether or not the client notices."""
        self.connections.discard(self)
        self._limits.open.discard(self)
        if self.transport.get_write_buffer_size():  # else it would stay open until that is read
            self.transport.abort()
        else:
            self.transport.close()


def _with_files_for(connections: int) -> int:
    """Raise the limit of open files for this many connections; returns how many are possible."""
    if importlib.util.find_spec("resource") is None:  # not Unix
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    reached = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
    return max(1, reached - _SPARE_FILES)
