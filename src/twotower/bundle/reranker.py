"""Re-rankers: the second stage, which scores retrieved candidates by another model."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from twotower.data import Queries
from twotower.errors import InputError
from twotower.types import FloatArray, OffsetArray


class Reranker(Protocol):
    """Scores given candidates for given queries."""

    @property
    def candidates(self) -> int:
        """How many retrieved items it re-ranks by default."""
        ...

    @property
    def reads_towers(self) -> bool:
        """Whether `scores` uses ``towers``; if not, any array of that shape will do."""
        ...

    def scores(
        self,
        queries: Queries,
        items: OffsetArray,
        retrieval: FloatArray,
        towers: FloatArray,
    ) -> FloatArray:
        """``(queries, candidates)`` float32 for item indices of that shape; higher is better.

        ``retrieval`` holds the first stage's scores in the same shape, ``towers`` the towers' part
        of them.

        The score of item -1 (padding) is ``-inf``; that of an item unknown to the re-ranker (a
        cold-start item) is NaN: see `placed`.
        """
        ...


MOST_CANDIDATES: Final = 1000
"""Candidates of a second stage unless fewer were found to be enough."""


def placed(scores: FloatArray) -> FloatArray:
    """Fill in NaN scores of one query's candidates by their position in the first stage's list.

    ``scores`` is ``(candidates,)`` in first-stage order, best first, NaN where unknown. An unknown
    candidate keeps the number of known ones ahead of it, so cold-start items are shown as often as
    without the second stage.

    Examples
    --------
    >>> placed(np.array([1.0, np.nan, 3.0], dtype=np.float32))
    array([1., 2., 3.], dtype=float32)
    """
    unknown = np.isnan(scores)
    if not unknown.any():
        return scores
    known = -np.sort(-scores[np.isfinite(scores)])
    if not len(known):
        return np.where(unknown, np.linspace(1, 0, len(scores), dtype=np.float32), scores)
    before = np.cumsum(np.isfinite(scores))[unknown]  # it rises
    first = np.searchsorted(before, before)
    together = np.searchsorted(before, before, side="right") - first
    number = np.arange(1, len(before) + 1) - first
    places = before + number / (1 + together)
    bounded = np.concatenate(([known[0] + 1], known, [known[-1] - 1]))
    filled = scores.copy()
    filled[unknown] = np.interp(places, np.arange(len(bounded)), bounded)
    return filled


@dataclass(frozen=True)
class RerankVectors:
    """Re-ranks by inner products of vectors such as LightGCN's (He et al., 2020).

    A user without a vector gets the mean vector of the items in their history.
    """

    user_vectors: FloatArray
    """``(users, d)`` float32."""
    item_vectors: FloatArray
    """``(items, d)`` float32."""

    def __post_init__(self) -> None:
        if self.user_vectors.shape[1] != self.item_vectors.shape[1]:
            raise InputError(
                f"user and item vectors must have the same dim, got {self.user_vectors.shape[1]} "
                f"and {self.item_vectors.shape[1]}"
            )

    @property
    def candidates(self) -> int:
        """See `Reranker.candidates`."""
        return MOST_CANDIDATES

    @property
    def reads_towers(self) -> bool:
        """See `Reranker.reads_towers`; the towers' scores are not used."""
        return False

    def scores(
        self,
        queries: Queries,
        items: OffsetArray,
        retrieval: FloatArray,
        towers: FloatArray,
    ) -> FloatArray:
        """See `Reranker.scores`."""
        del retrieval, towers
        scores = np.empty(items.shape, dtype=np.float32)
        known = items < len(self.item_vectors)
        rows = np.where(known, items, 0)
        for row, user in enumerate(queries.users):
            vector = self.user_vectors[user] if user >= 0 else self._of_history(queries, row)
            scores[row] = self.item_vectors[rows[row]] @ vector
        scores[items < 0] = -np.inf
        scores[~known] = np.nan
        return scores

    def _of_history(self, queries: Queries, row: int) -> FloatArray:
        history = queries.histories.row(row)
        history = history[history < len(self.item_vectors)]
        if not len(history):
            return np.zeros(self.item_vectors.shape[1], dtype=np.float32)
        mean: FloatArray = self.item_vectors[history].mean(axis=0)
        return mean
