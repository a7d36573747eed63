"""Live metrics: recommendations shown, their outcomes, and the drift of traffic.

Answer counts are kept in memory and written to the database periodically; events carry the id of
the answer that led to them.
"""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.evaluation.sequential import Arm as ArmCounts
from twotower.evaluation.sequential import Difference, difference, preference
from twotower.service.recommendation_id import Arm, RecommendationId
from twotower.service.shadow import shadow_report
from twotower.service.state import StateStore
from twotower.service.state import live as counted
from twotower.service.state.live import HOUR_MS, Shown, ShownKey, Split
from twotower.service.state.records import Event
from twotower.service.state.shadow import ShadowCounts
from twotower.service.state.shadow import counts as shadow_counts

POSITIONS: Final = ((1, "1"), (3, "2-3"), (10, "4-10"), (math.inf, "11+"))
"""Last position and name of each group of positions."""
BINS: Final = 10
"""Number of item groups with equal shares of the training interactions."""
_LEAST: Final = 1e-4
"""Substitute for a share of zero in logarithms."""


def position_group(position: int | None) -> str:
    """Name of the group of a position, counted from 1."""
    if position is None:
        return "unknown"
    return next(name for last, name in POSITIONS if position <= last)


class ShownCounts:
    """Counts of shown answers by hour, model version, arm and known or new user.

    Updated with every answer, so kept in plain numbers, and summed only on demand: by `take` for
    the database, and by `news` for the metrics.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: dict[ShownKey, list[int]] = {}
        self._to_take: dict[ShownKey, Shown] = {}
        self._to_tell: dict[ShownKey, Shown] = {}
        self._units: dict[str, Arm] = {}
        self.items: set[str] = set()
        """All items shown, for coverage."""

    def add(self, about: RecommendationId, item_ids: Sequence[str], new_places: int) -> None:
        """Count an answer, its items, and how many of those the bundle was not trained on."""
        hour = int(time.time() * 1000) // HOUR_MS
        key = ShownKey(hour, about.model_version, about.arm, about.known_user)
        with self._lock:
            counts = self._newest.get(key)
            if counts is None:
                counts = self._newest[key] = [0, 0, 0]
            counts[0] += 1
            counts[1] += len(item_ids)
            counts[2] += new_places
            self.items.update(item_ids)
            if about.arm in ("a", "b"):
                self._units[about.unit] = about.arm

    def take(self) -> tuple[dict[ShownKey, Shown], dict[str, Arm]]:
        """Return and reset all counts, and the units of a split with their arms."""
        with self._lock:
            self._add_up()
            counts, units = self._to_take, self._units
            self._to_take, self._units = {}, {}
        return counts, units

    def news(self) -> dict[ShownKey, Shown]:
        """Counts since the last call, independent of `take`."""
        with self._lock:
            self._add_up()
            news, self._to_tell = self._to_tell, {}
        return news

    def put_back(self, counts: Mapping[ShownKey, Shown], units: Mapping[str, Arm]) -> None:
        """Add back counts that were taken but could not be written."""
        with self._lock:
            _add(self._to_take, counts)
            self._units = {**units, **self._units}

    def _add_up(self) -> None:
        newest = {key: Shown(*counts) for key, counts in self._newest.items()}
        self._newest = {}
        _add(self._to_take, newest)
        _add(self._to_tell, newest)


def _add(counts: dict[ShownKey, Shown], more: Mapping[ShownKey, Shown]) -> None:
    for key, shown in more.items():
        counts[key] = counts.get(key, Shown()).plus(shown)


class PopularityDrift:
    r"""Popularity drift: how far the items of new events differ from those of the training log.

    The population stability index over `BINS` groups of items, each with a tenth of the training
    interactions, and one group of items unknown to training:

    .. math:: \text{PSI} = \sum_g (a_g - e_g) \ln \frac{a_g}{e_g}

    with the groups' shares of the events :math:`a` and of the training log :math:`e`. By
    convention, above 0.1 is a change worth a look and above 0.25 a large one.
    """

    def __init__(self, contents: BundleContents) -> None:
        counts = contents.event_counts
        order = np.argsort(-counts, kind="stable")
        ends = np.cumsum(counts[order]) / max(1, counts.sum())
        self._bins = np.empty(len(counts), dtype=np.int64)
        self._bins[order] = np.minimum((ends * BINS - 1e-9).astype(np.int64), BINS - 1)
        self._expected = np.bincount(self._bins, weights=counts, minlength=BINS + 1)
        self._seen = np.zeros(BINS + 1)
        self._items = contents.items

    def add(self, item_ids: Iterable[str]) -> None:
        """Count the items of events."""
        for item_id in item_ids:
            row = self._items.find(item_id)
            self._seen[BINS if row is None else self._bins[row]] += 1

    @property
    def psi(self) -> float:
        """The index; 0 before the first event."""
        if not self._seen.any():
            return 0.0
        actual, expected = (
            np.maximum(counts / max(1.0, counts.sum()), _LEAST)
            for counts in (self._seen, self._expected)
        )
        return float(np.sum((actual - expected) * np.log(actual / expected)))


def report(
    shown: Mapping[ShownKey, Shown],
    events: Sequence[Event],
    split: Split | None,
    arms: Mapping[str, tuple[int, int]],
    wins: tuple[int, int, int],
    shadow: ShadowCounts,
) -> dict[str, Any]:
    """Live metrics of shown recommendations and their outcomes, by model version, arm, position.

    Parameters
    ----------
    shown, events
        Counts of answers, and the events attributed to one, over the same hours.
    split
        The running comparison, if any.
    arms
        For each arm, its number of units, and of those with an event.
    wins
        For interleaved bundles: units that ``a`` won, that ``b`` won, and ties.
    shadow
        Counts of a shadow.

    Returns
    -------
    dict
        ``models``: one row per version and arm. ``events_per_answer`` is the rate of events of any
        kind (the click-through rate, if clients send views); ``conversion`` that of purchases.
        ``positions``: events by kind and group of positions. ``split``: see
        `twotower.evaluation.sequential.difference`. ``interleaving``: see `preference` there;
        ``unplaced`` counts events of interleaved answers that count for neither list, such as those
        without a position. ``shadow``: requests by outcome, means over those that the shadow
        answered, and for each bundle's lists their latency, their share of items without an event
        in its training log, and their number of distinct items.
    """
    found = [
        (about, event)
        for event in events
        if (about := RecommendationId.read(event.recommendation_id)) is not None
    ]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for key, counts in shown.items():
        row = rows.setdefault((key.model_version, key.arm), _empty(key.model_version, key.arm))
        row["answers"] += counts.answers
        row["places"] += counts.places
        row["new_places"] += counts.new_places
        row["new_users"] += 0 if key.known_user else counts.answers
    answered = Counter((about.model_version, str(about.arm)) for about, _ in found)
    bought = Counter(
        (about.model_version, str(about.arm)) for about, event in found if event.kind == "buy"
    )
    for name, row in rows.items():
        answers = max(1, row["answers"])
        row["events"] = answered[name]
        row["events_per_answer"] = answered[name] / answers
        row["conversion"] = bought[name] / answers
        row["new_user_share"] = row.pop("new_users") / answers
        row["new_item_share"] = row.pop("new_places") / max(1, row["places"])
    positions = Counter((event.kind, position_group(event.position)) for _, event in found)
    result: dict[str, Any] = {
        "models": sorted(rows.values(), key=lambda row: (row["model_version"], row["arm"])),
        "positions": [
            {"kind": kind, "position": group, "events": count}
            for (kind, group), count in sorted(positions.items())
        ],
        "split": None,
        "interleaving": None,
        "shadow": None,
    }
    if split is None or split.name is None:
        return result
    compared = {"bundle": split.name, "share": split.share}
    if split.mode == "shadow":
        result["shadow"] = {**compared, **shadow_report(shadow)}
    elif split.mode == "interleave":
        unplaced = sum(
            about.arm == "i" and about.team(event.position) is None for about, event in found
        )
        won = dict(zip(("a", "b", "ties"), wins, strict=True))
        liked = preference(**won)
        result["interleaving"] = {
            **compared, "units": sum(wins), **won, "unplaced": unplaced,
            "preference": liked.estimate, **_bounds(liked),
        }  # fmt: skip
    else:
        a, b = (ArmCounts(*arms.get(arm, (0, 0))) for arm in ("a", "b"))
        between = difference(a, b)
        result["split"] = {
            **compared,
            "a": {"units": a.units, "successes": a.successes, "rate": a.rate},
            "b": {"units": b.units, "successes": b.successes, "rate": b.rate},
            "difference": between.estimate,
            **_bounds(between),
        }
    return result


def _bounds(found: Difference) -> dict[str, Any]:
    return {"low": found.low, "high": found.high, "better": found.better}


def live_report(store: StateStore, configured: str, since: int) -> dict[str, Any]:
    """The `report` since a moment, of all services configured with a folder."""
    counts, events = store.read(counted.shown, since)
    split = store.read(counted.split, configured)
    arms, wins, shadow = {}, (0, 0, 0), ShadowCounts()
    if split is not None:
        arms = store.read(counted.arms, split.revision)
        wins = store.read(counted.wins, split.revision)
        shadow = store.read(shadow_counts, split.revision)
    return report(counts, events, split, arms, wins, shadow)


def _empty(model_version: str, arm: str) -> dict[str, Any]:
    counts = dict.fromkeys(("answers", "places", "new_places", "new_users"), 0)
    return {"model_version": model_version, "arm": arm, **counts}
