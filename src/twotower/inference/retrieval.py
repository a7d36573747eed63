"""Retrieval: nearest-neighbour search among the eligible items."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from twotower.index import ItemIndex, top_k_of
from twotower.inference.eligibility import EligibilityMask
from twotower.types import FloatArray, IndexArray, OffsetArray

_SPARSE: Final = 16
"""If fewer than one item in this many is eligible, those are scored directly, without the index."""
_DEEPER: Final = 4
"""Factor by which a search that found too few items is deepened."""
_USUAL_SHARE: Final = 0.9
"""Quantile of history lengths that sets a batch's depth: one long history must not make every
search deep."""


def nearest(
    index: ItemIndex,
    vectors: FloatArray,
    query: FloatArray,
    k: int,
    eligible: EligibilityMask,
    found: tuple[FloatArray, OffsetArray] | None = None,
    stale: OffsetArray | None = None,
) -> tuple[FloatArray, OffsetArray]:
    """The ``k`` eligible items with the largest inner product; fewer only if fewer are eligible.

    The index is searched ever deeper while too few of the items found are eligible. If that would
    cover most of the index, or an approximate index returns no more, every eligible item is scored.

    Parameters
    ----------
    index
        Index of the first ``index.size`` rows of ``vectors``; later rows are scored exactly.
    vectors, query
        ``(items, d)`` and ``(d,)`` float32.
    k
        At least 1.
    found
        Scores and items that the index already found for the query, best first.
    stale
        Rows whose vectors differ from those in the index; they are scored exactly.

    Returns
    -------
    scores, items
        ``(found,)`` float32 and int64, best first.
    """
    size, least = len(eligible), eligible.min_count
    if _few(least, k, size):
        rows = eligible.rows()
        if _few(len(rows), k, size):
            return _scan(vectors, query, k, rows)
    if found is None:
        found = _search(index, query, depth(k, size, size - least))
    while True:
        scores, items = found
        reached, exhausted = len(items), bool(items[-1] < 0)
        stays = eligible.contains(items)
        if exhausted:
            stays &= items >= 0
        if stale is not None and len(stale):
            stays &= ~np.isin(items, stale)
        scores, items = scores[stays], items[stays]
        if len(items) >= k or (reached >= index.size and not exhausted):
            return _with_late(index, vectors, query, k, eligible, scores, items, stale)
        if exhausted or reached * _DEEPER * _DEEPER > index.size:
            return _scan(vectors, query, k, eligible.rows())
        found = _search(index, query, reached * _DEEPER)


def search_block(
    index: ItemIndex,
    queries: FloatArray,
    k: int,
    eligible: EligibilityMask,
    seen: Sequence[IndexArray],
) -> tuple[FloatArray, OffsetArray]:
    """One search for many requests, deep enough for most of them to find ``k`` eligible items.

    ``eligible`` are the items allowed for every user, ``seen`` those to exclude for each query.
    """
    lengths, size = sorted(map(len, seen)), len(eligible)
    usual = lengths[math.ceil(_USUAL_SHARE * (len(lengths) - 1))]
    deep = depth(k + usual, size, size - eligible.count)
    return index.search(queries, min(deep, index.size))


def _few(usable: int, k: int, items: int) -> bool:
    """Whether so few items are usable that scoring them directly beats using the index."""
    return usable <= k or usable * _SPARSE < items


def depth(k: int, items: int, closed: int) -> int:
    """How many items to search for to likely get ``k`` eligible ones.

    Assumes that the ``closed`` (ineligible) items are spread evenly over the ranks.
    """
    return min(items, k + 8 + (k * closed) // max(items - closed, 1))


def _search(index: ItemIndex, query: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
    scores, items = index.search(query[None], min(k, index.size))
    return scores[0], items[0]


def _with_late(
    index: ItemIndex,
    vectors: FloatArray,
    query: FloatArray,
    k: int,
    eligible: EligibilityMask,
    scores: FloatArray,
    items: OffsetArray,
    stale: OffsetArray | None,
) -> tuple[FloatArray, OffsetArray]:
    """Merge in rows that the index lacks or holds stale; its own best ``k`` suffice."""
    found, rows = [scores[:k]], [items[:k]]
    if len(eligible) > index.size:
        late = eligible.rows(index.size)
        beside = vectors[index.size :] @ query  # scores all: copying a selection takes longer
        found.append(beside[late - index.size])
        rows.append(late)
    if stale is not None and len(stale):
        rows.append(stale[eligible.contains(stale)])
        found.append(vectors[rows[-1]] @ query)
    if len(rows) > 1:
        scores, items = np.concatenate(found), np.concatenate(rows)
        best = top_k_of(scores, k)
        scores, items = scores[best], items[best]
    return scores[:k], items[:k]


def _scan(
    vectors: FloatArray, query: FloatArray, k: int, items: OffsetArray
) -> tuple[FloatArray, OffsetArray]:
    # Copying most rows costs more than the products that it saves.
    most = 2 * len(items) > len(vectors)
    scores = (vectors @ query)[items] if most else vectors[items] @ query
    best = top_k_of(scores, k)
    return scores[best], items[best]
