"""The best items of each query, in order, without sorting the catalogue."""

import numpy as np

from twotower.data import Histories
from twotower.errors import InputError
from twotower.types import Array, IndexArray

_CHUNK = 128
"""Items whose greatest score bounds from below what belongs to the best."""


def best_items(scores: Array, seen: Histories, k: int) -> IndexArray:
    """The ``k`` items with the greatest scores that are not among the seen ones.

    Equal scores stand in the order of their indices, which is arbitrary but repeatable.
    The rows are read, never written to.

    Parameters
    ----------
    scores
        ``(queries, num_items)`` numbers.
    seen
        One row per query, each item once.

    Returns
    -------
    lists
        ``(queries, k)`` int32, best first.

    Raises
    ------
    InputError
        Where ``k`` is below 1, or a query has fewer than ``k`` items left.

    Examples
    --------
    >>> scores = np.array([[0.1, 0.9, 0.5, 0.5]])
    >>> best_items(scores, Histories.from_lists([[1]]), 2)
    array([[2, 3]], dtype=int32)
    """
    check_lists(seen, scores.shape[1], k)
    lists = np.empty((len(scores), k), dtype=np.int32)
    # Each chunk's maximum is a score of one item, so the n-th greatest maximum is no more than
    # the n-th greatest score: two passes at the speed of memory leave a few candidates.
    maxima = np.maximum.reduceat(scores, np.arange(0, scores.shape[1], _CHUNK), axis=1)
    for row, own in enumerate(scores):
        taken = seen.row(row)
        count = k + len(taken)
        among = maxima[row] if count <= maxima.shape[1] else own
        bound = np.partition(among, len(among) - count)[len(among) - count]
        found = np.flatnonzero(own > bound)
        found = found[np.argsort(-own[found], kind="stable")]
        if len(found) < count:  # the bound is the score of the last place itself
            found = np.concatenate([found, np.flatnonzero(own == bound)[: count - len(found)]])
        else:
            found = found[:count]
        if len(taken):
            found = found[~np.isin(found, taken)]
        lists[row] = found[:k]
    return lists


def check_lists(seen: Histories, num_items: int, k: int) -> None:
    """Refuse what `best_items` cannot answer, before anything is scored."""
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    left = num_items - int(seen.lengths.max(initial=0))
    if left < k:
        raise InputError(
            f"lists of {k} items cannot be made: a query has {left} of {num_items} items left "
            "beside its history",
            f"ask for {left} or fewer",
        )
