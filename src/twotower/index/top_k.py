"""Top-k selection under an eligibility mask, for one query or a block of queries."""

from typing import Final, NamedTuple, Protocol

import numpy as np

from twotower.index.base import PADDING_ITEM, PADDING_SCORE
from twotower.types import Array, BoolArray, OffsetArray

_CHUNK: Final = 128
"""Items per chunk, whose maxima bound the selection; smaller inputs are sorted directly."""


class ItemRows(Protocol):
    """One row of item indices per query in CSR form, such as `twotower.data.Histories`."""

    @property
    def indptr(self) -> OffsetArray:
        """``(queries + 1,)``; row ``r`` is ``items[indptr[r]:indptr[r + 1]]``."""
        ...

    @property
    def items(self) -> Array:
        """``(entries,)`` item indices, in any order, repeats allowed."""
        ...


class TopK(NamedTuple):
    """The best items of a block of queries, best first."""

    scores: Array
    """``(queries, k)`` of the scores' dtype, padded with ``-inf`` if fewer than ``k`` remain."""
    items: OffsetArray
    """``(queries, k)`` int64 item indices, padded with ``-1``."""


def top_k(scores: Array, k: int, excluded: ItemRows | None = None) -> TopK:
    """Best ``k`` items of each query; equal scores rank by item index.

    Parameters
    ----------
    scores
        ``(queries, items)`` floats without NaN; not modified. Infinity is a valid score.
    k
        At least 1; may exceed the number of items.
    excluded
        Items that each query must not get, such as its history; None for none.

    Examples
    --------
    >>> scores = np.array([[0.1, 0.9, 0.5], [1.0, 1.0, 1.0]], dtype=np.float32)
    >>> top_k(scores, 2).items.tolist()
    [[1, 2], [0, 1]]
    >>> from twotower.data import Histories
    >>> top_k(scores, 2, Histories.from_lists([[1], [0, 2]])).items.tolist()
    [[2, 0], [1, -1]]
    """
    items = np.full((len(scores), k), PADDING_ITEM, dtype=np.int64)
    values = np.full((len(scores), k), PADDING_SCORE, dtype=scores.dtype)
    eligible = None if excluded is None else np.ones(scores.shape[1], dtype=np.bool_)
    for row, own in enumerate(scores):
        if excluded is None or eligible is None:
            best = top_k_of(own, k)
        else:  # over-fetch by the number of excluded items, then drop those
            taken = excluded.items[excluded.indptr[row] : excluded.indptr[row + 1]]
            best = top_k_of(own, k + len(taken))
            eligible[taken] = False
            best = best[eligible[best]][:k]
            eligible[taken] = True
        items[row, : len(best)] = best
        values[row, : len(best)] = own[best]
    return TopK(values, items)


def top_k_of(scores: Array, k: int, eligible: BoolArray | None = None) -> OffsetArray:
    """Indices of the best ``k`` eligible items of one query, best first; ties by index.

    The k-th greatest chunk maximum is at most the k-th greatest score, so two passes at memory
    speed leave few items to sort.

    Parameters
    ----------
    scores
        ``(items,)`` numbers without NaN.
    k
        At least 1.
    eligible
        ``(items,)`` mask; None for all items.

    Returns
    -------
    items
        ``(found,)`` int64; fewer than ``k`` if fewer are eligible.

    Examples
    --------
    >>> top_k_of(np.array([1.0, 3.0, 2.0, 3.0]), 2, np.array([True, True, True, False]))
    array([1, 2])
    """
    if eligible is not None:
        rows = np.flatnonzero(eligible)
        return rows[top_k_of(scores[rows], k)]
    size = len(scores)
    if k >= size or size <= _CHUNK:
        return np.argsort(-scores, kind="stable")[:k]
    maxima = scores
    if k * _CHUNK <= size:
        maxima = np.maximum.reduceat(scores, np.arange(0, size, _CHUNK))
    (found,) = (scores >= _kth_greatest(maxima, k)).nonzero()
    if len(found) > k:  # the bound was not tight, or several items have the k-th score
        own = scores[found]
        bound = _kth_greatest(own, k)
        chosen = own > bound
        chosen[np.flatnonzero(own == bound)[: k - np.count_nonzero(chosen)]] = True
        found = found[chosen]
    best: OffsetArray = found[(-scores[found]).argsort(kind="stable")]
    return best


def top_scores(scores: Array, k: int) -> Array:
    """``(queries, up to k)`` best scores of each query without the items, best first.

    Examples
    --------
    >>> top_scores(np.array([[0.1, 0.9, 0.5], [1.0, 0.0, 1.0]]), 2).tolist()
    [[0.9, 0.5], [1.0, 1.0]]
    """
    if scores.shape[1] > k:
        scores = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    ordered: Array = np.sort(scores, axis=1)[:, ::-1]
    return ordered


def _kth_greatest(values: Array, k: int) -> Array:
    place = len(values) - k
    ordered = values.copy()
    ordered.partition(place)
    kth: Array = ordered[place]
    return kth
