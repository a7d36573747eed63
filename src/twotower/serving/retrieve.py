"""The nearest items among those that may be recommended."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from twotower.index import ItemIndex
from twotower.types import BoolArray, FloatArray, IndexArray, OffsetArray

_SPARSE: Final = 16
"""Where fewer than one item in so many is open, those alone are scored, without the index."""
_DEEPER: Final = 4
"""By how much a search that came back short is widened."""
_USUAL_SHARE: Final = 0.9
"""One long history in a batch must not make every search deep."""


def nearest(
    index: ItemIndex,
    vectors: FloatArray,
    query: FloatArray,
    k: int,
    open_items: BoolArray,
    found: tuple[FloatArray, OffsetArray] | None = None,
) -> tuple[FloatArray, OffsetArray]:
    """The ``k`` open items with the largest inner product, fewer only where fewer are open.

    The index is asked for more, and deeper, while too few of what it finds are open. Where that
    would be most of it, or an approximate index has no more to give, every open item is scored.

    Parameters
    ----------
    index
        Of the first ``index.size`` rows of ``vectors``; the rows behind are scored one by one.
    vectors
        ``(items, d)`` float32.
    query
        ``(d,)`` float32.
    k
        At least 1.
    open_items
        ``(items,)`` which items may be recommended.
    found
        What the index found for the query already: scores and items, best first.

    Returns
    -------
    scores, items
        ``(found,)`` float32 and int64, best first.
    """
    usable = int(np.count_nonzero(open_items))
    if usable <= k or usable * _SPARSE < len(open_items):
        return _scan(vectors, query, k, open_items)
    if found is None:
        found = _search(index, query, depth(k, len(open_items), len(open_items) - usable))
    while True:
        scores, items = found
        reached, exhausted = len(items), bool(items[-1] < 0)
        stays = items >= 0
        stays[stays] = open_items[items[stays]]
        scores, items = scores[stays], items[stays]
        if len(items) >= k or (reached >= index.size and not exhausted):
            return _with_late(index, vectors, query, k, open_items, scores, items)
        if exhausted or reached * _DEEPER * _DEEPER > index.size:
            return _scan(vectors, query, k, open_items)
        found = _search(index, query, reached * _DEEPER)


def search_block(
    index: ItemIndex,
    queries: FloatArray,
    k: int,
    open_items: BoolArray,
    seen: Sequence[IndexArray],
) -> tuple[FloatArray, OffsetArray]:
    """One search for many requests, deep enough that most find ``k`` items to recommend.

    Parameters
    ----------
    open_items
        ``(items,)`` which items may be recommended to anybody.
    seen
        For each query the items that it must not get.
    """
    lengths = sorted(map(len, seen))
    usual = lengths[math.ceil(_USUAL_SHARE * (len(lengths) - 1))]
    closed = len(open_items) - int(np.count_nonzero(open_items))
    return index.search(queries, min(depth(k + usual, len(open_items), closed), index.size))


def depth(k: int, items: int, closed: int) -> int:
    """How many to ask for so that ``k`` are likely open, where ``closed`` are spread evenly."""
    return min(items, k + 8 + (k * closed) // max(items - closed, 1))


def _search(index: ItemIndex, query: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
    scores, items = index.search(query[None], min(k, index.size))
    return scores[0], items[0]


def _with_late(
    index: ItemIndex,
    vectors: FloatArray,
    query: FloatArray,
    k: int,
    open_items: BoolArray,
    scores: FloatArray,
    items: OffsetArray,
) -> tuple[FloatArray, OffsetArray]:
    """Merge what the index does not hold yet; at most ``k`` of either can be among the best."""
    if len(open_items) > index.size:
        late = np.flatnonzero(open_items[index.size :])
        beside = vectors[index.size :] @ query  # of all of them: a copy of some takes longer
        scores = np.concatenate([scores[:k], beside[late]])
        items = np.concatenate([items[:k], late + index.size])
        order = np.argsort(-scores, kind="stable")
        scores, items = scores[order], items[order]
    return scores[:k], items[:k]


def _scan(
    vectors: FloatArray, query: FloatArray, k: int, open_items: BoolArray
) -> tuple[FloatArray, OffsetArray]:
    items = np.flatnonzero(open_items)
    # A copy of most rows costs more than the products that it saves.
    most = 2 * len(items) > len(open_items)
    scores = (vectors @ query)[items] if most else vectors[items] @ query
    if k < len(items):
        best = np.argpartition(-scores, k - 1)[:k]
        scores, items = scores[best], items[best]
    order = np.lexsort((items, -scores))
    return scores[order], items[order]
