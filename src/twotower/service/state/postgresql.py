"""PostgreSQL connections with a time limit on every wait."""

import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.waiting import Ready
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from twotower.service.state.engine import deadline, within

T = TypeVar("T")

_PING_S: Final = 1.0
"""A pooled connection that does not answer within this time is replaced: a firewall may have
dropped it while the server is healthy."""
_CONNECT_S: Final = 2
"""The shortest connection timeout that libpq accepts."""
_SILENT_S: Final = 30
"""The server ends a transaction whose client is silent for this long, and frees its locks."""
_KEEPALIVES: Final = {"keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}


def postgresql_engine(url: URL, wait_s: float) -> Engine:
    """An engine on which every wait is bounded, whether client, server or network fails.

    The server ends slow statements, and transactions whose client is silent. The kernels close
    connections whose other end is gone. The client gives up if a frozen server or a silently
    dropping network does not answer: see `BoundedConnection`. Settings in the URL take precedence.
    ``wait_s`` limits a statement and the wait for a lock.
    """
    parameters, given = _parameters(url, wait_s)
    engine = create_engine(
        url.set(drivername="postgresql+psycopg", query=given),
        pool_timeout=wait_s,
        connect_args=parameters,
    )
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "checkout", _ping)
    return engine


def async_connector(
    url: URL, wait_s: float
) -> Callable[[], Coroutine[Any, Any, "BoundedAsyncConnection"]]:
    """A function that opens a connection for an event loop, with bounded waits too."""
    parameters, given = _parameters(url, wait_s)

    async def connect() -> BoundedAsyncConnection:
        connection = await BoundedAsyncConnection.connect(
            url.set(drivername="postgresql", query=given).render_as_string(hide_password=False),
            autocommit=True,
            **parameters,
        )
        connection.wait_s = wait_s
        return connection

    return connect


def _parameters(url: URL, wait_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Connection parameters that bound every wait, and the URL's own, which take precedence."""
    wait_ms = int(1000 * wait_s)
    limits = {
        "statement_timeout": wait_ms,
        "lock_timeout": wait_ms,
        "idle_in_transaction_session_timeout": 1000 * _SILENT_S,
        **{f"tcp_{name}": value for name, value in _KEEPALIVES.items()},
    }
    given = dict(url.query)
    options = " ".join(f"-c {name}={value}" for name, value in limits.items())
    settings = {
        "connect_timeout": _CONNECT_S,
        "keepalives": 1,
        **_KEEPALIVES,
        "tcp_user_timeout": wait_ms,
        "options": f"{options} {given.pop('options', '')}".strip(),
    }
    return {name: value for name, value in settings.items() if name not in given}, given


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that waits no longer than the calling thread's `deadline`.

    If an answer is overdue, the connection is closed, so that nothing reads a late answer.
    """

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """As psycopg's; `psycopg.OperationalError` at the deadline."""
        moment = deadline()
        if moment is None:
            return super().wait(gen, *args, **options)
        try:
            return super().wait(_ending(gen, moment), *args, **options)
        except _OverdueError:
            self.pgconn.finish()
            raise psycopg.OperationalError("no answer in time") from None


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """A connection of an event loop, each wait of which takes at most ``wait_s`` seconds."""

    wait_s: float = _PING_S

    async def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """As psycopg's; `psycopg.OperationalError` if it takes longer."""
        moment = time.monotonic() + self.wait_s
        try:
            return await super().wait(_ending(gen, moment), *args, **options)
        except _OverdueError:
            self.pgconn.finish()
            raise psycopg.OperationalError("no answer in time") from None


class _OverdueError(Exception):
    """The deadline has passed."""


def _ending(waiting: Generator[Any, Any, T], moment: float) -> Generator[Any, Any, T]:
    """A wait of psycopg, with a deadline; psycopg resumes it ten times a second while idle."""
    try:
        wanted = next(waiting)
        while True:
            ready = yield wanted
            if ready == Ready.NONE and time.monotonic() >= moment:
                raise _OverdueError
            wanted = waiting.send(ready)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _connect(_: object, __: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    return BoundedConnection.connect(*arguments, **options)


def _ping(connection: psycopg.Connection[Any], record: Any, _: object) -> None:
    """Replace a pooled connection that does not answer, and all others that are as old."""
    if "used" in record.info:
        try:
            with within(_PING_S):
                connection.execute("SELECT 1")
                connection.rollback()
        except psycopg.Error as error:
            connection.close()
            raise InvalidatePoolError("the connection does not answer") from error
    record.info["used"] = True
