"""Settings of the random walk (RP3beta), chosen on validation."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from twotower.data import Dataset, Part
from twotower.evaluation.metrics import ndcg_at_k
from twotower.evaluation.ranking import full_ranks
from twotower.factors.random_walk import (
    RandomWalk,
    WalkConfig,
    shared_users,
    users_of_items,
    weighed,
)

STEPS: Final = {
    "user_power": (0.0, 1.5, 0.25),
    "sharpness": (0.5, 2.0, 0.25),
    "history_power": (0.0, 1.5, 0.125),
    "popularity_power": (0.0, 1.0, 0.125),
}
"""Setting → least, most and step."""
ROUNDS: Final = 3
"""Passes over the settings; one without a gain is the last."""
MOST_USERS: Final = 2_000


class ChosenWalk(NamedTuple):
    """What was chosen, and from what."""

    config: WalkConfig
    metric: float
    """NDCG@10 of the sample of validation users."""
    trials: int


def choose_walk(
    dataset: Dataset, progress: Callable[[WalkConfig, float], object] | None = None
) -> ChosenWalk:
    """Change one setting at a time by a step, up or down, as long as that is better.

    ``progress`` is called after each trial.
    """
    train, size = dataset.train, len(dataset.items)
    queries, targets = dataset.held_out(Part.VALIDATION)
    rows = np.sort(np.random.default_rng(0).permutation(len(queries))[:MOST_USERS])
    queries, targets = queries.select(rows), targets.select(rows)
    users, found = users_of_items(train, size), dict[WalkConfig, float]()
    power, shared = -1.0, None

    def measured(config: WalkConfig) -> float:
        nonlocal power, shared
        if config not in found:
            if shared is None or config.user_power != power:
                power, shared = config.user_power, shared_users(train, size, config.user_power)
            scorer = RandomWalk(weighed(shared, users, config))
            ranks = full_ranks(scorer, queries, targets, exclude_seen=not dataset.has_repeats)
            found[config] = float(ndcg_at_k(ranks, 10).mean())
            if progress is not None:
                progress(config, found[config])
        return found[config]

    best = WalkConfig()
    for _ in range(ROUNDS):
        before = measured(best)
        for name, (low, high, step) in STEPS.items():
            for way in (step, -step):
                while low <= (value := getattr(best, name) + way) <= high:
                    tried = best.vary(**{name: round(value, 6)})
                    if measured(tried) <= measured(best):
                        break
                    best = tried
        if measured(best) == before:
            break
    return ChosenWalk(best, measured(best), len(found))
