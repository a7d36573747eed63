"""Stored counts of shown recommendations and of online comparisons of two bundles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import add
from typing import Final, Literal, NamedTuple, TypeAlias

import sqlalchemy as sa

from twotower.service.state import tables
from twotower.service.state.records import Event, event_of

HOUR_MS: Final = 3_600_000
Mode: TypeAlias = Literal["split", "interleave", "shadow"]
"""How two bundles are compared: each answers some users, their items are interleaved, or one is a
shadow."""


class ShownKey(NamedTuple):
    """Key under which answers are counted."""

    hour: int
    """Hours since 1970-01-01 UTC."""
    model_version: str
    arm: str
    known_user: bool


class Shown(NamedTuple):
    """Counts of answers, of their items, and of items unknown to training."""

    answers: int = 0
    places: int = 0
    new_places: int = 0

    def plus(self, other: "Shown") -> "Shown":
        """The sum of both."""
        return Shown(*map(add, self, other))


@dataclass(frozen=True, slots=True)
class Split:
    """Comparison of another bundle with the one in service, on a share of the traffic."""

    name: str | None
    """Folder of the other bundle, beside the configured one; None without a comparison."""
    share: float
    """Share of users (per day) that it answers."""
    revision: int
    """Number of the comparison in this database."""
    mode: Mode = "split"
    """Whether it answers instead of the bundle in service, interleaved with it, or as a shadow."""


class Begun(NamedTuple):
    """A new comparison, and the mode of the one that it ended, if any."""

    split: Split
    ended: Mode | None


class Credit(NamedTuple):
    """The unit and the interleaved bundle that an event is credited to."""

    unit: str
    team: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of events for the running comparison."""

    revision: int
    """Revision of the comparison."""
    units: Mapping[str, str]
    """Units for which the events are successes, with their arms."""
    credits: Sequence[Credit | None]
    """Credit of each event, or None; ignored for events that were recorded before."""


def split(connection: sa.Connection, configured: str) -> Split | None:
    """The comparison of services configured with a folder; None before the first one."""
    table = tables.splits
    row = connection.execute(sa.select(table).where(table.c.configured == configured)).first()
    if row is None:
        return None
    if row.shadow is not None:
        return Split(row.shadow, row.share, row.revision, "shadow")
    mode: Mode = "interleave" if row.interleaved else "split"
    return Split(row.name, row.share, row.revision, mode)


def set_split(
    connection: sa.Connection,
    configured: str,
    name: str | None,
    share: float,
    mode: Mode = "split",
) -> Begun:
    """Begin a comparison, or end it if ``name`` is None; deletes the counts of earlier ones."""
    table = tables.splits
    before = split(connection, configured)
    revision = (connection.scalar(sa.select(sa.func.max(table.c.revision))) or 0) + 1
    connection.execute(table.delete().where(table.c.configured == configured))
    unseen = mode == "shadow"
    row = {
        "configured": configured,
        "name": None if unseen else name,
        "share": share,
        "revision": revision,
        "interleaved": mode == "interleave",
        "shadow": name if unseen else None,
    }
    connection.execute(table.insert(), row)
    kept = sa.select(table.c.revision)
    for counted in (tables.units, tables.credits, tables.shadows, tables.shadow_lists):
        connection.execute(counted.delete().where(counted.c.split.not_in(kept)))
    ended = None if before is None or before.name is None else before.mode
    return Begun(Split(name, share, revision, mode), ended)


def add_shown(
    connection: sa.Connection,
    counts: Mapping[ShownKey, Shown],
    revision: int,
    arms: Mapping[str, str],
) -> None:
    """Add to the counts of answers, and record the units of a split that were answered."""
    table = tables.shown
    for key, more in counts.items():
        same = sa.and_(*(table.c[name] == value for name, value in key._asdict().items()))
        sums = {name: table.c[name] + value for name, value in more._asdict().items()}
        if not connection.execute(table.update().where(same).values(sums)).rowcount:
            connection.execute(table.insert(), {**key._asdict(), **more._asdict()})
    add_units(connection, revision, arms, success=False)


def shown(connection: sa.Connection, since: int) -> tuple[dict[ShownKey, Shown], list[Event]]:
    """Counts of answers, and the events attributed to one, since a moment in milliseconds."""
    table, events = tables.shown, tables.events
    rows = connection.execute(sa.select(table).where(table.c.hour >= since // HOUR_MS))
    counts = {
        ShownKey(row.hour, row.model_version, row.arm, row.known_user): Shown(
            row.answers, row.places, row.new_places
        )
        for row in rows
    }
    named = events.c.recommendation_id.is_not(None) & (events.c.timestamp >= since)
    return counts, [event_of(row) for row in connection.execute(sa.select(events).where(named))]


def activity(connection: sa.Connection, since: int) -> list[tuple[int, str, int]]:
    """Hour (milliseconds since 1970), kind, and number of the events since a time."""
    events = tables.events.c
    hour, kind = events.timestamp // HOUR_MS, events.kind
    rows = connection.execute(
        sa.select(hour, kind, sa.func.count())
        .where(events.timestamp >= since)
        .group_by(hour, kind)
        .order_by(hour, kind)
    )
    return [(int(at) * HOUR_MS, str(name), int(count)) for at, name, count in rows]


def add_units(
    connection: sa.Connection, revision: int, arms: Mapping[str, str], *, success: bool
) -> None:
    """Record units of a split; with ``success``, mark them as successes."""
    table = tables.units
    for unit, arm in arms.items():
        same = (table.c.split == revision) & (table.c.unit == unit)
        there = connection.execute(sa.select(table.c.success).where(same)).first()
        if there is None:
            row = {"split": revision, "unit": unit, "arm": arm, "success": success}
            connection.execute(table.insert(), row)
        elif success and not there.success:
            connection.execute(table.update().where(same).values(success=True))


def arms(connection: sa.Connection, revision: int) -> dict[str, tuple[int, int]]:
    """Numbers of units and of successful units for each arm of a split."""
    table = tables.units
    won = sa.func.sum(sa.case((table.c.success, 1), else_=0))
    rows = connection.execute(
        sa.select(table.c.arm, sa.func.count(), won)
        .where(table.c.split == revision)
        .group_by(table.c.arm)
    )
    return {arm: (int(units), int(successes)) for arm, units, successes in rows}


def add_credits(connection: sa.Connection, revision: int, credits: Mapping[Credit, int]) -> None:
    """Count events for the bundles that their items came from."""
    table = tables.credits
    for (unit, team), count in credits.items():
        same = (table.c.split == revision) & (table.c.unit == unit)
        more = table.update().where(same).values({team: table.c[team] + count})
        if not connection.execute(more).rowcount:
            row = {"split": revision, "unit": unit, "a": 0, "b": 0, team: count}
            connection.execute(table.insert(), row)


def wins(connection: sa.Connection, revision: int) -> tuple[int, int, int]:
    """Units with more events for the items of ``a``, with more for those of ``b``, and ties."""
    table = tables.credits
    a, b = table.c.a, table.c.b
    counts = (sa.func.sum(sa.case((won, 1), else_=0)) for won in (a > b, b > a, a == b))
    row = connection.execute(sa.select(*counts).where(table.c.split == revision)).one()
    return tuple(int(count or 0) for count in row)  # type: ignore[return-value]
