"""Baselines by name: models without a training loop."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from twotower.data import Histories
from twotower.factors.als import ALS, ALSConfig
from twotower.factors.content import ContentSearch
from twotower.factors.ease import EASE
from twotower.factors.graph_filter import GraphFilter
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity
from twotower.factors.random_walk import RandomWalk
from twotower.models.base import Scorer
from twotower.types import FloatArray

BASELINES: Final[Mapping[str, Callable[[Histories, int], Scorer]]] = {
    "popularity": Popularity.fit,
    "item-knn": ItemKNN.fit,
    "random-walk": RandomWalk.fit,
    "graph-filter": GraphFilter.fit,
    "ease": EASE.fit,
    "als": partial(ALS.fit, config=ALSConfig(popularity_discount=0.0)),
}
"""Name → fit(train, num_items)."""

TEXT_BASELINES: Final[Mapping[str, Callable[[FloatArray], Scorer]]] = {"content": ContentSearch}
"""Models that read titles and no interactions: name → of ``(num_items, t)`` title vectors."""

DEFAULT_BASELINES: Final = ("popularity", "item-knn")
"""What models are shown beside, unless others are named."""
