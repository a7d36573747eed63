"""What was shown, and the comparison of two bundles on traffic. Functions of a connection."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import sqlalchemy as sa

from twotower.service.state import tables


class ShownKey(NamedTuple):
    """What answers are counted by."""

    hour: int
    """Hours since 1970-01-01 UTC."""
    model_version: str
    arm: str
    known_user: bool


class Shown(NamedTuple):
    """Counts of answers, of their items, and of those that training did not have."""

    answers: int = 0
    places: int = 0
    new_places: int = 0

    def plus(self, other: "Shown") -> "Shown":
        """Both together."""
        return Shown(
            self.answers + other.answers,
            self.places + other.places,
            self.new_places + other.new_places,
        )


@dataclass(frozen=True, slots=True)
class Split:
    """A part of the traffic is answered from another bundle, or from both together.

    Attributes
    ----------
    name
        Folder of that bundle, beside the configured one; None where no split runs.
    share
        Of the users and days that it answers.
    revision
        Counts the splits over one database.
    interleaved
        Whether it answers these together with the bundle in service.
    """

    name: str | None
    share: float
    revision: int
    interleaved: bool = False


class Credit(NamedTuple):
    """The unit, and the bundle among two that are interleaved, that an event speaks for."""

    unit: str
    team: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What events say of the split that runs.

    Attributes
    ----------
    revision
        Of the split.
    units
        Those that the events are successes of, with their arms.
    credits
        Of each event, or None; an event that was recorded before gives none.
    """

    revision: int
    units: Mapping[str, str]
    credits: Sequence[Credit | None]


def split(connection: sa.Connection, configured: str) -> Split | None:
    """The split of services with a configured folder; None before the first one."""
    table = tables.splits
    wanted = sa.select(table.c.name, table.c.share, table.c.revision, table.c.interleaved)
    row = connection.execute(wanted.where(table.c.configured == configured)).first()
    return None if row is None else Split(*row[:3], bool(row.interleaved))


def set_split(
    connection: sa.Connection, configured: str, name: str | None, share: float, interleaved: bool
) -> Split:
    """Begin a split, or with ``name`` None end it. What was counted of earlier ones goes."""
    table = tables.splits
    revision = (connection.scalar(sa.select(sa.func.max(table.c.revision))) or 0) + 1
    connection.execute(table.delete().where(table.c.configured == configured))
    made = Split(name, share, revision, interleaved)
    connection.execute(table.insert(), {"configured": configured, **asdict(made)})
    kept = sa.select(table.c.revision)
    for counted in (tables.units, tables.credits):
        connection.execute(counted.delete().where(counted.c.split.not_in(kept)))
    return made


def add_shown(connection: sa.Connection, counts: Mapping[ShownKey, Shown]) -> None:
    """Add to the counts of answers."""
    table = tables.shown
    for key, more in counts.items():
        same = sa.and_(*(table.c[name] == value for name, value in key._asdict().items()))
        values = {name: getattr(more, name) for name in ("answers", "places", "new_places")}
        sums = {name: table.c[name] + value for name, value in values.items()}
        if not connection.execute(table.update().where(same).values(sums)).rowcount:
            connection.execute(table.insert(), {**key._asdict(), **values})


def shown(connection: sa.Connection, since_hour: int) -> dict[ShownKey, Shown]:
    """The counts of answers from an hour on."""
    table = tables.shown
    rows = connection.execute(sa.select(table).where(table.c.hour >= since_hour))
    return {
        ShownKey(row.hour, row.model_version, row.arm, row.known_user): Shown(
            row.answers, row.places, row.new_places
        )
        for row in rows
    }


def add_units(
    connection: sa.Connection, revision: int, arms: Mapping[str, str], *, success: bool
) -> None:
    """Note units of a split; with ``success`` those that an event followed."""
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
    """Units, and those with a success, of each arm of a split."""
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
