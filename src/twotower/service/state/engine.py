"""Database engines: SQLite with a write-ahead log, or PostgreSQL; and the deadline of a call."""

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
"""Execution option of a connection that is going to write."""
WAIT_S: Final = 5.0
"""What one call of the database may take, where nothing else is set."""
_LOCK: Final = 7_236_812_104_455_317_001
"""Advisory lock that PostgreSQL's writers of these tables take in turn."""
_READ_MS: Final = 1000
"""In a write-ahead log a reader waits for an exclusive lock alone, as of a restored back-up."""


def open_engine(url: str, wait_s: float = WAIT_S) -> Engine:
    """An engine for ``sqlite:///file`` or ``postgresql://…``.

    Writers take turns, so that a reader of rows in the order of their numbers misses none: a
    number is given and committed before the next one is given. ``wait_s`` is what a lock, and in
    PostgreSQL a statement, may take. `InputError` where the URL names neither.
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
    """Create the file of a SQLite database with permissions 0600 where there is none.

    SQLite itself follows the umask, with which other users of the machine may read what is in it.
    Its write-ahead log gets the same permissions.
    """
    if not database or database == ":memory:" or database.startswith("file:"):
        return
    with suppress(OSError):  # SQLite says better why it cannot be made
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the listener to "begin" begins transactions
    cursor: sqlite3.Cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: what was committed also survives a power cut, not only the end of the process.
    cursor.execute("PRAGMA synchronous = FULL")
    # What is deleted is overwritten: a forgotten user's rows are not left in free pages.
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.close()


_calls = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give this thread's calls so long in all; inside another one the earlier deadline holds."""
    before = deadline()
    own = time.monotonic() + seconds
    _calls.deadline = own if before is None else min(before, own)
    try:
        yield
    finally:
        _calls.deadline = before


def deadline() -> float | None:
    """The moment of `time.monotonic` by which an answer must be there; None for any time."""
    moment: float | None = getattr(_calls, "deadline", None)
    return moment
