"""Baselines by name: models without a training loop."""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from twotower.config import Config
from twotower.data import Dataset, Histories, Part
from twotower.factors.als import ALS, ALSConfig
from twotower.factors.content import content_search
from twotower.factors.ease import EASE
from twotower.factors.graph_filter import GraphFilter
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity
from twotower.factors.random_walk import RandomWalk
from twotower.models.base import Scorer
from twotower.types import FloatArray
from twotower.workflow.baseline_settings import Chosen, choose_filter, choose_walk
from twotower.workflow.progress import Reporter

Tried = Callable[[Any, float], object]
"""Called with settings that were tried, and their validation NDCG@10."""


class Fit(Protocol):
    """Fits a baseline on the training part of a data set."""

    def __call__(self, dataset: Dataset, tried: Tried | None = None) -> Scorer:
        """Fit the baseline; ``tried`` is called for each trial if it has settings to choose."""


def _of_train(fit: Callable[[Histories, int], Scorer]) -> Fit:
    def fitted(dataset: Dataset, tried: Tried | None = None) -> Scorer:
        del tried
        return fit(dataset.train, len(dataset.items))

    return fitted


def _chosen(
    choose: Callable[[Dataset, Tried | None], Chosen[Any]],
    fit: Callable[[Histories, int, Any], Scorer],
) -> Fit:
    """With settings that validation chooses, or the default ones where there is none."""

    def fitted(dataset: Dataset, tried: Tried | None = None) -> Scorer:
        config = choose(dataset, tried).config if dataset.has(Part.VALIDATION) else None
        return fit(dataset.train, len(dataset.items), config)

    return fitted


BASELINES: Final[Mapping[str, Fit]] = {
    "popularity": _of_train(Popularity.fit),
    "item-knn": _of_train(ItemKNN.fit),
    "random-walk": _chosen(choose_walk, RandomWalk.fit),
    "graph-filter": _chosen(choose_filter, GraphFilter.fit),
    "ease": _of_train(EASE.fit),
    "als": _of_train(partial(ALS.fit, config=ALSConfig(popularity_discount=0.0))),
}
"""Name → fit. Settings of the walk and of the filter are chosen on the validation part, where there
is one."""

TEXT_BASELINES: Final[Mapping[str, Callable[[FloatArray], Scorer]]] = {"content": content_search}
"""Models that read titles and no interactions: name → of ``(num_items, t)`` title vectors."""

DEFAULT_BASELINES: Final = ("popularity", "item-knn")
"""Baselines to compare models with, unless others are named."""


def fitted_baseline(name: str, dataset: Dataset, reporter: Reporter) -> Scorer:
    """A baseline by name; the reporter shows the settings tried, if any."""
    bar, trials = reporter.bar(f"fit {name}", uneven=True), itertools.count(1)

    def tried(config: Config, metric: float) -> None:
        del config
        bar(next(trials), None, f"validation NDCG@10 {metric:.4f}")

    return BASELINES[name](dataset, tried)
