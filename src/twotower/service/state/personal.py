"""Personal data in the database: forgetting, export, age limits.

The tables with personal data are those with a ``user_id`` column.
"""

import secrets
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from twotower.service.state import tables
from twotower.service.state.forgotten import Forgetting, Forgotten, Tombstone

HEARTBEAT_S: Final = 30.0
"""Interval of a serving process's heartbeat."""
_GONE_S: Final = 3 * HEARTBEAT_S
"""A process without a heartbeat for this long is taken to have ended."""
_PORTION: Final = 2_000
"""Rows changed per transaction, so that no writer waits for long."""
_PSEUDONYM: Final = "anonymous-"
Pseudonyms = defaultdict[str, str]


def now_ms() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def drawn(connection: sa.Connection) -> tuple[str, str]:
    """The database's epoch and key, drawn at random if missing."""
    row = connection.execute(sa.select(tables.about.c.epoch, tables.about.c.forget_key)).one()
    epoch, key = row.epoch or secrets.token_hex(16), row.forget_key or secrets.token_hex(32)
    if (epoch, key) != tuple(row):
        connection.execute(tables.about.update().values(epoch=epoch, forget_key=key))
    return epoch, key


def personal_tables() -> Iterator[sa.Table]:
    """The tables whose rows belong to a user."""
    return (table for table in tables.metadata.sorted_tables if "user_id" in table.c)


def rows_of(connection: sa.Connection, user_id: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of a user, by table, oldest first."""
    return {
        str(table.name): [
            {str(name): value for name, value in row._mapping.items()}
            for row in connection.execute(
                sa.select(table)
                .where(table.c.user_id == user_id)
                .order_by(*table.primary_key.columns)
            )
        ]
        for table in personal_tables()
    }


def tombstones(
    connection: sa.Connection, digests: Collection[str] | None = None
) -> list[Tombstone]:
    """Tombstones, by default all."""
    table = tables.forgotten
    wanted = sa.select(table.c.digest, table.c.forgotten_at)
    if digests is None:
        return [Tombstone(*row) for row in connection.execute(wanted)]
    found: list[Tombstone] = []
    asked = list(digests)
    for start in range(0, len(asked), 500):  # databases limit the parameters of a statement
        portion = table.c.digest.in_(asked[start : start + 500])
        found += [Tombstone(*row) for row in connection.execute(wanted.where(portion))]
    return found


def forget(connection: sa.Connection, known: Forgotten, user_ids: Sequence[str]) -> Forgetting:
    """Delete the rows of users and write their tombstones."""
    _note_newest(connection)
    gone, made, now = 0, [], now_ms()
    for user_id in dict.fromkeys(user_ids):
        events = tables.events.c
        newest = sa.select(sa.func.max(events.timestamp)).where(events.user_id == user_id)
        # Clocks differ: a recorded event may lie slightly in the future.
        at = max(now, connection.scalar(newest) or 0)
        for table in personal_tables():
            own = table.c.user_id == user_id
            gone += connection.execute(table.delete().where(own)).rowcount
        made.append(Tombstone(known.digest(user_id), at))
    return Forgetting(tuple(made), gone, _write(connection, made))


def forget_again(connection: sa.Connection, known: Forgotten, missing: Sequence[Tombstone]) -> int:
    """Write missing tombstones hashed with the same key, and delete the rows that they cover."""
    _note_newest(connection)
    there = tombstones(connection)
    before = {tombstone.digest: tombstone.forgotten_at for tombstone in there}
    known.add([*missing, *there])
    news = [
        tombstone
        for tombstone in known.tombstones()
        if before.get(tombstone.digest, -1) < tombstone.forgotten_at
    ]
    _write(connection, news)
    gone = 0
    for table in personal_tables():
        for (user_id,) in connection.execute(sa.select(table.c.user_id).distinct()).all():
            at = known.since(user_id)
            if at is None:
                continue
            covered = table.c.user_id == user_id
            if table is tables.events:
                covered &= table.c.timestamp <= at
            gone += connection.execute(table.delete().where(covered)).rowcount
    return gone


def claim_maintenance(connection: sa.Connection, every_s: float) -> bool:
    """Whether it is this caller's turn: no other took one in the last ``every_s`` seconds."""
    now, last = now_ms(), sa.func.coalesce(tables.about.c.maintained_at, 0)
    due = tables.about.update().values(maintained_at=now).where(last <= now - 1000 * every_s)
    return connection.execute(due).rowcount > 0


def unconfirmed(connection: sa.Connection, revision: int) -> int:
    """Number of live processes that have not confirmed all tombstones up to a revision."""
    table = tables.followers
    behind = (table.c.seen_at > now_ms() - 1000 * _GONE_S) & (table.c.forgotten < revision)
    return connection.scalar(sa.select(sa.func.count()).select_from(table).where(behind)) or 0


def delete_events(connection: sa.Connection, before: int) -> int:
    """Delete one portion of the events older than a moment; returns how many, 0 at the end."""
    _note_newest(connection)
    events = tables.events
    old = _older(events, before, anonymous=None).union_all(_older(events, before, anonymous=True))
    wanted = sa.select(old.subquery().c.seq).limit(_PORTION)
    return connection.execute(events.delete().where(events.c.seq.in_(wanted))).rowcount


def anonymise_events(names: Pseudonyms, connection: sa.Connection, before: int) -> int:
    """Anonymise one portion of the events older than a moment; returns how many, 0 at the end."""
    events = tables.events
    wanted = _older(events, before, anonymous=None).add_columns(events.c.user_id).limit(_PORTION)
    rows = connection.execute(wanted).all()
    for row in rows:
        name = names.setdefault(row.user_id, _PSEUDONYM + secrets.token_hex(16))
        new = {"user_id": name, "event_id": f"{name}-{row.seq}", "anonymous": True}
        connection.execute(events.update().where(events.c.seq == row.seq).values(new))
    return len(rows)


def delete_old_encodings(connection: sa.Connection) -> int:
    """Delete encodings of items that were rewritten or deleted since; returns how many."""
    items, encodings = tables.items, tables.encodings
    own = (
        (items.c.item_id == encodings.c.item_id)
        & (items.c.revision == encodings.c.revision)
        & ~items.c.deleted
    )
    return connection.execute(
        encodings.delete().where(~sa.exists(sa.select(items.c.item_id).where(own)))
    ).rowcount


def _older(events: sa.Table, before: int, *, anonymous: bool | None) -> sa.Select[Any]:
    mark = events.c.anonymous.is_(None) if anonymous is None else events.c.anonymous == anonymous
    return sa.select(events.c.seq).where(mark & (events.c.timestamp < before))


def _write(connection: sa.Connection, made: Sequence[Tombstone]) -> int:
    """Write tombstones; returns the revision of the newest one in the table."""
    table = tables.forgotten
    revision = connection.scalar(sa.select(sa.func.max(table.c.revision))) or 0
    for tombstone in made:
        revision += 1
        connection.execute(table.delete().where(table.c.digest == tombstone.digest))
        connection.execute(table.insert(), {**asdict(tombstone), "revision": revision})
    return revision


def _note_newest(connection: sa.Connection) -> None:
    """Record the newest numbers before deleting rows, so that no reader's cursor seems ahead."""
    for number, noted in (
        (tables.events.c.seq, tables.about.c.newest_deleted_event),
        (tables.users.c.revision, tables.about.c.newest_deleted_user),
    ):
        newest = sa.select(sa.func.max(number)).scalar_subquery()
        higher = sa.func.coalesce(newest, 0) > sa.func.coalesce(noted, 0)
        connection.execute(tables.about.update().where(higher).values({noted: newest}))
