"""Re-rankers, the second stage: score the candidates of the index by another model."""

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
        """Items of the index that it is given, unless a request says otherwise."""
        ...

    @property
    def reads_towers(self) -> bool:
        """Whether the towers' part of the scores counts; else anything of its shape will do."""
        ...

    def scores(
        self,
        queries: Queries,
        items: OffsetArray,
        retrieval: FloatArray,
        towers: FloatArray,
    ) -> FloatArray:
        """``(queries, candidates)`` float32 for item indices of that shape; higher is better.

        ``retrieval`` has the first stage's scores of the same shape, ``towers`` the towers' part of
        them.

        Where the item is -1 (padding) the score is ``-inf``; where the re-ranker knows nothing of
        the item, which is new, it is NaN: see `placed`.
        """
        ...


MOST_CANDIDATES: Final = 1000
"""Items that a second stage is given where nothing says that fewer are enough."""


def placed(scores: FloatArray) -> FloatArray:
    """Fill in the missing scores of one query's candidates, best first, by their place.

    A candidate with so many known ones before it in the first stage's list has as many before it by
    the second stage: new items are shown as often as without it. ``(candidates,)`` scores are NaN
    where unknown.

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

    A user without a vector gets the mean of the vectors of the items in the history.
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
        """They are not read."""
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
