"""Online back-up and restore of a SQLite state database."""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy.engine import make_url

from twotower.data.atomic import publish_file
from twotower.errors import ArtefactError, InputError
from twotower.service.state import tables
from twotower.service.state.errors import StateUnavailableError
from twotower.service.state.forgotten import Forgotten, Tombstone
from twotower.service.state.store import StateStore

_WAIT_S: Final = 30.0
"""How long a restore waits for writers of the database."""


def back_up(url: str, out: Path) -> dict[str, int]:
    """Write a copy of a SQLite state database, while services write to it.

    Uses SQLite's online back-up. The copy holds everything acknowledged before the call, in one
    file readable only by its owner; an existing file is replaced. Returns the row count per table.
    `InputError` if the database is not a SQLite file or does not exist.
    """
    file = _sqlite_file(url)
    if not file.exists():
        raise InputError(f"there is no database at {file}", "pass the --state of the service")
    with _private_file(out) as temporary:
        _copy(file, temporary)
        with _opened(temporary) as copy:
            rows = {
                table.name: copy.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
                for table in tables.metadata.sorted_tables
                if table is not tables.about and _has(copy, table.name)
            }
    return rows


def restore(url: str, backup: Path, lists: Sequence[Path] = ()) -> dict[str, int]:
    """Replace a SQLite state database by a back-up, even while services use it.

    Users forgotten after the back-up stay forgotten: the tombstones of the current database and of
    ``lists`` are applied to the back-up first. Running services notice the replacement and reread
    the database.

    Parameters
    ----------
    backup
        A file from `back_up`, of this release or an earlier one.
    lists
        Files from `write_tombstones`.

    Returns
    -------
    dict
        Number of ``tombstones`` that the back-up lacked, and of ``rows`` that they deleted.

    Raises
    ------
    InputError
        If the back-up does not exist, or is of a different database than the current one, whose
        tombstones could not be applied.
    ArtefactError
        If the back-up is damaged, not a state database, or of a newer release.
    """
    file = _sqlite_file(url)
    if not backup.is_file():
        raise InputError(f"there is no back-up at {backup}", "make one with twotower backup")
    missing = [read_tombstones(path) for path in lists]
    if file.exists():
        with closing(StateStore(url)) as there:
            missing.append(there.forgotten())
    with TemporaryDirectory(prefix=".restored-", dir=file.absolute().parent) as folder:
        temporary = Path(folder) / file.name
        _copy(backup, temporary)
        with _opened(temporary) as copy:
            if not _has(copy, tables.about.name):
                raise ArtefactError(f"{backup.name} is no back-up of a state database")
            if copy.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise ArtefactError(f"{backup.name} is damaged; restore an older back-up")
        with closing(StateStore(f"sqlite:///{temporary}")) as store:
            done = {"tombstones": 0, "rows": 0}
            for forgotten in missing:
                for name, count in obey(store, forgotten).items():
                    done[name] += count
            with store.engine.begin() as connection:
                connection.execute(tables.about.update().values(epoch=secrets.token_hex(16)))
                connection.execute(tables.followers.delete())
            store.scrub()
        _copy(temporary, file)
    return done


def obey(store: StateStore, forgotten: Forgotten) -> dict[str, int]:
    """Apply the tombstones of another copy of a database.

    `InputError` if they are not copies of one database: their ids would have different hashes.
    """
    if forgotten.key != store.forget_key:
        if not forgotten:
            return {"tombstones": 0, "rows": 0}
        raise InputError(
            f"{len(forgotten)} users were forgotten in a database that this is no back-up of: "
            "they could not be recognised in it",
            "restore a back-up of that database, or move it away first",
        )
    before = len(store.forgotten())
    rows = store.forget_again(forgotten.tombstones())
    return {"tombstones": len(store.forgotten()) - before, "rows": rows}


def write_tombstones(store: StateStore, out: Path) -> int:
    """Write all tombstones, with the key of their hashes, for `obey`; returns their number."""
    found = store.forgotten()
    rows = [[tombstone.digest, tombstone.forgotten_at] for tombstone in found.tombstones()]
    with _private_file(out) as temporary:
        temporary.write_text(json.dumps({"key": found.key.hex(), "forgotten": rows}))
    return len(rows)


def read_tombstones(file: Path) -> Forgotten:
    """Read what `write_tombstones` wrote; `ArtefactError` if it is something else."""
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        found = Forgotten(bytes.fromhex(content["key"]))
        found.add(Tombstone(str(digest), int(at)) for digest, at in content["forgotten"])
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise ArtefactError(f"{file} is no list of forgotten users") from None
    return found


def _sqlite_file(url: str) -> Path:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise InputError(
            "twotower copies SQLite files alone",
            "copy PostgreSQL with pg_dump --format=custom, and put it back with pg_restore: "
            "docs/serving.md#back-ups",
        )
    assert parsed.database is not None
    return Path(parsed.database)


@contextmanager
def _private_file(out: Path) -> Iterator[Path]:
    """A file readable only by its owner, published atomically."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        temporary = Path(folder) / out.name
        temporary.touch(0o600)
        yield temporary
        publish_file(temporary, out, durable=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a database into another one, which may be in use, by SQLite's online back-up."""
    if not target.exists():
        os.close(os.open(target, os.O_CREAT | os.O_RDWR, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(target, timeout=_WAIT_S)) as writing,
        ):
            reading.backup(writing)
    except sqlite3.OperationalError as error:
        raise StateUnavailableError(
            f"{target.name} cannot be written ({error}); nothing was changed, try again"
        ) from None
    except sqlite3.DatabaseError:
        raise ArtefactError(
            f"{source} is no SQLite database, or is damaged; "
            "give a file that 'twotower backup' wrote"
        ) from None


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A copy, as one file without a write-ahead log."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        yield connection


def _has(connection: sqlite3.Connection, table: str) -> bool:
    named = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(named, (table,)).fetchone() is not None
