"""Stored counts of shadow traffic: a bundle whose answers are not shown."""

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

import sqlalchemy as sa

from twotower.service.state import tables
from twotower.service.state.distinct import DistinctItems

_SHORTEST_S: Final = 1e-5
_GROWTH: Final = 1.05


def time_bucket(seconds: float) -> int:
    """The bucket of a duration: bucket 0 ends at 10 µs, each other 5% above the one before."""
    return max(0, math.ceil(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S, _GROWTH)))


def bucket_end(bucket: int) -> float:
    """The longest duration of a bucket, in seconds."""
    return float(_SHORTEST_S * _GROWTH**bucket)


class _Sums:
    """Base of counts that add up field by field."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        names = [each.name for each in fields(self)]  # type: ignore[arg-type]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class ListCounts(_Sums):
    """Counts of the lists of one bundle."""

    places: int = 0
    """Items of all lists together."""
    untrained: int = 0
    """Items among them without an event in the training log of the bundle."""
    seconds: float = 0.0
    """Total time to compute the lists."""
    times: Counter[int] = field(default_factory=Counter)
    """Number of lists by `time_bucket`."""
    items: DistinctItems = field(default_factory=DistinctItems)
    """Different items of the lists."""

    def percentile_s(self, share: float) -> float | None:
        """Time quantile of the lists in seconds, up to 5% too high; None without lists."""
        wanted, so_far = share * self.times.total(), 0
        for bucket in sorted(self.times):
            so_far += self.times[bucket]
            if so_far >= wanted:
                return bucket_end(bucket)
        return None


@dataclass(frozen=True, slots=True)
class ShadowCounts(_Sums):
    """Counts of the requests sent to a shadow.

    Attributes
    ----------
    shadowed, failed, dropped
        Requests that it answered, failed at, and skipped for lack of time.
    overlap
        Sum over the answers of the share of items that both lists contain.
    same_first
        Answers in which both bundles put the same item first.
    a, b
        The lists of the bundle in service, and of the shadow.
    """

    shadowed: int = 0
    dropped: int = 0
    failed: int = 0
    overlap: float = 0.0
    same_first: int = 0
    a: ListCounts = field(default_factory=ListCounts)
    b: ListCounts = field(default_factory=ListCounts)

    @property
    def requests(self) -> int:
        """All requests of its share."""
        return self.shadowed + self.dropped + self.failed


_NUMBERS: Final = ("shadowed", "dropped", "failed", "overlap", "same_first")


def counts(connection: sa.Connection, revision: int) -> ShadowCounts:
    """What was counted of a shadow."""
    shadows, lists = tables.shadows, tables.shadow_lists
    row = connection.execute(sa.select(shadows).where(shadows.c.split == revision)).first()
    if row is None:
        return ShadowCounts()
    of_arms = {
        found.arm: ListCounts(
            found.places,
            found.untrained,
            found.seconds,
            Counter({int(bucket): count for bucket, count in found.times.items()}),
            DistinctItems.of_bytes(found.items),
        )
        for found in connection.execute(sa.select(lists).where(lists.c.split == revision))
    }
    numbers = {name: getattr(row, name) for name in _NUMBERS}
    return ShadowCounts(**numbers, a=of_arms["a"], b=of_arms["b"])


def add_counts(connection: sa.Connection, revision: int, more: ShadowCounts) -> None:
    """Add to the counts of a shadow, unless another comparison has replaced it.

    Writers are serialised, so nothing is lost between reading and writing the sums.
    """
    runs = sa.select(tables.splits.c.revision).where(tables.splits.c.revision == revision)
    if connection.execute(runs).first() is None:
        return
    total = counts(connection, revision) + more
    for table in (tables.shadows, tables.shadow_lists):
        connection.execute(table.delete().where(table.c.split == revision))
    numbers = {name: getattr(total, name) for name in _NUMBERS}
    connection.execute(tables.shadows.insert(), {"split": revision, **numbers})
    connection.execute(
        tables.shadow_lists.insert(),
        [_row(revision, arm, counts) for arm, counts in (("a", total.a), ("b", total.b))],
    )


def _row(revision: int, arm: str, of: ListCounts) -> dict[str, Any]:
    return {
        "split": revision,
        "arm": arm,
        "places": of.places,
        "untrained": of.untrained,
        "seconds": of.seconds,
        "times": {str(bucket): count for bucket, count in of.times.items()},
        "items": of.items.to_bytes(),
    }
