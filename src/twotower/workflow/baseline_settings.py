"""Settings of the baselines random walk and graph filter, chosen on validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np

from twotower.config import Config
from twotower.data import Dataset, Part
from twotower.evaluation.metrics import ndcg_at_k
from twotower.evaluation.ranking import full_ranks
from twotower.factors.graph_filter import FilterConfig, GraphFilter
from twotower.factors.random_walk import (
    RandomWalk,
    WalkConfig,
    shared_users,
    users_of_items,
    weighed,
)
from twotower.models.base import Scorer


def _steps(low: float, high: float, step: float) -> list[float]:
    return [round(value, 6) for value in np.arange(low, high + step / 2, step).tolist()]


WALKS: Final[Mapping[str, Sequence[float]]] = {
    "user_power": _steps(0, 1.5, 0.25),
    "sharpness": _steps(0.5, 2, 0.25),
    "history_power": _steps(0, 1.5, 0.1),
    "popularity_power": _steps(0, 1, 0.1),
}
"""Setting of the walk → values that are tried, in their order."""
FILTERS: Final[Mapping[str, Sequence[float]]] = {
    "low_pass": _steps(0, 1, 0.1),
    "sharpening": _steps(0, 2.5, 0.5),
    "factors": [32, 64, 128, 256, 512],
}
"""Setting of the filter → values that are tried, in their order."""
ROUNDS: Final = 3
"""Passes over the settings; one without a gain is the last."""
MOST_USERS: Final = 2_000

ConfigT = TypeVar("ConfigT", bound=Config)


class Chosen(NamedTuple, Generic[ConfigT]):
    """Chosen settings, with their metric and the trials."""

    config: ConfigT
    metric: float
    """NDCG@10 on the sample of validation users."""
    trials: int


def choose_walk(
    dataset: Dataset, progress: Callable[[WalkConfig, float], object] | None = None
) -> Chosen[WalkConfig]:
    """The walk that is best on validation; ``progress`` is called after each trial."""
    train, size = dataset.train, len(dataset.items)
    users = users_of_items(train, size)
    power, shared = -1.0, None

    def walk(config: WalkConfig) -> RandomWalk:
        nonlocal power, shared
        if shared is None or config.user_power != power:
            power, shared = config.user_power, shared_users(train, size, config.user_power)
        return RandomWalk(weighed(shared, users, config))

    return _climbed(WalkConfig(), WALKS, walk, dataset, progress)


def choose_filter(
    dataset: Dataset, progress: Callable[[FilterConfig, float], object] | None = None
) -> Chosen[FilterConfig]:
    """The graph filter that is best on validation; ``progress`` is called after each trial."""
    widest = FilterConfig(factors=int(max(FILTERS["factors"])))
    fitted = GraphFilter.fit(dataset.train, len(dataset.items), widest)
    return _climbed(
        FilterConfig(), FILTERS, lambda config: replace(fitted, config=config), dataset, progress
    )


def _climbed(
    start: ConfigT,
    values: Mapping[str, Sequence[float]],
    fit: Callable[[ConfigT], Scorer],
    dataset: Dataset,
    progress: Callable[[ConfigT, float], object] | None,
) -> Chosen[ConfigT]:
    """Coordinate search: move one setting at a time, up or down, as long as the metric improves."""
    queries, targets = dataset.held_out(Part.VALIDATION)
    rows = np.sort(np.random.default_rng(0).permutation(len(queries))[:MOST_USERS])
    queries, targets = queries.select(rows), targets.select(rows)
    found: dict[ConfigT, float] = {}

    def measured(config: ConfigT) -> float:
        if config not in found:
            ranks = full_ranks(fit(config), queries, targets, exclude_seen=not dataset.has_repeats)
            found[config] = float(ndcg_at_k(ranks, 10).mean())
            if progress is not None:
                progress(config, found[config])
        return found[config]

    best = start
    for _ in range(ROUNDS):
        before = measured(best)
        for name, tried in values.items():
            for way in (1, -1):
                place = tried.index(getattr(best, name)) + way
                while 0 <= place < len(tried):
                    changed: dict[str, Any] = {name: tried[place]}
                    other = best.vary(**changed)
                    if measured(other) <= measured(best):
                        break
                    best, place = other, place + way
        if measured(best) == before:
            break
    return Chosen(best, measured(best), len(found))
