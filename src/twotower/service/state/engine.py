"""Database engines (SQLite with a write-ahead log, or PostgreSQL) and deadlines of calls."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from twotower.errors import InputError

WRITING: Final = "twotower_writing"
"""Execution option that marks a connection as writing."""
WAIT_S: Final = 5.0
"""Default time limit of a database call."""
_LOCK: Final = 7_236_812_104_455_317_001
"""Advisory lock that serialises writers on PostgreSQL."""
_READ_MS: Final = 1000
"""Read timeout: with a write-ahead log, readers wait only for exclusive locks, as in a restore."""


def open_engine(url: str, wait_s: float = WAIT_S) -> Engine:
    """An engine for ``sqlite:///file`` or ``postgresql://…``.

    Writers are serialised: each row number is committed before the next one is assigned, so a
    reader that follows the numbers misses no row. ``wait_s`` is the time limit of a lock and, in
    PostgreSQL, of a statement. `InputError` if the URL names neither.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        backend = "unknown"
    if backend == "sqlite":
        _make_private(parsed.database)
        engine = create_engine(parsed, connect_args={"timeout": wait_s})
        event.listen(engine, "connect", _prepare_sqlite)
    elif backend == "postgresql":
        from twotower.service.state.postgresql import postgresql_engine  # SQLite needs no driver

        engine = postgresql_engine(parsed, wait_s)
    else:
        raise InputError(
            "the state's URL must begin with sqlite:/// or postgresql://",
            "for example sqlite:///state.sqlite3 or postgresql://user@host/database",
        )
    write_ms = int(1000 * wait_s)

    def begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(WRITING, False)
        if connection.dialect.name == "sqlite":
            busy_ms = write_ms if writing else min(_READ_MS, write_ms)
            connection.connection.cursor().execute(f"PRAGMA busy_timeout = {busy_ms}")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
        elif writing:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})

    event.listen(engine, "begin", begin)
    return engine


def _make_private(database: str | None) -> None:
    """Create a missing SQLite database file with permissions 0600.

    SQLite itself follows the umask, which may let other users of the machine read it. Its
    write-ahead log gets the same permissions.
    """
    if not database or database == ":memory:" or database.startswith("file:"):
        return
    with suppress(OSError):  # SQLite gives a better error message
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the listener to "begin" begins transactions
    cursor: sqlite3.Cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: commits survive a power cut, not only a process crash.
    cursor.execute("PRAGMA synchronous = FULL")
    # Deleted data is overwritten: a forgotten user's rows do not remain in free pages.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


_calls = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Set a deadline for this thread's calls; when nested, the earlier deadline holds."""
    before = deadline()
    own = time.monotonic() + seconds
    _calls.deadline = own if before is None else min(before, own)
    try:
        yield
    finally:
        _calls.deadline = before


def deadline() -> float | None:
    """Deadline of the calling thread on `time.monotonic`; None for no limit."""
    moment: float | None = getattr(_calls, "deadline", None)
    return moment
