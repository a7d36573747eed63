"""Popularity: the same ranking for everyone, most interactions first."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twotower.data import Histories, Queries
from twotower.types import FloatArray


@dataclass(frozen=True, slots=True)
class Popularity:
    """Scores an item by its number of training interactions.

    A `VectorScorer` of dimension 1: every user's vector is 1 and an item's is its count, so
    that the baseline can stand in for a model anywhere, in an index too.
    """

    counts: FloatArray
    """``(num_items,)`` float32; exact up to 2 ** 24 interactions of one item."""

    @classmethod
    def fit(cls, train: Histories, num_items: int) -> Self:
        """Count the events of each item, each by its weight where there are weights."""
        counts = np.bincount(train.items, train.weights, minlength=num_items)
        return cls(counts.astype(np.float32))

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return len(self.counts)

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32, every row the counts."""
        return np.tile(self.counts, (len(queries), 1))

    def user_vectors(self, queries: Queries) -> FloatArray:
        """``(queries, 1)`` float32 ones."""
        return np.ones((len(queries), 1), dtype=np.float32)

    def item_vectors(self) -> FloatArray:
        """``(num_items, 1)`` float32 counts."""
        return self.counts[:, None]
