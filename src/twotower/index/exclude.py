"""Search without the items that each query must not get, such as those already bought."""

import math
from typing import Protocol

import numpy as np

from twotower.errors import InputError
from twotower.index.base import PADDING_ITEM, PADDING_SCORE, ItemIndex, check_search
from twotower.types import Array, BoolArray, FloatArray, OffsetArray

_USUAL_SHARE = 0.9  # one long history in a batch must not make every search deep


class ItemRows(Protocol):
    """One row of item indices per query, compressed: `twotower.data.Histories` is one."""

    @property
    def indptr(self) -> OffsetArray:
        """``(queries + 1,)``; row ``r`` is ``items[indptr[r]:indptr[r + 1]]``."""
        ...

    @property
    def items(self) -> Array:
        """``(entries,)`` item indices, in any order, repeats allowed."""
        ...


def search_excluding(
    index: ItemIndex, queries: FloatArray, k: int, excluded: ItemRows
) -> tuple[FloatArray, OffsetArray]:
    """Best ``k`` items of each query that are not in its row of ``excluded``.

    The index is asked for ``k`` and as many more as may be excluded. Queries that stay short
    are asked again for twice as many. Where an approximate index has no more to give, the
    exact one answers, so ``k`` items come back wherever ``k`` exist.

    Parameters
    ----------
    index
        What to search.
    queries
        ``(queries, dim)`` float32.
    k
        At least 1.
    excluded
        One row of item indices per query.

    Returns
    -------
    scores, items
        As `ItemIndex.search`; padded only where fewer than ``k`` items remain.

    Raises
    ------
    InputError
        As `ItemIndex.search`, and where ``excluded`` has another number of rows or an item
        that the index does not hold.
    """
    queries = check_search(queries, k, index.dim)
    lengths = np.diff(excluded.indptr)
    if len(lengths) != len(queries):
        raise InputError(
            f"excluded must have one row per query {len(queries)}, got {len(lengths)} rows"
        )
    entries = excluded.items[excluded.indptr[0] : excluded.indptr[-1]].astype(np.int64)
    if len(entries) and not 0 <= entries.min() <= entries.max() < index.size:
        raise InputError(
            f"excluded items must be from 0 to {index.size - 1}, "
            f"got {entries.min()} to {entries.max()}"
        )
    rows = np.arange(len(queries))
    blocked = np.sort(np.repeat(rows, lengths) * index.size + entries)
    return _search(index, queries, k, rows, lengths, blocked)


def _search(
    index: ItemIndex,
    queries: FloatArray,
    k: int,
    rows: OffsetArray,
    lengths: OffsetArray,
    blocked: OffsetArray,
) -> tuple[FloatArray, OffsetArray]:
    """Search for ``queries``, whose rows in the sorted keys ``blocked`` are ``rows``."""
    scores = np.full((len(queries), k), PADDING_SCORE, dtype=np.float32)
    items = np.full((len(queries), k), PADDING_ITEM, dtype=np.int64)
    short = np.arange(len(queries))
    if not len(short):
        return scores, items
    depth = k + int(np.sort(lengths)[math.ceil(_USUAL_SHARE * (len(lengths) - 1))])
    while len(short):
        depth = min(depth, index.size)
        found_scores, found_items = index.search(queries[short], depth)
        allowed = _allowed(found_items, rows[short], index.size, blocked)
        rank = np.cumsum(allowed, axis=1)
        row, column = np.nonzero(allowed & (rank <= k))
        target = short[row], rank[row, column] - 1
        scores[target] = found_scores[row, column]
        items[target] = found_items[row, column]

        incomplete = rank[:, -1] < k
        exhausted = found_items[:, -1] == PADDING_ITEM
        rest = short[incomplete & exhausted]
        if len(rest) and not index.is_exact:  # asking for more would find no more
            scores[rest], items[rest] = _search(
                index.exact(), queries[rest], k, rows[rest], lengths[rest], blocked
            )
        short = short[incomplete & ~exhausted & (depth < index.size)]
        depth *= 2
    return scores, items


def _allowed(items: OffsetArray, rows: OffsetArray, size: int, blocked: OffsetArray) -> BoolArray:
    """Which of ``items`` (rows, depth) exist and are not among the sorted keys ``blocked``."""
    exists: BoolArray = items != PADDING_ITEM
    if not len(blocked):
        return exists
    keys = rows[:, None] * size + items
    place = np.searchsorted(blocked, keys)
    free: BoolArray = blocked[np.minimum(place, len(blocked) - 1)] != keys
    return exists & free
