"""SQLite database file: detects that it was deleted or replaced."""

import logging
import os
from pathlib import Path
from typing import TypeAlias

from twotower.service.state.errors import StateReplacedError, StateUnavailableError

logger = logging.getLogger(__name__)

Identity: TypeAlias = tuple[int, int]
"""Device and inode."""


class DatabaseFile:
    """Detects that the database file at a path was deleted or replaced.

    SQLite keeps writing to a deleted file without an error, and the data is lost when the last
    process closes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
        self._opened = _identity(path)
        self._opened_logs: list[Identity | None] = []
        self.note_logs()

    def note_logs(self) -> None:
        """Remember which write-ahead log, and index of it, belong to the file."""
        self._opened_logs = [_identity(path) for path in self._logs]

    def check(self, outcome: str) -> None:
        """Check that the file is still the one that was opened.

        `StateUnavailableError` if it is gone, `StateReplacedError` if it was replaced; both carry
        ``outcome``, what that means for the operation.
        """
        found = _identity(self.path)
        if found is None:
            raise StateUnavailableError(
                f"the state database's file is gone; {outcome}, put it back, "
                "or restart the service to begin an empty one"
            )
        if found != self._opened:
            raise StateReplacedError(f"the state database's file was replaced; {outcome}")

    def put_logs_aside(self) -> None:
        """Rename the old file's write-ahead log before the new file is opened.

        SQLite would replay it into the new file. A log that belongs to the new file stays.
        """
        if _identity(self.path) == self._opened:
            return
        for path, known in zip(self._logs, self._opened_logs, strict=True):
            if known is not None and _identity(path) == known:
                aside = path.with_name(f"{path.name}.replaced-{os.getpid()}-{known[1]}")
                path.rename(aside)
                logger.warning("%s belongs to the replaced database: now %s", path.name, aside.name)


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
