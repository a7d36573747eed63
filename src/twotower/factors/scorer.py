"""Scorer protocols of evaluation, and scoring by user and item vectors (NumPy only)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np

from twotower.data import Histories, Queries
from twotower.types import BoolArray, FloatArray

_BLOCK: Final = 512
"""Queries whose scores of all items are held at a time."""


@runtime_checkable
class Scorer(Protocol):
    """Scores every item of the catalogue for a batch of queries."""

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; higher ranks first. Seen items are not masked."""


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer whose score is the dot product of a user vector and an item vector."""

    def user_vectors(self, queries: Queries) -> FloatArray:
        """``(queries, dim)`` float32."""

    def item_vectors(self) -> FloatArray:
        """``(num_items, dim)`` float32, row ``i`` for item index ``i``."""


@dataclass(frozen=True)
class FactorScorer:
    """Dot products of user vectors, made per query, and a fixed item table."""

    items: FloatArray
    """``(num_items, dim)`` float32."""
    encode: Callable[[Queries], FloatArray]
    """Makes ``(queries, dim)`` float32 user vectors; it captures a model's frozen weights."""
    reads_context: tuple[str, ...] = ()
    """Declared columns of the log that it reads from a query."""
    tower_dim: int | None = None
    """Number of leading dimensions made by towers; None for all."""
    time_context: tuple[str, ...] = ()
    """Those of ``reads_context`` that derive from the time of the request."""

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items)

    def user_vectors(self, queries: Queries) -> FloatArray:
        """``(queries, dim)`` float32."""
        return self.encode(queries)

    def item_vectors(self) -> FloatArray:
        """``(num_items, dim)`` float32."""
        return self.items

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32 dot products."""
        return self.user_vectors(queries) @ self.items.T


def unseen_scores(
    scorer: VectorScorer, queries: Queries
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Scores of consecutive queries, where items of a query's history have ``-inf``.

    Yields
    ------
    Which queries they are, their user vectors ``(rows, dim)``, and ``(rows, num_items)`` scores.
    """
    items = scorer.item_vectors().T
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(queries)))
        part = queries.select(np.arange(rows.start, rows.stop))
        users = scorer.user_vectors(part)
        scores = users @ items
        scores[part.histories.rows, part.histories.items] = -np.inf
        yield rows, users, scores


def history_sums(histories: Histories, table: FloatArray) -> FloatArray:
    """Sum of the table rows of each history's items: ``(rows, dim)``, 0 for an empty one."""
    sums = np.zeros((len(histories), table.shape[1]), dtype=np.float32)
    filled = np.flatnonzero(histories.lengths)
    if len(filled):
        starts = histories.indptr[:-1][filled]
        sums[filled] = np.add.reduceat(table[histories.items], starts, axis=0)
    return sums


def trained_items(train: Histories, num_items: int) -> BoolArray:
    """``(num_items,)`` whether training has an event of the item.

    Without one, an item's row is its random start, or was only moved as a negative: it carries no
    information and must not be used for ranking.
    """
    return np.bincount(train.items, minlength=num_items) > 0


def distinct(histories: Histories) -> Histories:
    """The same rows with only the first event of each item."""
    if not len(histories.items):
        return histories
    keys = histories.rows * (int(histories.items.max()) + 1) + histories.items
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return histories.keep(first)
