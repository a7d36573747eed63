"""Content search: items whose titles are like those of the history, with interactions or not."""

from dataclasses import dataclass

import numpy as np

from twotower.data import Queries
from twotower.factors.scorer import history_sums
from twotower.types import FloatArray


@dataclass(frozen=True, slots=True)
class ContentSearch:
    """Scores an item by the cosine of its title and the mean title of the history.

    Nothing is fitted and no interaction counted, so that a new item is scored as any other:
    what a model that reads text has to beat on new items. An item without a title, and every
    item for an empty history, scores 0.
    """

    titles: FloatArray
    """``(num_items, t)`` float32 title vectors of unit length, zero where there is no title."""

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return len(self.titles)

    def user_vectors(self, queries: Queries) -> FloatArray:
        """``(queries, t)`` float32 mean title vectors, brought to unit length."""
        sums = history_sums(queries.histories, self.titles)
        norms = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
        vectors: FloatArray = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
        return vectors

    def item_vectors(self) -> FloatArray:
        """``(num_items, t)`` float32."""
        return self.titles

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32 cosines."""
        return self.user_vectors(queries) @ self.titles.T
