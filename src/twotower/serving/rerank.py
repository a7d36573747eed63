"""The second stage: order the index's candidates again, by another model."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twotower.data import Queries
from twotower.errors import InputError
from twotower.types import FloatArray, OffsetArray


class Reranker(Protocol):
    """Scores given candidates for given queries."""

    def scores(self, queries: Queries, items: OffsetArray) -> FloatArray:
        """``(queries, candidates)`` float32 for item indices of that shape; higher is better.

        Where the item is -1 (padding) the score is ``-inf``.
        """
        ...


@dataclass(frozen=True)
class RerankVectors:
    """Re-ranks by inner products of vectors such as LightGCN's (He et al., 2020).

    A user without a vector gets the mean of the vectors of the items in the history.

    Attributes
    ----------
    user_vectors
        ``(users, d)`` float32.
    item_vectors
        ``(items, d)`` float32.
    """

    user_vectors: FloatArray
    item_vectors: FloatArray

    def __post_init__(self) -> None:
        if self.user_vectors.shape[1] != self.item_vectors.shape[1]:
            raise InputError(
                f"user and item vectors must have one dim, got {self.user_vectors.shape[1]} "
                f"and {self.item_vectors.shape[1]}"
            )

    def scores(self, queries: Queries, items: OffsetArray) -> FloatArray:
        """See `Reranker.scores`."""
        scores = np.empty(items.shape, dtype=np.float32)
        for row, user in enumerate(queries.users):
            vector = self.user_vectors[user] if user >= 0 else self._of_history(queries, row)
            scores[row] = self.item_vectors[items[row]] @ vector
        scores[items < 0] = -np.inf
        return scores

    def _of_history(self, queries: Queries, row: int) -> FloatArray:
        history = queries.histories.row(row)
        if not len(history):
            return np.zeros(self.item_vectors.shape[1], dtype=np.float32)
        mean: FloatArray = self.item_vectors[history].mean(axis=0)
        return mean
