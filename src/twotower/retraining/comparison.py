"""Offline comparison of two bundles on the newest events, each as it would have served them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twotower.config import Config
from twotower.data import Dataset, Part
from twotower.evaluation.metrics import ndcg_at_k
from twotower.evaluation.ranking import Ranks
from twotower.evaluation.significance import bootstrap_interval
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.service.snapshot import Snapshot
from twotower.types import DoubleArray

K: Final = 10
"""Length of the compared lists."""
MOST_USERS: Final = 5_000


@dataclass(frozen=True)
class Case:
    """A test case: a user of the newest events."""

    user_id: str
    targets: frozenset[str]
    """Held-out items: those that the user first interacted with in the newest events."""
    time: int | None = None
    """Time of the first of these, milliseconds since 1970, used as the time of the request; None
    for now."""


class Measured(Config):
    """Metrics of one bundle on the newest events; means over users."""

    ndcg: float
    """NDCG@10."""
    coverage: float
    """Share of the listed items that appear in any list."""
    new_item_share: float
    """Share of list positions taken by items that the old bundle was not trained on."""
    milliseconds: float
    """Median time of one request, in this process."""


class Comparison(Config):
    """The new bundle against the old one, on the same users."""

    users: int
    old: Measured
    new: Measured
    difference: float
    """Mean over users of the new bundle's NDCG@10 minus the old one's."""
    low: float
    """Lower end of its 95% bootstrap interval, see `twotower.evaluation.significance`."""
    high: float


def newest_cases(dataset: Dataset, seed: int) -> list[Case]:
    """Users of the test part with their held-out items; a random sample if there are many."""
    log, test = dataset.interactions, dataset.split == Part.TEST
    users = np.unique(log.rows[test])
    if len(users) > MOST_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MOST_USERS, replace=False))
    cases = []
    for user in users.tolist():
        own = slice(int(log.indptr[user]), int(log.indptr[user + 1]))
        items, later = log.items[own], test[own]
        new = later & ~np.isin(items, items[~later])
        if new.any():
            ids = frozenset(dataset.items.ids[item] for item in items[new].tolist())
            times = log.timestamps
            first = None if times is None else int(times[own][new].min())
            cases.append(Case(dataset.users.ids[user], ids, first))
    return cases


def compared(old: Snapshot, new: Snapshot, cases: Sequence[Case]) -> Comparison:
    """Request each user's items from both bundles, as the service would, one at a time."""
    trained = old.pipeline.contents.items
    figures, per_user = [], []
    for snapshot in (old, new):
        ndcg, lists, seconds = _answers(snapshot, cases)
        places = [item for items in lists for item in items]
        listed = int(np.count_nonzero(snapshot.pipeline.items.listed))
        fresh = sum(item not in trained for item in places)
        figures.append(
            Measured(
                ndcg=float(ndcg.mean()),
                coverage=len(set(places)) / max(1, listed),
                new_item_share=fresh / max(1, len(places)),
                milliseconds=float(np.median(seconds)) * 1000,
            )
        )
        per_user.append(ndcg)
    differences = per_user[1] - per_user[0]
    low, high = bootstrap_interval(differences[:, None])
    return Comparison(
        users=len(cases),
        old=figures[0],
        new=figures[1],
        difference=float(differences.mean()),
        low=float(low[0]),
        high=float(high[0]),
    )


def _answers(
    snapshot: Snapshot, cases: Sequence[Case]
) -> tuple[DoubleArray, list[list[str]], DoubleArray]:
    """NDCG@10 by user, the lists, and the seconds of each request."""
    options = RecommendOptions(K, reasons=False, strict=False)
    lists, seconds = [], np.empty(len(cases))
    ranks, ends = [], [0]
    for place, case in enumerate(cases):
        past = snapshot.past_of(case.user_id)
        request = Request(case.user_id, past=past, time=case.time)
        began = time.perf_counter()
        (answer,) = snapshot.pipeline.answers([request], options)
        seconds[place] = time.perf_counter() - began
        items = [item.item_id for item in answer.items]
        lists.append(items)
        found = [float(items.index(target) + 1) for target in case.targets if target in items]
        ranks += found + [np.inf] * (len(case.targets) - len(found))
        ends.append(len(ranks))
    return ndcg_at_k(Ranks(np.array(ranks), np.array(ends)), K), lists, seconds
