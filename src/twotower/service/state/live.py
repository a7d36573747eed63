"""What was shown, and the split of traffic between two bundles. Functions of a connection."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """A part of the traffic is answered from another bundle.

    Attributes
    ----------
    name
        Folder of that bundle, beside the configured one; None where no split runs.
    share
        Of the users and days that it answers.
    revision
        Counts the splits over one database.
    """

    name: str | None
    share: float
    revision: int


def split(connection: sa.Connection, configured: str) -> Split | None:
    """The split of services with a configured folder; None before the first one."""
    table = tables.splits
    wanted = sa.select(table.c.name, table.c.share, table.c.revision)
    row = connection.execute(wanted.where(table.c.configured == configured)).first()
    return None if row is None else Split(*row)


def set_split(connection: sa.Connection, configured: str, name: str | None, share: float) -> Split:
    """Begin a split, or with ``name`` None end it. What was counted of earlier ones goes."""
    table = tables.splits
    revision = (connection.scalar(sa.select(sa.func.max(table.c.revision))) or 0) + 1
    connection.execute(table.delete().where(table.c.configured == configured))
    row = {"configured": configured, "name": name, "share": share, "revision": revision}
    connection.execute(table.insert(), row)
    kept = sa.select(table.c.revision)
    connection.execute(tables.units.delete().where(tables.units.c.split.not_in(kept)))
    return Split(name, share, revision)


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
