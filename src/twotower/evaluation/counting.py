"""Counts of the candidates that score above and beside each target, and the rank they give."""

from typing import Literal, TypeAlias

import numpy as np

from twotower.data import Histories
from twotower.types import Array, DoubleArray, IndexArray, OffsetArray

Candidates: TypeAlias = Literal["unseen", "all"] | IndexArray
"""What a target is ranked among: the catalogue without the query's history, the whole
catalogue, or a ``(queries, count)`` array of sampled negatives."""


class Block:
    """Scores of consecutive queries, with their targets."""

    def __init__(self, scores: Array, start: int, wanted: Histories, seen: Histories) -> None:
        stop = start + len(scores)
        self.scores = scores  # (B, N)
        self.queries = slice(start, stop)
        self.wanted = wanted.select(np.arange(start, stop))
        self.seen = seen.select(np.arange(start, stop))
        self.rows = self.wanted.rows  # (P,)
        self.targets = scores[self.rows, self.wanted.items]  # (P,)
        self.pairs = slice(int(wanted.indptr[start]), int(wanted.indptr[stop]))
        self._catalogue: tuple[OffsetArray, OffsetArray] | None = None

    def ranks(self, candidates: Candidates) -> DoubleArray:
        """``(P,)`` expected ranks of the block's targets."""
        if isinstance(candidates, str):
            greater, equal = self._count_catalogue()
            out = self.wanted if candidates == "all" else _union(self.wanted, self.seen)
            out_greater, out_equal = self._count_rows(out)
            return self._place(greater - out_greater, equal - out_equal)
        scores = np.take_along_axis(self.scores, candidates[self.queries], axis=1)
        negatives, targets = scores[self.rows], self.targets[:, None]  # (P, count), (P, 1)
        return self._place((negatives > targets).sum(axis=1), (negatives == targets).sum(axis=1))

    def _count_catalogue(self) -> tuple[OffsetArray, OffsetArray]:
        """``(P,)`` items with a greater and with an equal score, the target among them."""
        if self._catalogue is None:
            greater = np.empty(len(self.rows), dtype=np.int64)
            equal = np.empty(len(self.rows), dtype=np.int64)
            hits = np.empty(self.scores.shape[1], dtype=bool)
            # Pair by pair: one row of scores and its mask stay in cache, and counting a
            # contiguous mask is vectorised, which a count along an axis of a matrix is not.
            for pair, (row, target) in enumerate(zip(self.rows, self.targets, strict=True)):
                scores = self.scores[row]
                greater[pair] = np.count_nonzero(np.greater(scores, target, out=hits))
                equal[pair] = np.count_nonzero(np.equal(scores, target, out=hits))
            self._catalogue = greater, equal
        return self._catalogue

    def _count_rows(self, items: Histories) -> tuple[OffsetArray, OffsetArray]:
        """``(P,)`` items of the target's row of ``items`` with a greater and an equal score."""
        per_pair = items.select(self.rows)
        pair = per_pair.rows
        scores, targets = self.scores[self.rows[pair], per_pair.items], self.targets[pair]
        return (
            np.bincount(pair[scores > targets], minlength=len(self.rows)),
            np.bincount(pair[scores == targets], minlength=len(self.rows)),
        )

    def _place(self, greater: OffsetArray, equal: OffsetArray) -> DoubleArray:
        """Ranks from counts over the candidates that are not targets of the same query.

        ``T`` targets among ``equal`` others with the same score take, in expectation, the
        places ``j * (equal + T + 1) / (T + 1)`` of the group; for ``T = 1`` that is the
        middle, ``1 + equal / 2``.
        """
        order = np.lexsort((-self.targets, self.rows))
        rows, targets = self.rows[order], self.targets[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (rows[1:] != rows[:-1]) | (targets[1:] != targets[:-1])
        group = np.cumsum(first) - 1
        starts = np.flatnonzero(first)
        tied = np.bincount(group)[group]
        j = np.arange(len(order)) - starts[group] + 1
        better_targets = starts[group] - self.wanted.indptr[rows]
        ranks = np.empty(len(order))
        ranks[order] = greater[order] + better_targets + j * (equal[order] + tied + 1) / (tied + 1)
        return ranks


def _union(left: Histories, right: Histories) -> Histories:
    """Row by row, the items of either, each once."""
    bound = 1 + max((int(rows.items.max()) for rows in (left, right) if len(rows.items)), default=0)
    keys = np.unique(np.r_[left.rows * bound + left.items, right.rows * bound + right.items])
    indptr = np.searchsorted(keys, np.arange(len(left) + 1) * bound)
    return Histories(indptr.astype(np.int64), (keys % bound).astype(np.int32))
