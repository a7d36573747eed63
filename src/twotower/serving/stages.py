"""The stages of one request, timed."""

from time import perf_counter

import numpy as np

from twotower.data import Queries
from twotower.index import ItemIndex
from twotower.serving.ranking import Ranked
from twotower.serving.rerank import Reranker, placed
from twotower.serving.retrieve import nearest
from twotower.types import BoolArray, FloatArray, OffsetArray

Timings = dict[str, float]
"""Seconds by stage, added to what is there: ``encode``, ``search``, ``rerank``, ``present``."""
Found = tuple[FloatArray, OffsetArray]
"""What the index found for a request already."""


def add_time(clock: Timings, stage: str, began: float) -> float:
    """Count the time since ``began`` for a stage; the time now."""
    now = perf_counter()
    clock[stage] = clock.get(stage, 0.0) + now - began
    return now


class Stages:
    """The two stages for one request, each giving as many of its best items as are wanted.

    Parameters
    ----------
    index, vectors
        As `nearest` takes them.
    vector
        ``(d,)`` the user's vector.
    open_items
        ``(items,)`` which items may be recommended.
    clock
        Where to add the seconds taken.
    """

    def __init__(
        self,
        index: ItemIndex,
        vectors: FloatArray,
        vector: FloatArray,
        open_items: BoolArray,
        clock: Timings,
    ) -> None:
        self._index, self._vectors, self._vector = index, vectors, vector
        self._open, self._clock = open_items, clock

    def retrieve(self, found: Found, count: int) -> Ranked:
        """The nearest items; ``found`` is what the index gave already."""
        began = perf_counter()
        scores, items = nearest(self._index, self._vectors, self._vector, count, self._open, found)
        add_time(self._clock, "search", began)
        return Ranked(items, scores, retrieval=scores)

    def rerank(
        self, reranker: Reranker, query: Queries, candidates: int, found: Found, count: int
    ) -> Ranked:
        """The best of ``candidates`` nearest items, or of more where more are wanted."""
        retrieved = self.retrieve(found, max(candidates, count))
        began = perf_counter()
        scores = placed(reranker.scores(query, retrieved.items[None])[0])
        order = np.argsort(-scores, kind="stable")[:count]
        add_time(self._clock, "rerank", began)
        return Ranked(retrieved.items, scores, retrieved.scores, scores).take(order)
