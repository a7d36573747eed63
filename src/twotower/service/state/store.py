"""State store: the service's database; every write is on disk before its method returns."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from twotower.errors import ArtefactError, TwoTowerError
from twotower.service.state import live, personal, tables
from twotower.service.state.engine import WAIT_S, WRITING, open_engine, within
from twotower.service.state.errors import StateConflictError, StateReplacedError, translated
from twotower.service.state.file import DatabaseFile
from twotower.service.state.forgotten import Forgetting, Forgotten, Tombstone
from twotower.service.state.live import Outcomes
from twotower.service.state.migrations import bring_forward
from twotower.service.state.records import (
    BundleInService,
    Changes,
    Cursor,
    Event,
    ItemFields,
    StoredItem,
    event_of,
)
from twotower.service.state.watch import FileWatch, ServerWatch

P = ParamSpec("P")
T = TypeVar("T")

_ALL: Final = 2**31 - 1
_FIELDS: Final = tuple(ItemFields.model_fields)
# By place: a service reads every item that was added whenever it loads a bundle.
_values: Final = itemgetter(*map(tables.items.c.keys().index, _FIELDS))


def _after(table: sa.Table, column: str = "revision") -> sa.Select[Any]:
    """Rows after a number, each with its own as ``number``."""
    number = table.c[column]
    later = sa.select(table, number.label("number")).where(number > sa.bindparam("since"))
    return later.order_by(number).limit(sa.bindparam("most"))


# Built once: building a statement takes longer than SQLite takes to run it.
_ITEM: Final = sa.select(tables.items).where(tables.items.c.item_id == sa.bindparam("item_id"))
_EVENT: Final = sa.select(tables.events).where(tables.events.c.event_id == sa.bindparam("event_id"))
_ITEMS: Final = (
    _after(tables.items)
    .add_columns(tables.encodings.c.model_version, tables.encodings.c.encoding)
    .join_from(
        tables.items,
        tables.encodings,
        sa.and_(
            tables.encodings.c.item_id == tables.items.c.item_id,
            tables.encodings.c.revision == tables.items.c.revision,
        ),
        isouter=True,
    )
)
_CHANGES: Final = (
    _ITEMS,
    _after(tables.availability),
    _after(tables.events, "seq"),
    _after(tables.users),
    _after(tables.forgotten),
)
"""Statement for each table of a `Cursor`, in its order."""
_BUNDLE: Final = sa.select(tables.bundles.c.name, tables.bundles.c.revision).where(
    tables.bundles.c.configured == sa.bindparam("configured")
)
_EPOCH: Final = sa.select(tables.about.c.epoch)
_SAME_EPOCH: Final = sa.select(
    tables.about.c.epoch,
    sa.exists(sa.select(tables.forgotten.c.digest)).label("forgets"),
)
"""Which database it is, and whether it has tombstones."""
_NEWEST: Final = sa.select(
    tables.about.c.epoch,
    tables.about.c.newest_deleted_event,
    tables.about.c.newest_deleted_user,
    *(
        sa.select(sa.func.coalesce(sa.func.max(number), 0))
        .scalar_subquery()
        .label(number.table.name)
        for number in (
            tables.items.c.revision,
            tables.availability.c.revision,
            tables.events.c.seq,
            tables.bundles.c.revision,
            tables.users.c.revision,
            tables.forgotten.c.revision,
        )
    ),
)
"""Which database it is, and the newest number of each table."""
_FOLLOWED_EVERY_S: Final = 0.05
"""Poll interval for confirmations of a forgetting."""
_NOT_WRITTEN: Final = "nothing was written"
_UNKNOWN: Final = (
    "whether it was written is not known: send it again, what is sent twice counts once"
)


class StateStore:
    """Items added, availability, events and the bundle in service, in one database.

    Safe to use from several threads.

    Parameters
    ----------
    url
        ``sqlite:///file`` or ``postgresql://…``. Missing tables are created.
    wait_s
        Time limit of a call; connecting to PostgreSQL may take 3 s more.

    Raises
    ------
    InputError
        If the URL names no known database.
    ArtefactError
        If the tables are of another release.
    StateUnavailableError
        If the database cannot be reached, here and in every method; if it fails during a commit,
        the message says that the outcome is unknown.
    StateReplacedError
        In every other method, if it is no longer the database that was opened: see `reopen`.

    Attributes
    ----------
    file_watch, server_watch
        Cheap change detection, for a SQLite file and for PostgreSQL respectively.
    forget_key
        Key for hashing the ids of forgotten users.
    """

    file_watch: FileWatch | None = None
    server_watch: ServerWatch | None = None

    def __init__(self, url: str, wait_s: float = WAIT_S) -> None:
        self.engine = open_engine(url, wait_s)
        self._url = url
        self._wait_s = wait_s
        self._file: DatabaseFile | None = None
        self._epoch: str | None = None
        self.forget_key = b""
        try:
            self._open()
        except TwoTowerError:
            self.close()
            raise

    def reopen(self) -> None:
        """Accept the current database as the right one; the caller must reread all of it."""
        file = self._file
        if file is not None:
            with suppress(StateReplacedError):
                file.check("nothing was read")
            self.engine.dispose()
            file.put_logs_aside()
            self._file = None
        self._open()

    @property
    def is_local(self) -> bool:
        """Whether a read takes less than a millisecond: a file, no server."""
        return self.engine.dialect.name == "sqlite"

    def create_item(self, item: StoredItem) -> int | None:
        """Add an item; returns its revision, or None if an identical one exists (a retry).

        `StateConflictError` if another item has the id.
        """
        item_id = item.fields.item_id
        with self._writing() as connection:
            row = connection.execute(_ITEM, {"item_id": item_id}).first()
            if row is not None and not row.deleted:
                if _fields(row) == item.fields:
                    return None
                raise StateConflictError(
                    f"item {item_id!r} exists", "choose another id, or PUT to replace it"
                )
            return self._put(connection, item)

    def put_item(self, item: StoredItem) -> int:
        """Add or replace an item, or record its deletion (``deleted``); returns its revision."""
        with self._writing() as connection:
            return self._put(connection, item)

    def set_stock(self, available: Mapping[str, bool]) -> int:
        """Record the availability of items, atomically; returns the last row's revision."""
        with self._writing() as connection:
            first = self._next(connection, tables.availability.c.revision)
            rows = [
                {"item_id": item_id, "available": is_available, "revision": first + place}
                for place, (item_id, is_available) in enumerate(available.items())
            ]
            connection.execute(_upsert(connection.dialect.name, tables.availability), rows)
        return first + len(rows) - 1

    def put_user(self, user_id: str, attributes: Mapping[str, Any]) -> int:
        """Set a user's declared columns, replacing earlier ones; returns the row's revision."""
        with self._writing() as connection:
            deleted = tables.about.c.newest_deleted_user
            revision = self._next(connection, tables.users.c.revision, deleted)
            row = {"user_id": user_id, "attributes": dict(attributes), "revision": revision}
            connection.execute(_upsert(connection.dialect.name, tables.users), row)
        return revision

    def add_events(self, events: Sequence[Event], outcomes: Outcomes | None = None) -> list[bool]:
        """Record events and their outcomes for the running comparison, atomically.

        False for each event that was recorded before, or whose user was forgotten since.
        `StateConflictError` if an event id was used for another event.
        """
        recorded = []
        with self._writing() as connection:
            row = connection.execute(_SAME_EPOCH).one()
            self._check_epoch(row.epoch)
            known = self._forgotten_of(connection, events) if row.forgets else None
            for event in events:
                if known is not None and event.occurred_at <= (known.since(event.user_id) or -1):
                    recorded.append(False)
                    continue
                statement = _insert_once(connection.dialect.name)
                new = connection.execute(statement, _event_row(event)).first() is not None
                same = {"event_id": event.event_id}
                if not new and event_of(connection.execute(_EVENT, same).one()) != event:
                    raise StateConflictError(
                        f"event id {event.event_id!r} was used for another event",
                        "give every event an id of its own",
                    )
                recorded.append(new)
            if outcomes is not None:
                pairs = zip(outcomes.credits, recorded, strict=True)
                credits = Counter(credit for credit, new in pairs if credit is not None and new)
                live.add_units(connection, outcomes.revision, outcomes.units, success=True)
                live.add_credits(connection, outcomes.revision, credits)
        return recorded

    def changes(self, since: Cursor, events: int = 10_000, items: int = _ALL) -> Changes:
        """Writes after ``since``, up to the given numbers of ``events`` and ``items``.

        `StateReplacedError` if ``since`` is ahead of the database: a back-up was restored.
        """
        most = Cursor(items, _ALL, events, events, _ALL)
        with self._reading() as connection:
            newest = connection.execute(_NEWEST).one()
            self._check_epoch(newest.epoch)
            there = Cursor(
                newest.items,
                newest.availability,
                max(newest.events, newest.newest_deleted_event or 0),
                max(newest.users, newest.newest_deleted_user or 0),
                newest.forgotten_users,
            )
            if since.is_ahead_of(there):
                raise StateReplacedError(
                    "the state database holds less than was read from it: a back-up was restored"
                )
            rows: list[Sequence[Any]] = [
                connection.execute(statement, {"since": read, "most": limit}).all()
                if last > read
                else ()
                for statement, last, read, limit in zip(_CHANGES, there, since, most, strict=True)
            ]
        ends = [
            found[-1].number if found else read for found, read in zip(rows, since, strict=True)
        ]
        written, available, log, users, gone = rows
        return Changes(
            [_item(row) for row in written],
            [(row.item_id, row.available) for row in available],
            [event_of(row) for row in log],
            Cursor(*ends),
            [(row.user_id, row.attributes) for row in users],
            [Tombstone(row.digest, row.forgotten_at) for row in gone],
        )

    def forget(self, user_ids: Sequence[str]) -> Forgetting:
        """Delete all rows of users, and write tombstones, which do not contain their ids.

        The rows are also erased from SQLite's file, and from its write-ahead log unless another
        connection is reading; in that case `scrub` removes them later.
        """
        outcome = self.write(personal.forget, Forgotten(self.forget_key), user_ids)
        self.scrub()
        return outcome

    def forget_again(self, tombstones: Sequence[Tombstone]) -> int:
        """Apply tombstones that a back-up of this database lacks; returns the deleted row count."""
        with self._writing() as connection:
            gone = personal.forget_again(connection, Forgotten(self.forget_key), tombstones)
        self.scrub()
        return gone

    def forgotten(self) -> Forgotten:
        """All tombstones."""
        found = Forgotten(self.forget_key)
        found.add(self.read(personal.tombstones))
        return found

    def confirm(self, follower: str, revision: int) -> None:
        """Heartbeat of a process that has applied all tombstones up to a revision."""
        row = {"name": follower, "forgotten": revision, "seen_at": personal.now_ms()}
        with self._writing() as connection:
            self._check_epoch(connection.scalar(_EPOCH))
            connection.execute(_upsert(connection.dialect.name, tables.followers), row)

    def leave(self, follower: str) -> None:
        """Record that a process has ended."""
        named = tables.followers.c.name == follower
        with self._writing() as connection:
            connection.execute(tables.followers.delete().where(named))

    def wait_for_followers(self, revision: int, seconds: float) -> int:
        """Wait until every serving process has applied the tombstones up to a revision.

        Returns how many have not after ``seconds``.
        """
        end = time.monotonic() + seconds
        while True:
            behind = self.read(personal.unconfirmed, revision)
            if not behind or time.monotonic() > end:
                return behind
            time.sleep(_FOLLOWED_EVERY_S)

    def delete_events(self, before: int) -> int:
        """Delete all events older than a moment, in portions; returns how many."""
        return self._in_portions(personal.delete_events, before)

    def anonymise_events(self, before: int) -> int:
        """Replace user and event ids in events older than a moment; returns how many.

        Within one call, all events of a user get the same random user id.
        """
        names = personal.Pseudonyms()
        return self._in_portions(partial(personal.anonymise_events, names), before)

    def scrub(self) -> bool:
        """Remove deleted data from SQLite's write-ahead log; True if that was possible."""
        if self._file is None:
            return not self.is_local
        with translated():
            connection = self.engine.raw_connection()
            try:
                row = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        return not row[0]

    def _in_portions(self, work: Callable[[sa.Connection, int], int], before: int) -> int:
        done = 0
        while count := self.write(work, before):
            done += count
        return done

    def _forgotten_of(self, connection: sa.Connection, events: Sequence[Event]) -> Forgotten:
        """The tombstones of the users of some events."""
        found = Forgotten(self.forget_key)
        digests = {found.digest(event.user_id) for event in events}
        found.add(personal.tombstones(connection, digests))
        return found

    def bundle(self, configured: str) -> BundleInService | None:
        """The bundle served by services configured with a folder; None before a reload."""
        with self._reading() as connection:
            row = connection.execute(_BUNDLE, {"configured": configured}).first()
        return None if row is None else BundleInService(row.name, row.revision)

    def set_bundle(self, configured: str, name: str | None) -> BundleInService:
        """Make all services configured with a folder serve another one beside it."""
        with self._writing() as connection:
            revision = self._next(connection, tables.bundles.c.revision)
            row = {"configured": configured, "name": name, "revision": revision}
            connection.execute(_upsert(connection.dialect.name, tables.bundles), row)
        return BundleInService(name, revision)

    def read(
        self, work: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that reads, with a connection, in one transaction."""
        with self._reading() as connection:
            return work(connection, *args, **kwargs)

    def write(
        self, work: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that writes, with a connection, in one transaction."""
        with self._writing() as connection:
            self._check_epoch(connection.scalar(_EPOCH))
            return work(connection, *args, **kwargs)

    def start(self, newest_events: int) -> Cursor:
        """The cursor from which `changes` returns all items and about the newest events."""
        with self._reading() as connection:
            last = connection.scalar(sa.select(sa.func.max(tables.events.c.seq))) or 0
        return Cursor(events=max(0, last - newest_events))

    def try_writing(self) -> None:
        """Commit a write that changes nothing; `StateUnavailableError` if that fails."""
        with self._writing() as connection:
            same = tables.about.c.schema_version
            connection.execute(tables.about.update().values(schema_version=same))

    def close(self) -> None:
        """Close every connection; one that another thread still waits for, when that is done."""
        for watch in (self.file_watch, self.server_watch):
            if watch is not None:
                watch.close()
        sa.event.listen(self.engine, "checkin", _close)  # the pool forgets those that are out
        self.engine.dispose()

    def _open(self) -> None:
        with self._transaction(writing=True) as connection:
            tables.about.create(connection, checkfirst=True)
            found = connection.scalar(sa.select(tables.about.c.schema_version))
            if found is None:
                connection.execute(tables.about.insert(), {"schema_version": tables.SCHEMA_VERSION})
            if found in (None, tables.SCHEMA_VERSION):
                bring_forward(connection)
                self._epoch, key = personal.drawn(connection)
        if found not in (None, tables.SCHEMA_VERSION):
            raise ArtefactError(
                f"the state database has schema version {found}, this release reads "
                f"{tables.SCHEMA_VERSION}; run the release that wrote it, or use another database"
            )
        self.forget_key = bytes.fromhex(key)
        if self.is_local:
            with self._transaction() as connection:
                path = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
            self._file = DatabaseFile(Path(path)) if path else None  # or it is in memory
            self.file_watch = None if self._file is None else FileWatch(self._file)
        elif self.server_watch is None:
            from twotower.service.state.postgresql import async_connector

            newest = _NEWEST.compile(
                dialect=self.engine.dialect, compile_kwargs={"literal_binds": True}
            )
            connect = async_connector(sa.make_url(self._url), self._wait_s)
            self.server_watch = ServerWatch(connect, str(newest))

    def _check_epoch(self, found: str | None) -> None:
        if found != self._epoch:
            raise StateReplacedError(f"the state database was replaced; {_NOT_WRITTEN}")

    def _next(
        self,
        connection: sa.Connection,
        revision: sa.Column[Any],
        deleted: sa.Column[Any] | None = None,
    ) -> int:
        """The number of the next row; checks that the database is the one that was opened.

        ``deleted`` holds the highest number of a deleted row.
        """
        row = connection.execute(_next_of(revision, deleted)).one()
        self._check_epoch(row.epoch)
        return int(max(row.newest, row.deleted or 0)) + 1

    def _put(self, connection: sa.Connection, item: StoredItem) -> int:
        revision = self._next(connection, tables.items.c.revision)
        row = {
            **item.fields.model_dump(),
            "deleted": item.deleted,
            "text_encoder": item.text_encoder,
            "text_vector": item.text_vector,
            "revision": revision,
        }
        dialect = connection.dialect.name
        connection.execute(_upsert(dialect, tables.items), row)
        if item.encoding is not None:
            encoding = {name: row[name] for name in ("item_id", "revision")} | {
                "model_version": item.model_version,
                "encoding": item.encoding,
            }
            connection.execute(_upsert(dialect, tables.encodings), encoding)
        return revision

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        if self._file is not None:
            self._file.check(_NOT_WRITTEN)
        with self._transaction(writing=True) as connection:
            yield connection
        if self._file is not None:  # what went into a deleted file is lost
            self._file.check(_UNKNOWN)
            self._file.note_logs()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        if self._file is not None:
            self._file.check(_NOT_WRITTEN)
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self, writing: bool = False) -> Iterator[sa.Connection]:
        with within(self._wait_s), translated(), self.engine.connect() as plain:
            connection = plain.execution_options(**{WRITING: writing})
            with connection.begin() as transaction:
                yield connection
                with translated(_UNKNOWN) if writing else nullcontext():
                    try:
                        transaction.commit()
                    except BaseException:
                        self._give_up(plain)
                        raise

    def _give_up(self, connection: sa.Connection) -> None:
        """Leave no open transaction behind a commit that failed: the pool counts it as ended."""
        if self.is_local:
            connection.connection.rollback()
        elif not connection.invalidated:
            connection.invalidate()


def _close(connection: Any, _: object) -> None:
    if connection is not None:
        connection.close()


@cache
def _next_of(revision: sa.Column[Any], deleted: sa.Column[Any] | None) -> sa.Select[Any]:
    newest = sa.func.coalesce(sa.func.max(revision), 0)
    gone = sa.null() if deleted is None else sa.select(deleted).scalar_subquery()
    epoch = _EPOCH.scalar_subquery()
    return sa.select(newest.label("newest"), gone.label("deleted"), epoch.label("epoch"))


def _insert(dialect: str, table: sa.Table) -> Any:
    """Both databases spell ``ON CONFLICT`` alike; SQLAlchemy has a function for each."""
    dialects = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    return dialects[dialect](table)


@cache
def _upsert(dialect: str, table: sa.Table) -> Any:
    statement = _insert(dialect, table)
    keys = [c.name for c in table.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


@cache
def _insert_once(dialect: str) -> Any:
    statement = _insert(dialect, tables.events)
    once = statement.on_conflict_do_nothing(index_elements=["event_id"])
    return once.returning(tables.events.c.seq)


def _fields(row: Any) -> ItemFields:
    """Item fields from a row that begins with an item's columns."""
    return ItemFields.model_construct(**dict(zip(_FIELDS, _values(row), strict=True)))


def _item(row: Any) -> StoredItem:
    return StoredItem(
        _fields(row), row.deleted, row.text_encoder, row.text_vector, row.model_version,
        row.encoding,
    )  # fmt: skip


def _event_row(event: Event) -> dict[str, Any]:
    values = event.model_dump()
    values["timestamp"] = values.pop("occurred_at")
    return values
