"""Ranks of held-out targets among their candidates, counted without sorting the catalogue."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, TypeAlias

import numpy as np

from twotower.data import Histories, Queries
from twotower.data.histories import joined
from twotower.errors import InputError, TwoTowerError
from twotower.factors.scorer import Scorer, VectorScorer, distinct
from twotower.index.top_k import top_k
from twotower.types import Array, DoubleArray, FloatArray, IndexArray, OffsetArray

Candidates: TypeAlias = Literal["unseen", "all"] | IndexArray
"""Candidates of a target: the catalogue without the query's history, the whole catalogue, or a
``(queries, count)`` array of sampled negatives."""

BatchCallback: TypeAlias = Callable[[int], object]
"""Called after each batch with the number of queries that it held."""

BATCH_SIZE = 1024
_BLOCK_VALUES = 1 << 23
"""Scores computed at a time from vectors, 32 MiB: they are counted soon after, partly in cache."""


class ScoreError(TwoTowerError):
    """A model's scores cannot be ranked: NaN, or an array of the wrong shape."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Rank of each target among the candidates of its query."""

    ranks: DoubleArray
    """``(pairs,)`` float64, 1 is best. Where scores tie, the rank is the expectation under random
    tie-breaking and may be fractional."""
    indptr: OffsetArray
    """``(queries + 1,)`` int64; the targets of query ``q`` are ``ranks[indptr[q]:indptr[q + 1]]``,
    at least one."""
    worth: DoubleArray | None = None
    """``(pairs,)`` value of each target, such as its price; None if not needed."""

    def __post_init__(self) -> None:
        if len(self.indptr) == 0 or int(self.indptr[-1]) != len(self.ranks):
            raise InputError(
                f"indptr must end at the number of ranks {len(self.ranks)}, "
                f"got {self.indptr[-1:].tolist()}"
            )
        empty = np.flatnonzero(np.diff(self.indptr) < 1)
        if len(empty):
            raise InputError(f"every query needs a target, query {empty[0]} has none")

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @classmethod
    def single(cls, ranks: Array) -> Self:
        """One target per query."""
        return cls(np.asarray(ranks, dtype=np.float64), np.arange(len(ranks) + 1, dtype=np.int64))


class RankingResult(NamedTuple):
    """Ranks and lists from one pass over the scores."""

    ranks: dict[str, Ranks]
    """Name of the candidates → ranks, one per distinct target, in the order of the targets."""
    lists: IndexArray | None
    """``(queries, k)`` the best unseen items, best first; None if no lists were requested."""


def full_ranks(
    scorer: Scorer,
    queries: Queries,
    targets: Histories,
    *,
    exclude_seen: bool = True,
    batch_size: int = BATCH_SIZE,
    progress: BatchCallback | None = None,
) -> Ranks:
    """Rank targets among the whole catalogue, by default without the query's seen items.

    A target that is also in the history stays a candidate. Ranked among unseen items only, it
    would be leaked: pass ``exclude_seen=False`` for a log with repeats (`Dataset.has_repeats`).
    See `rank_and_list` for the arguments and errors.
    """
    candidates: dict[str, Candidates] = {"full": "unseen" if exclude_seen else "all"}
    found = rank_and_list(
        scorer, queries, targets, candidates, batch_size=batch_size, progress=progress
    )
    return found.ranks["full"]


def rank_and_list(
    scorer: Scorer,
    queries: Queries,
    targets: Histories,
    candidates: Mapping[str, Candidates],
    *,
    seen: Histories | None = None,
    lists: int = 0,
    worth: DoubleArray | None = None,
    batch_size: int = BATCH_SIZE,
    progress: BatchCallback | None = None,
) -> RankingResult:
    """Rank targets under several sets of candidates in one pass over the scores.

    A target ranks behind every candidate with a greater score: ``1 + greater + equal / 2``,
    where ``equal`` counts the other candidates with exactly its score. All targets of a
    query are candidates, as in the all-ranking protocol of LightGCN (He et al., SIGIR 2020):
    only the history is excluded, and a target may rank behind another target. Where
    several targets tie, the j-th of them takes the expected j-th smallest rank, so that no
    two targets share a rank.

    Scores are never written to: excluded items are subtracted from the counts.

    Parameters
    ----------
    scorer
        A model. The vectors of a `VectorScorer` are multiplied here, block by block.
    queries, targets
        One row each per query; a target listed twice counts once.
    candidates
        Name → candidates to rank among.
    seen
        One row per query of items that "unseen" excludes, for example if the histories are
        truncated; None for the histories without event kinds that do not count as seen.
    lists
        Also list this many of the best unseen items of each query; equal scores rank by item.
    worth
        ``(num_items,)`` item values, passed on to metrics in `Ranks`; or None.
    batch_size
        Queries scored at a time: memory is ``batch_size * num_items`` scores, and 32 MiB for
        a `VectorScorer`.
    progress
        Called with the number of queries of each finished batch.

    Raises
    ------
    InputError
        No queries, a query without a target, rows that do not match, an item outside the
        catalogue, ``batch_size`` below 1, too few items left for a list.
    ScoreError
        A score is NaN, or the scores do not have one row per query and one column per item.
    """
    num_items = scorer.num_items
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    seen = queries.histories.seen if seen is None else seen
    _check(queries, targets, candidates, num_items)
    for rows in (targets, seen):
        _check_items(rows.items, num_items)
    wanted, seen = distinct(targets), distinct(seen)
    if len(seen) != len(queries):
        raise InputError(
            f"seen must have one row per query, got {len(seen)} for {len(queries)} queries"
        )
    found = {name: np.empty(len(wanted.items)) for name in candidates}
    best: IndexArray | None = None
    if lists:
        check_lists(seen, num_items, lists)
        best = np.empty((len(queries), lists), dtype=np.int32)
    for start, scores in _blocks(scorer, queries, batch_size):
        block = _Block(scores, start, wanted, seen)
        for name, what in candidates.items():
            found[name][block.pairs] = block.ranks(what)
        if best is not None:
            best[block.queries] = top_k(scores, lists, block.seen).items
        if progress is not None:
            progress(len(scores))
    priced = None if worth is None else worth[wanted.items]
    ranks = {name: Ranks(values, wanted.indptr, priced) for name, values in found.items()}
    return RankingResult(ranks, best)


class _Block:
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
            out = self.wanted
            if candidates == "unseen":
                out = distinct(joined(out, self.seen))
            out_greater, out_equal = self._count_rows(out)
            return self._ranks_of(greater - out_greater, equal - out_equal)
        scores = np.take_along_axis(self.scores, candidates[self.queries], axis=1)
        negatives, targets = scores[self.rows], self.targets[:, None]  # (P, count), (P, 1)
        return self._ranks_of((negatives > targets).sum(axis=1), (negatives == targets).sum(axis=1))

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

    def _ranks_of(self, greater: OffsetArray, equal: OffsetArray) -> DoubleArray:
        """Ranks from counts over the candidates that are not targets of the same query.

        ``T`` targets among ``equal`` others with the same score take, in expectation, the
        ranks ``j * (equal + T + 1) / (T + 1)`` of the group; for ``T = 1`` that is the
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


def _blocks(scorer: Scorer, queries: Queries, batch_size: int) -> Iterator[tuple[int, Array]]:
    """First query and ``(rows, num_items)`` scores of consecutive queries, checked."""
    num_items = scorer.num_items
    vectors = scorer.item_vectors().T if isinstance(scorer, VectorScorer) else None
    block_rows = min(batch_size, max(1, _BLOCK_VALUES // max(1, num_items)))
    buffer: FloatArray | None = None
    for start in range(0, len(queries), batch_size):
        batch = queries.select(np.arange(start, min(start + batch_size, len(queries))))
        if isinstance(scorer, VectorScorer) and vectors is not None:
            users = scorer.user_vectors(batch)
            if len(users) != len(batch):
                raise ScoreError(f"user_vectors must have {len(batch)} rows, got {len(users)}")
            if buffer is None:
                buffer = np.empty((block_rows, num_items), np.result_type(users, vectors))
            for first in range(0, len(batch), block_rows):
                block = users[first : first + block_rows]
                scores = np.matmul(block, vectors, out=buffer[: len(block)])
                yield start + first, _checked(scores, start + first, (len(block), num_items))
        else:
            yield start, _checked(scorer.scores(batch), start, (len(batch), num_items))


def _checked(scores: Array, start: int, shape: tuple[int, int]) -> Array:
    if scores.shape != shape:
        raise ScoreError(f"scores must have shape {shape}, got {scores.shape}")
    if np.isnan(scores.max()):  # a NaN anywhere makes the maximum NaN
        row, item = np.argwhere(np.isnan(scores))[0]
        raise ScoreError(f"scores must be numbers, got NaN for query {start + row}, item {item}")
    return scores


def check_lists(seen: Histories, num_items: int, k: int) -> None:
    """Raise `InputError`, before scoring, if a query has fewer than ``k`` items left."""
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    left = num_items - int(seen.lengths.max(initial=0))
    if left < k:
        raise InputError(
            f"lists of {k} items cannot be made: a query has {left} of {num_items} items left "
            "beside its history",
            f"ask for {left} or fewer",
        )


def _check(
    queries: Queries, targets: Histories, candidates: Mapping[str, Candidates], num_items: int
) -> None:
    if len(queries) == 0:
        raise InputError("no queries to evaluate", "hold out at least one interaction")
    if len(targets) != len(queries):
        raise InputError(
            f"targets must have one row per query, got {len(targets)} for {len(queries)} queries"
        )
    empty = np.flatnonzero(targets.lengths == 0)
    if len(empty):
        raise InputError(f"every query needs a target, query {empty[0]} has none")
    for name, what in candidates.items():
        if isinstance(what, str):
            continue
        if what.ndim != 2 or len(what) != len(queries):
            raise InputError(
                f"negatives of {name!r} must be (queries, count), "
                f"got {what.shape} for {len(queries)} queries"
            )
        _check_items(what, num_items)


def _check_items(items: IndexArray, num_items: int) -> None:
    if items.size and not 0 <= items.min() <= items.max() < num_items:
        raise InputError(
            f"item indices must be from 0 to {num_items - 1}, got {items.min()} to {items.max()}"
        )
