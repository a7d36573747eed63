"""Connections: SQLite with a write-ahead log, or PostgreSQL."""

import os
import sqlite3
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from twotower.errors import InputError

WRITING: Final = "twotower_writing"
"""Execution option of a connection that is going to write."""
_LOCK: Final = 7_236_812_104_455_317_001
"""Advisory lock that PostgreSQL's writers of these tables take in turn."""
_WAIT_SECONDS: Final = 5


def open_engine(url: str) -> Engine:
    """An engine for ``sqlite:///file`` or ``postgresql://…``.

    Writers take turns, so that whoever reads rows in the order of their numbers misses none:
    a number is given and committed before the next one is given.

    Raises
    ------
    InputError
        Where the URL names neither.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        backend = "unknown"
    if backend == "sqlite":
        _make_private(parsed.database)
        engine = create_engine(parsed, connect_args={"timeout": _WAIT_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
    elif backend == "postgresql":
        engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_timeout=_WAIT_SECONDS,
            connect_args={
                "connect_timeout": _WAIT_SECONDS,
                "options": f"-c statement_timeout={_WAIT_SECONDS * 1000} "
                f"-c lock_timeout={_WAIT_SECONDS * 1000}",
            },
        )
    else:
        raise InputError(
            "the state's URL must begin with sqlite:/// or postgresql://",
            "for example sqlite:///state.sqlite3 or postgresql://user@host/database",
        )
    event.listen(engine, "begin", _begin)
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
    connection.isolation_level = None  # `_begin` says when a transaction begins
    cursor: sqlite3.Cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: what was committed also survives a power cut, not only the end of the process.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get(WRITING, False)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
    elif writing:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
