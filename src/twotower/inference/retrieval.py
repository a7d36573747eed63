"""The nearest items among those that may be recommended."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from twotower.index import ItemIndex, top_k_of
from twotower.inference.eligibility import OpenItems
from twotower.types import FloatArray, IndexArray, OffsetArray

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
    open_items: OpenItems,
    found: tuple[FloatArray, OffsetArray] | None = None,
    stale: OffsetArray | None = None,
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
        Which items may be recommended.
    found
        What the index found for the query already: scores and items, best first.
    stale
        Rows whose vectors are no longer those that the index holds: they are scored one by one.

    Returns
    -------
    scores, items
        ``(found,)`` float32 and int64, best first.
    """
    closed = len(open_items) - open_items.at_least
    if _few(open_items.at_least, k, len(open_items)):
        rows = open_items.rows()
        if _few(len(rows), k, len(open_items)):
            return _scan(vectors, query, k, rows)
    if found is None:
        found = _search(index, query, depth(k, len(open_items), closed))
    while True:
        scores, items = found
        reached, exhausted = len(items), bool(items[-1] < 0)
        stays = open_items.have(items)
        if exhausted:
            stays &= items >= 0
        if stale is not None and len(stale):
            stays &= ~np.isin(items, stale)
        scores, items = scores[stays], items[stays]
        if len(items) >= k or (reached >= index.size and not exhausted):
            return _with_late(index, vectors, query, k, open_items, scores, items, stale)
        if exhausted or reached * _DEEPER * _DEEPER > index.size:
            return _scan(vectors, query, k, open_items.rows())
        found = _search(index, query, reached * _DEEPER)


def search_block(
    index: ItemIndex,
    queries: FloatArray,
    k: int,
    open_items: OpenItems,
    seen: Sequence[IndexArray],
) -> tuple[FloatArray, OffsetArray]:
    """One search for many requests, deep enough that most find ``k`` items to recommend.

    Parameters
    ----------
    open_items
        Which items may be recommended to anybody.
    seen
        For each query the items that it must not get.
    """
    lengths = sorted(map(len, seen))
    usual = lengths[math.ceil(_USUAL_SHARE * (len(lengths) - 1))]
    closed = len(open_items) - open_items.count
    return index.search(queries, min(depth(k + usual, len(open_items), closed), index.size))


def _few(usable: int, k: int, items: int) -> bool:
    """Whether those alone are scored, without the index."""
    return usable <= k or usable * _SPARSE < items


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
    open_items: OpenItems,
    scores: FloatArray,
    items: OffsetArray,
    stale: OffsetArray | None,
) -> tuple[FloatArray, OffsetArray]:
    """Merge what the index does not hold as it is; at most ``k`` of what it holds can be best."""
    found, rows = [scores[:k]], [items[:k]]
    if len(open_items) > index.size:
        late = open_items.rows(index.size)
        beside = vectors[index.size :] @ query  # of all of them: a copy of some takes longer
        found.append(beside[late - index.size])
        rows.append(late)
    if stale is not None and len(stale):
        rows.append(stale[open_items.have(stale)])
        found.append(vectors[rows[-1]] @ query)
    if len(rows) > 1:
        scores, items = np.concatenate(found), np.concatenate(rows)
        best = top_k_of(scores, k)
        scores, items = scores[best], items[best]
    return scores[:k], items[:k]


def _scan(
    vectors: FloatArray, query: FloatArray, k: int, items: OffsetArray
) -> tuple[FloatArray, OffsetArray]:
    # A copy of most rows costs more than the products that it saves.
    most = 2 * len(items) > len(vectors)
    scores = (vectors @ query)[items] if most else vectors[items] @ query
    best = top_k_of(scores, k)
    return scores[best], items[best]
