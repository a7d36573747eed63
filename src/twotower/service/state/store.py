"""The state store: every write is on disk before its method returns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from twotower.errors import ArtefactError, TwoTowerError
from twotower.service.state import tables
from twotower.service.state.engine import WRITING, open_engine
from twotower.service.state.errors import StateConflictError, translated
from twotower.service.state.records import Changes, Cursor, Event, ItemFields, StoredItem

_ALL: Final = 2**31 - 1
_FIELDS: Final = tuple(ItemFields.model_fields)
# By place: a service reads every item that was added whenever it loads a bundle.
_values: Final = itemgetter(*map(tables.items.c.keys().index, _FIELDS))


def _after(table: sa.Table, column: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c[column] > sa.bindparam("since")).order_by(table.c[column])


# Made once: to put a statement together takes longer than SQLite does to run it.
_ITEM: Final = sa.select(tables.items).where(tables.items.c.item_id == sa.bindparam("item_id"))
_ITEMS: Final = (
    _after(tables.items, "revision")
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
    .limit(sa.bindparam("most"))
)
_AVAILABILITY: Final = _after(tables.availability, "revision")
_EVENTS: Final = _after(tables.events, "seq").limit(sa.bindparam("most"))


class StateStore:
    """Items added, availability and events in one database. Safe to use from several threads.

    Parameters
    ----------
    url
        ``sqlite:///file`` or ``postgresql://…``. Tables are created where there are none.

    Raises
    ------
    InputError
        Where the URL names no known database.
    ArtefactError
        Where the tables are of another release.
    StateUnavailableError
        Where the database cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        try:
            self._create_tables()
        except TwoTowerError:
            self.close()
            raise

    @property
    def is_local(self) -> bool:
        """Whether a read takes less than a millisecond: a file, no server."""
        return self.engine.dialect.name == "sqlite"

    def create_item(self, item: StoredItem) -> int | None:
        """Add an item; its revision, or None where the very same one is there, as after a retry.

        Raises
        ------
        StateConflictError
            Where another item has the id.
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
        """Add or replace an item; with ``deleted`` set, record that it is gone. Its revision."""
        with self._writing() as connection:
            return self._put(connection, item)

    def set_availability(self, item_id: str, available: bool) -> None:
        """Record whether an item can be had."""
        with self._writing() as connection:
            row = {
                "item_id": item_id,
                "available": available,
                "revision": _next(connection, tables.availability.c.revision),
            }
            connection.execute(_upsert(connection.dialect.name, tables.availability), row)

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Record events, all or none. False for each that was recorded before.

        Raises
        ------
        StateConflictError
            Where an event id was used for something else.
        """
        recorded = []
        with self._writing() as connection:
            for one in events:
                statement = _insert_once(connection.dialect.name)
                new = connection.execute(statement, _event_row(one)).first() is not None
                if not new and self._event(connection, one.event_id) != one:
                    raise StateConflictError(
                        f"event id {one.event_id!r} was used for another event",
                        "give every event an id of its own",
                    )
                recorded.append(new)
        return recorded

    def changes(self, since: Cursor, events: int = 10_000, items: int = _ALL) -> Changes:
        """What was written after ``since``, at most so many ``events`` and ``items``."""
        with self._reading() as connection:
            rows = connection.execute(_ITEMS, {"since": since.items, "most": items}).all()
            available = connection.execute(_AVAILABILITY, {"since": since.availability}).all()
            log = connection.execute(_EVENTS, {"since": since.events, "most": events}).all()
        return Changes(
            [_item(row) for row in rows],
            [(row.item_id, row.available) for row in available],
            [_event(row) for row in log],
            Cursor(
                rows[-1].revision if rows else since.items,
                available[-1].revision if available else since.availability,
                log[-1].seq if log else since.events,
            ),
        )

    def start(self, newest_events: int) -> Cursor:
        """The cursor from which `changes` gives all items and about the newest events."""
        with self._reading() as connection:
            last = connection.scalar(sa.select(sa.func.max(tables.events.c.seq))) or 0
        return Cursor(events=max(0, last - newest_events))

    def ping(self) -> None:
        """`StateUnavailableError` where the database does not answer."""
        with self._reading() as connection:
            connection.execute(sa.select(1))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _create_tables(self) -> None:
        with self._writing() as connection:
            tables.metadata.create_all(connection)
            found = connection.scalar(sa.select(tables.about.c.schema_version))
            if found is None:
                connection.execute(tables.about.insert(), {"schema_version": tables.SCHEMA_VERSION})
            if found in (None, tables.SCHEMA_VERSION):
                tables.add_columns(connection)
        if found not in (None, tables.SCHEMA_VERSION):
            raise ArtefactError(
                f"the state database has schema version {found}, this release reads "
                f"{tables.SCHEMA_VERSION}; run the release that wrote it, or use another database"
            )

    def _put(self, connection: sa.Connection, item: StoredItem) -> int:
        revision = _next(connection, tables.items.c.revision)
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

    @staticmethod
    def _event(connection: sa.Connection, event_id: str) -> Event:
        statement = sa.select(tables.events).where(tables.events.c.event_id == event_id)
        return _event(connection.execute(statement).one())

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with translated(), self.engine.connect() as plain:
            connection = plain.execution_options(**{WRITING: True})
            with connection.begin():
                yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with translated(), self.engine.connect() as connection, connection.begin():
            yield connection


def _next(connection: sa.Connection, revision: sa.Column[Any]) -> int:
    return int(connection.scalar(_next_of(revision)) or 1)


@cache
def _next_of(revision: sa.Column[Any]) -> sa.Select[Any]:
    return sa.select(sa.func.coalesce(sa.func.max(revision), 0) + 1)


def _insert(dialect: str, table: sa.Table) -> Any:
    """Both databases spell ``ON CONFLICT`` alike; SQLAlchemy has a function for each."""
    dialects = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    return dialects[dialect](table)


@cache
def _upsert(dialect: str, table: sa.Table) -> Any:
    statement = _insert(dialect, table)
    changed = {one.name: statement.excluded[one.name] for one in table.c if one.name != "item_id"}
    return statement.on_conflict_do_update(index_elements=["item_id"], set_=changed)


@cache
def _insert_once(dialect: str) -> Any:
    statement = _insert(dialect, tables.events)
    once = statement.on_conflict_do_nothing(index_elements=["event_id"])
    return once.returning(tables.events.c.seq)


def _fields(row: Any) -> ItemFields:
    """Of a row that begins with the columns of an item."""
    return ItemFields.model_construct(**dict(zip(_FIELDS, _values(row), strict=True)))


def _item(row: Any) -> StoredItem:
    return StoredItem(
        _fields(row),
        row.deleted,
        row.text_encoder,
        row.text_vector,
        row.model_version,
        row.encoding,
    )


def _event(row: Any) -> Event:
    return Event.model_construct(
        event_id=row.event_id,
        user_id=row.user_id,
        item_id=row.item_id,
        kind=row.kind,
        rating=row.rating,
        occurred_at=row.timestamp,
    )


def _event_row(event: Event) -> dict[str, Any]:
    values = event.model_dump()
    values["timestamp"] = values.pop("occurred_at")
    return values
