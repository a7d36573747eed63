"""Change detection: a cheap check whether anything was committed to the state database."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twotower.service.state.errors import StateUnavailableError
from twotower.service.state.file import DatabaseFile

_UNREAD = "nothing was read, try again when it is back"


class FileWatch:
    """SQLite's ``PRAGMA data_version``, on a connection that does nothing else.

    It takes a few microseconds, and changes with every commit of any other connection, of this
    process or another one: https://www.sqlite.org/pragma.html#pragma_data_version.
    """

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None

    def version(self) -> object:
        """Equal to the last one where nothing was committed in between. It waits for no lock.

        `StateUnavailableError` where the file is locked, gone, or another one.
        """
        self._file.check("nothing was read")
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"{self._file.path.absolute().as_uri()}?mode=rw",
                    uri=True, timeout=0, isolation_level=None, check_same_thread=False,
                )  # fmt: skip
            return self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise StateUnavailableError(
                f"the state database does not answer ({type(error).__name__}); {_UNREAD}"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


class ServerWatch:
    """The newest row numbers of a PostgreSQL database, read on the event loop.

    On a connection of its own, in autocommit: one round trip, an eighth of a millisecond of this
    process's time. ``LISTEN`` would cost less, but a notification may arrive after the answer to
    the write that it tells of. ``connect`` opens a connection; the statement gives one row, which
    differs after every write.
    """

    def __init__(self, connect: Callable[[], Any], statement: str) -> None:
        self._connect = connect
        self._statement = statement
        self._connection: Any = None
        self._reading = asyncio.Lock()

    async def version(self) -> object:
        """Equal to the last one where nothing was committed in between.

        `StateUnavailableError` where the server does not answer in time.
        """
        import psycopg

        async with self._reading:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._connect()
                cursor = await self._connection.execute(self._statement)
                return await cursor.fetchone()
            except psycopg.Error as error:
                self.close()
                raise StateUnavailableError(
                    f"the state database does not answer ({type(error).__name__}); {_UNREAD}"
                ) from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.pgconn.finish()
            self._connection = None
