"""Implicit alternating least squares, with users folded in from their histories."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self, TypeAlias

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from twotower.config import Config
from twotower.data import Histories
from twotower.factors.fold_in import (
    FoldIn,
    gram_matrix,
    improve_rows,
    principal_basis,
    principal_directions,
    turn,
)
from twotower.factors.item_knn import interaction_matrix
from twotower.factors.scorer import FactorScorer
from twotower.types import Array, DoubleArray, FloatArray

_HELD: Final = 1 << 25
"""Numbers of folded-in prefixes held in memory, 128 MiB; beyond that, the prefixes sampled for the
Gram matrix are folded in twice."""
_GRAM_PREFIXES: Final = 500_000
"""Prefixes sampled for their Gram matrix, whose entries are then accurate to about 0.2%."""
_NEXT_TOLERANCE: Final = 1e-5
"""Relative residual of next-item factors, which no later round improves."""
_STARTED: Final = 65_536
"""Users whose random vectors are held at once."""
_FOLDED: Final = 16_384
"""Prefixes whose histories are laid out at once."""

Smooth: TypeAlias = Callable[[FloatArray], FloatArray]
"""Smooths item factors over similar items."""


class ALSConfig(Config):
    """Weighted matrix factorisation of implicit feedback (Hu, Koren and Volinsky, ICDM 2008)."""

    embedding_dim: int = Field(192, ge=1)
    """Length of a factor."""
    confidence: float = Field(40.0, gt=0)
    """Extra weight of an interaction over the absence of one; multiplied by the event's weight."""
    regularisation: float = Field(1.0, gt=0)
    """Weight of a factor's squared norm, for a row with a mean number of interactions."""
    frequency_power: float = Field(1.0, ge=0)
    """The weight grows with this power of a row's interactions (Rendle et al., *Revisiting the
    performance of iALS on item recommendation benchmarks*, RecSys 2022)."""
    iterations: int = Field(8, ge=1)
    """Rounds of solving for users, then for items."""
    ramp: float = Field(1.0, ge=1)
    """Divisor of the penalty in the first round; the penalty then rises to its full value
    geometrically. A strong penalty then shrinks factors instead of keeping them from growing."""
    fold_in_confidence: float = Field(20.0, gt=0)
    """Extra weight of the newest item when a history is folded in."""
    fold_in_regularisation: float | None = Field(None, gt=0)
    """``regularisation`` in the fold-in of a history; None for the same value."""
    recency: float = Field(0.4, gt=0, le=1)
    """Decay of the fold-in weight per newer item; 1 ignores the order."""
    next_item: bool = False
    """Whether to fit separate next-item factors, which score the item after a folded-in history."""
    next_regularisation: float = Field(10.0, gt=0)
    """``regularisation`` of the next-item factors."""
    next_share: float = Field(0.6, ge=0)
    """Share of an item's fold-in factor that is added to its next-item factor."""
    popularity_discount: float = Field(0.1, ge=0)
    """Scoring factors are multiplied by the item's share of interactions to minus this power:
    squared error over all items favours popular ones more than a ranking should."""
    history_length: int = Field(50, ge=1)
    """Most recent history items folded in to fit next-item factors."""

    @property
    def history_penalty(self) -> float:
        """Weight of a folded-in vector's squared norm."""
        return self.fold_in_regularisation or self.regularisation


def fit_factors(
    train: Histories,
    num_items: int,
    config: ALSConfig,
    seed: int = 0,
    share: float = 1.0,
) -> FloatArray:
    """Item factors of the training interactions, ``(num_items, d)`` in `principal_basis`.

    An item without interactions gets zeros. The numbering of items makes no difference beyond
    rounding. ``share`` is the share of users sampled into ``train``: items have that share of their
    interactions, and their penalty is multiplied by it.
    """
    by_user = interaction_matrix(train, num_items)
    by_item = by_user.T.tocsr()
    items = _started(by_user, config.embedding_dim, seed)
    users = np.zeros((len(train), config.embedding_dim), dtype=np.float32)
    for left in np.linspace(1, 0, config.iterations) if config.iterations > 1 else (0.0,):
        penalty = float(config.regularisation / config.ramp**left)
        _improve(users, items, by_user, penalty, config)
        _improve(items, users, by_item, share * penalty, config)
    return principal_basis(items)


def _started(by_user: csr_array, dim: int, seed: int) -> FloatArray:
    """``(num_items, d)`` random start that depends on an item's users, not on its number.

    Near zero: the first round must not rely on it.
    """
    rng = np.random.default_rng(seed)
    started = np.zeros((by_user.shape[1], dim), dtype=np.float32)
    for start in range(0, by_user.shape[0], _STARTED):
        rows = by_user[start : start + _STARTED]
        started += rows.T @ rng.standard_normal((rows.shape[0], dim), dtype=np.float32)
    events = np.bincount(by_user.indices, minlength=len(started))
    started *= (0.01 / np.sqrt(np.maximum(events, 1)).astype(np.float32))[:, None]
    return started


def _improve(
    vectors: FloatArray, table: FloatArray, rows: csr_array, penalty: float, config: ALSConfig
) -> None:
    """Half a round, in place: solve ``vectors`` given ``table``; both are rotated to its basis."""
    basis = principal_directions(table)
    turn(table, basis)
    turn(vectors, basis)
    indptr = rows.indptr.astype(np.int64)
    by_row = _penalty(np.diff(indptr), penalty, config)
    weights = np.float32(config.confidence) * rows.data
    improve_rows(vectors, table, indptr, rows.indices, weights, by_row)


def _penalty(counts: Array, regularisation: float, config: ALSConfig) -> FloatArray:
    """``(rows,)`` penalties that grow with a row's events."""
    penalty = regularisation * _of_the_mean(counts) ** config.frequency_power
    return penalty.astype(np.float32)


def _of_the_mean(counts: Array) -> DoubleArray:
    """``(rows,)`` events of each row by the mean of the rows that have any.

    How many rows have none, such as items without events, changes nothing for the others.
    """
    mean = counts.sum() / max(np.count_nonzero(counts), 1)
    return np.maximum(counts, 1) / max(float(mean), 1.0)


def fit_both_factors(
    train: Histories, num_items: int, config: ALSConfig, seed: int = 0, smooth: Smooth | None = None
) -> tuple[FloatArray, FloatArray]:
    """Fold-in factors and scoring factors; both ``(num_items, d)``.

    ``smooth`` is applied to the fold-in factors before they are used.
    """
    read = fit_factors(train, num_items, config, seed)
    if smooth is not None:
        read = principal_basis(smooth(read))
    if config.next_item:
        return read, fit_next_factors(train, read, config)
    return read, discounted(read, train, config.popularity_discount)


def fit_next_factors(train: Histories, factors: FloatArray, config: ALSConfig) -> FloatArray:
    r"""Next-item factors ``(num_items, d)`` in the basis of ``factors``.

    Plain ALS puts an item near its users, whenever they interacted with it. Here every prefix ``h``
    of every history is folded in, as in serving, and item ``i`` gets another least-squares solution
    against these vectors :math:`f(h)`,

    .. math:: w_i = \arg\min_w \sum_{h \to i} (1 + \alpha)(1 - f(h)^T w)^2
              + \sum_{h \not\to i} (f(h)^T w)^2 + \lambda_i \lVert w \rVert^2

    with :math:`h \to i` where ``i`` came right after ``h``. What comes next after a game is not
    what came before it. The share ``next_share`` of the item's own factor is added, and
    the sum is discounted by ``popularity_discount``.
    """
    following = following_factors(train, factors, config) + np.float32(config.next_share) * factors
    return discounted(following, train, config.popularity_discount)


def discounted(factors: FloatArray, train: Histories, power: float) -> FloatArray:
    """Factors ``(num_items, d)`` discounted by popularity: `ALSConfig.popularity_discount`."""
    share = _of_the_mean(np.bincount(train.items, minlength=len(factors)))
    return factors * (share**-power)[:, None].astype(np.float32)


def following_factors(
    train: Histories,
    factors: FloatArray,
    config: ALSConfig,
    most_prefixes: int | None = None,
    share: float = 1.0,
) -> FloatArray:
    """The :math:`w_i` of `fit_next_factors` alone, in blocks of prefixes.

    ``most_prefixes`` limits them to a random sample, for search trials; ``share`` is as in
    `fit_factors`.
    """
    prefixes = _Prefixes.of(train, factors, config)
    if most_prefixes is not None and len(prefixes) > most_prefixes:
        share *= most_prefixes / len(prefixes)
        rows = np.random.default_rng(0).permutation(len(prefixes))[:most_prefixes]
        prefixes = prefixes.select(np.sort(rows))
    prefixes = prefixes.select(np.argsort(prefixes.following, kind="stable"))
    width, count = factors.shape[1], len(prefixes)
    step = max(1, _HELD // (2 * width))
    held = prefixes.vectors() if count <= step else None
    gram = gram_matrix(held) if held is not None else _sampled_gram(prefixes, step)
    values, basis = np.linalg.eigh(gram)
    basis = np.ascontiguousarray(basis[:, ::-1], dtype=np.float32)
    spectrum = np.maximum(values[::-1], 0).astype(np.float32)
    counts = np.bincount(prefixes.following, minlength=len(factors))
    penalty = share * _penalty(counts, config.next_regularisation, config)
    indptr = np.append(0, np.cumsum(counts))
    solved = np.zeros_like(factors)
    first = 0
    while first < len(factors):  # items whose prefixes fit into a block, at least one
        last = max(first + 1, int(np.searchsorted(indptr, indptr[first] + step, "right")) - 1)
        last = min(last, len(factors))
        part = slice(int(indptr[first]), int(indptr[last]))
        vectors = prefixes.select(part).vectors() if held is None else held[part]
        improve_rows(
            solved[first:last], vectors @ basis, indptr[first : last + 1] - indptr[first],
            np.arange(len(vectors)), config.confidence * prefixes.select(part).weights,
            penalty[first:last], spectrum, _NEXT_TOLERANCE,
        )  # fmt: skip
        first = last
    following: FloatArray = solved @ basis.T
    return following


def _sampled_gram(prefixes: "_Prefixes", step: int) -> DoubleArray:
    """``(d, d)`` Gram matrix of all prefixes, from at most `_GRAM_PREFIXES` of them."""
    width, count = prefixes.fold.table.shape[1], len(prefixes)
    taken = min(count, _GRAM_PREFIXES)
    rows = np.sort(np.random.default_rng(0).permutation(count)[:taken])
    gram = np.zeros((width, width))
    for start in range(0, taken, step):
        gram += gram_matrix(prefixes.select(rows[start : start + step]).vectors())
    return gram * (count / taken)


@dataclass(frozen=True)
class _Prefixes:
    """Prefixes of training histories, and the item after each."""

    train: Histories
    """The histories."""
    fold: FoldIn
    """Makes vectors of them."""
    last: Array
    lengths: Array
    """``(prefixes,)`` place of the newest event, and how many events are read."""

    @classmethod
    def of(cls, train: Histories, factors: FloatArray, config: ALSConfig) -> Self:
        starts = np.repeat(train.indptr[:-1], train.lengths)
        ends = np.repeat(train.indptr[1:], train.lengths)
        last = np.flatnonzero(np.arange(len(train.items)) + 1 < ends)
        if train.learned is not None:
            last = last[train.learned[last + 1] > 0]
        lengths = np.minimum(last - starts[last] + 1, config.history_length)
        return cls(train, fold_in(factors, config), last, lengths)

    def __len__(self) -> int:
        return len(self.last)

    @property
    def following(self) -> Array:
        """``(prefixes,)`` the next item."""
        following: Array = self.train.items[self.last + 1]
        return following

    @property
    def weights(self) -> FloatArray:
        """``(prefixes,)`` weight of predicting the next item."""
        learned = self.train.learned
        if learned is None:
            return np.ones(len(self), dtype=np.float32)
        weights: FloatArray = learned[self.last + 1]
        return weights

    def select(self, rows: Array | slice) -> Self:
        """Some of them."""
        return replace(self, last=self.last[rows], lengths=self.lengths[rows])

    def vectors(self) -> FloatArray:
        """``(prefixes, d)`` folded in, a block at a time."""
        vectors = np.empty((len(self), self.fold.table.shape[1]), dtype=np.float32)
        for start in range(0, len(self), _FOLDED):
            last, lengths = (
                self.last[start : start + _FOLDED],
                self.lengths[start : start + _FOLDED],
            )
            indptr = np.append(0, np.cumsum(lengths))
            places = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - (last + 1 - lengths), lengths)
            weights = self.train.weights
            vectors[start : start + _FOLDED] = self.fold(
                Histories(
                    indptr,
                    self.train.items[places],
                    weights=None if weights is None else weights[places],
                )
            )
        return vectors


def fold_in(factors: FloatArray, config: ALSConfig) -> FoldIn:
    """The fold-in of histories onto these factors."""
    return FoldIn(factors, config.fold_in_confidence, config.recency, config.history_penalty)


@dataclass(frozen=True)
class ALS(FactorScorer):
    """ALS as a model of its own: every user, known or not, is folded in from the history."""

    @classmethod
    def fit(
        cls,
        train: Histories,
        num_items: int,
        config: ALSConfig | None = None,
        seed: int = 0,
        smooth: Smooth | None = None,
    ) -> Self:
        """Factorise the training interactions: see `fit_both_factors`."""
        config = config or ALSConfig()
        read, scoring = fit_both_factors(train, num_items, config, seed, smooth)
        maker = fold_in(read, config)
        return cls(scoring, lambda queries: maker(queries.histories))
