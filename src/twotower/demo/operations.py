"""Figures of a running service for its operator, from its metrics."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import polars as pl
from prometheus_client.parser import text_string_to_metric_families

from twotower.data import Histories
from twotower.demo.engine import Engine
from twotower.errors import TwoTowerError
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.types import BoolArray, IndexArray, OffsetArray

_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Route:
    """Counts of one route since the service started."""

    requests: int
    failed: int
    """Answers with a status of 500 or more."""
    median_ms: float
    """Upper bound, from the histogram's buckets; infinite beyond the last."""
    p99_ms: float


@dataclass(frozen=True)
class Counted:
    """Counts of a service since it started."""

    routes: Mapping[str, Route]
    known: int
    """Users of the bundle who were recommended for."""
    new: int
    """Cold-start users."""

    @property
    def cold_share(self) -> float | None:
        """Share of cold-start users, from 0 to 1; None before the first request."""
        total = self.known + self.new
        return self.new / total if total else None


def counted(metrics: str) -> Counted:
    """Read Prometheus' text format, as ``/metrics`` answers.

    Examples
    --------
    >>> counted('twotower_recommended_users_total{kind="new"} 3.0').cold_share
    1.0
    """
    requests: defaultdict[str, int] = defaultdict(int)
    failed: defaultdict[str, int] = defaultdict(int)
    buckets: defaultdict[str, dict[float, float]] = defaultdict(dict)
    users = {"known": 0, "new": 0}
    for family in text_string_to_metric_families(metrics):
        for name, labels, value, *_ in family.samples:
            if name == "twotower_requests_total":
                requests[labels["route"]] += int(value)
                failed[labels["route"]] += int(value) * (int(labels["status"]) >= 500)
            elif name == "twotower_request_seconds_bucket":
                buckets[labels["route"]][float(labels["le"])] = value
            elif name == "twotower_recommended_users_total":
                users[labels["kind"]] += int(value)
    routes = {
        route: Route(
            count, failed[route], *(1000 * _quantile(buckets[route], q) for q in (0.5, 0.99))
        )
        for route, count in sorted(requests.items(), key=lambda pair: -pair[1])
    }
    return Counted(routes, users["known"], users["new"])


def _quantile(buckets: Mapping[float, float], share: float) -> float:
    """Upper bound of the bucket in which a quantile lies; NaN without buckets."""
    total = max(buckets.values(), default=0)
    return next((le for le, up_to in sorted(buckets.items()) if up_to >= share * total), np.nan)


def newest_first(histories: Histories, items: int, count: int) -> list[tuple[int, datetime]]:
    """Items by the time of their first event, the newest first, and that time.

    Parameters
    ----------
    items
        Size of the catalogue; items without any event are left out.
    count
        Most items to give.
    """
    if histories.timestamps is None:
        return []
    first = _first_events(histories.items, histories.timestamps, items)
    order = np.argsort(np.where(first == _NEVER, np.iinfo(np.int64).min, first), kind="stable")
    rows = [row for row in order[::-1][:count].tolist() if first[row] != _NEVER]
    return [(row, datetime.fromtimestamp(int(first[row]) / 1000, UTC)) for row in rows]


def _first_events(of: IndexArray, times: OffsetArray, items: int) -> OffsetArray:
    """``(items,)`` milliseconds of the first event of each item, `_NEVER` without one."""
    first = np.full(items, _NEVER)
    np.minimum.at(first, of, times)
    return first


def _days(times: OffsetArray, known: BoolArray) -> pl.Series:
    """Days of milliseconds since 1970, null where they are not known."""
    days = pl.from_epoch(pl.Series(np.where(known, times, 0)), time_unit="ms").dt.date()
    return days.zip_with(pl.Series(known), pl.Series([None] * len(known), dtype=pl.Date))


def matching(table: pl.DataFrame, wanted: str, most: int) -> pl.DataFrame:
    """Rows that hold all words of ``wanted`` in their texts, in any case; the first ``most``."""
    texts = [name for name, kind in table.schema.items() if kind == pl.String]
    row = pl.concat_str(texts, separator=" ", ignore_nulls=True).str.to_lowercase()
    for word in wanted.lower().split():
        table = table.filter(row.str.contains(word, literal=True))
    return table.head(most)


def item_listing(
    ids: Sequence[str],
    titles: Sequence[str | None],
    categories: Sequence[str | None],
    counts: OffsetArray,
    histories: Histories,
) -> pl.DataFrame:
    """All items, those with most events first: id, title, category, events, day of the first."""
    columns = {
        "id": pl.Series(ids, dtype=pl.String),
        "title": pl.Series(titles, dtype=pl.String),
        "category": pl.Series(categories, dtype=pl.String),
        "events": pl.Series(counts),
    }
    if histories.timestamps is not None:
        first = _first_events(histories.items, histories.timestamps, len(ids))
        columns["first event"] = _days(first, first != _NEVER)
    table = pl.DataFrame(columns)
    # Columns that say nothing are left out: a log without a catalogue has no titles.
    named = [name for name in ("title", "category") if table[name].null_count() == len(table)]
    return table.drop(named).sort("events", descending=True, maintain_order=True)


def user_listing(ids: Sequence[str], histories: Histories) -> pl.DataFrame:
    """All users, those with most events first: id, events, days of the first and newest."""
    columns = {"id": pl.Series(ids, dtype=pl.String), "events": pl.Series(histories.lengths)}
    if histories.timestamps is not None and len(histories.timestamps):
        had = histories.lengths > 0
        last = len(histories.timestamps) - 1
        for name, places in (
            ("first event", histories.indptr[:-1]),
            ("newest event", histories.indptr[1:] - 1),
        ):
            columns[name] = _days(histories.timestamps[np.clip(places, 0, last)], had)
    return pl.DataFrame(columns).sort("events", descending=True, maintain_order=True)


def event_notes(histories: Histories, user: int) -> list[str]:
    """Day and kind of each event of a user, oldest first; empty where neither is known."""
    at = slice(int(histories.indptr[user]), int(histories.indptr[user + 1]))
    notes = [""] * (at.stop - at.start)
    if histories.timestamps is not None:
        times = histories.timestamps[at].tolist()
        notes = [f"{datetime.fromtimestamp(time / 1000, UTC):%d %b %Y}" for time in times]
    if histories.kinds is not None and histories.rules is not None:
        kinds = [*histories.rules.kinds]
        named = [kinds[kind] for kind in histories.kinds[at].tolist()]
        notes = [", ".join(filter(None, pair)) for pair in zip(notes, named, strict=True)]
    return notes


@dataclass(frozen=True)
class Spread:
    """How the lists of some users use the catalogue."""

    users: int
    coverage: float
    """Share of the items that are in at least one of the lists."""
    new_places: float
    """Share of the lists' places that items without events have."""
    new_items: float
    """Their share of the items."""


def spread(engine: Engine, users: Sequence[str], fresh: BoolArray, ids: Sequence[str]) -> Spread:
    """Ask for ten items for each user.

    Parameters
    ----------
    fresh
        ``(items,)`` which items had no event when the bundle was made.
    ids
        Of the items.
    """
    row = {item_id: at for at, item_id in enumerate(ids)}
    shown: list[int] = []
    answered = 0
    for user in users:
        try:
            answer = engine.recommend(Request(user), RecommendOptions(10, reasons=False))
        except TwoTowerError:
            continue  # the model has no input for the user
        answered += 1
        shown += [row.get(item.item_id, -1) for item in answer]
    # Items that came after the bundle have no row, and no events in it.
    new = [at < 0 or bool(fresh[at]) for at in shown]
    return Spread(
        answered,
        len({at for at in shown if at >= 0}) / max(len(ids), 1),
        float(np.mean(new)) if new else 0.0,
        float(fresh.mean()) if len(fresh) else 0.0,
    )
