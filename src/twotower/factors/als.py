"""Implicit alternating least squares, with users folded in from their histories."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.data import Histories
from twotower.factors.fold_in import FoldIn, principal_basis, principal_directions, solve_rows
from twotower.factors.item_knn import binary_matrix
from twotower.factors.scorer import FactorScorer
from twotower.types import Array, FloatArray

Lend: TypeAlias = Callable[[FloatArray], FloatArray]
"""Item factors to item factors that borrow from each other."""


class ALSConfig(Config):
    """Weighted matrix factorisation of who had what (Hu, Koren and Volinsky, ICDM 2008)."""

    embedding_dim: int = Field(192, ge=1)
    """Length of a factor."""
    confidence: float = Field(40.0, gt=0)
    """Extra weight of an interaction over the absence of one."""
    regularisation: float = Field(1.0, gt=0)
    """Weight of a factor's squared norm, for a row with a mean number of interactions."""
    frequency_power: float = Field(1.0, ge=0)
    """The weight grows with this power of a row's interactions (Rendle et al., *Revisiting the
    performance of iALS on item recommendation benchmarks*, RecSys 2022)."""
    iterations: int = Field(8, ge=1)
    """Rounds of solving for users, then for items."""
    fold_in_confidence: float = Field(20.0, gt=0)
    """Extra weight of the newest item when a history is folded in."""
    recency: float = Field(0.4, gt=0, le=1)
    """What that weight is multiplied by for each newer item; 1 forgets the order."""
    next_item: bool = False
    """Whether items are also fitted as what comes next after a history that is folded in."""
    next_regularisation: float = Field(10.0, gt=0)
    """As ``regularisation``, for these second factors."""
    next_share: float = Field(0.6, ge=0)
    """How much of the factor that a history is read with is added to the one that scores."""
    popularity_discount: float = Field(0.1, ge=0)
    """The factors that score are multiplied by the item's share of interactions to minus this
    power: squared errors over everything favour popular items more than a ranking should."""
    history_length: int = Field(50, ge=1)
    """Newest items of a history that are folded in, when second factors are fitted."""


def fit_factors(train: Histories, num_items: int, config: ALSConfig, seed: int = 0) -> FloatArray:
    """Item factors of the training interactions, ``(num_items, d)`` in `principal_basis`.

    An item without an interaction gets zeros.
    """
    by_user = binary_matrix(train, num_items)
    by_item = by_user.T.tocsr()
    rng = np.random.default_rng(seed)
    # Near zero: the first round must not trust the random start.
    items = rng.normal(0, 0.01, (num_items, config.embedding_dim)).astype(np.float32)
    penalty = config.regularisation
    for _ in range(config.iterations):
        users = _solved(principal_basis(items), by_user.indptr, by_user.indices, penalty, config)
        items = _solved(principal_basis(users), by_item.indptr, by_item.indices, penalty, config)
    return principal_basis(items)


def _solved(
    table: FloatArray, indptr: Array, events: Array, regularisation: float, config: ALSConfig
) -> FloatArray:
    """Rows with one confidence, each with a penalty that grows with its events."""
    counts = np.diff(indptr)
    share = np.maximum(counts, 1) / max(float(counts.mean()), 1e-9)
    penalty = (regularisation * share**config.frequency_power).astype(np.float32)
    weights = np.full(len(events), config.confidence, dtype=np.float32)
    return solve_rows(table, indptr.astype(np.int64), events, weights, penalty)


def fit_both_factors(
    train: Histories, num_items: int, config: ALSConfig, seed: int = 0, lend: Lend | None = None
) -> tuple[FloatArray, FloatArray]:
    """The factors that histories are read with, and those that score; both ``(num_items, d)``.

    ``lend`` changes the first, before anything is read with them.
    """
    read = fit_factors(train, num_items, config, seed)
    if lend is not None:
        read = principal_basis(lend(read))
    return read, fit_next_factors(train, read, config) if config.next_item else read


def fit_next_factors(train: Histories, factors: FloatArray, config: ALSConfig) -> FloatArray:
    r"""Item factors that score what comes next, ``(num_items, d)`` in the basis of ``factors``.

    Least squares as it is fitted puts an item near those who have it, whenever they got it. Here
    every prefix ``h`` of every history is folded in, as it will be at serving time, and item
    ``i`` gets one more least-squares solution against these vectors :math:`f(h)`,

    .. math:: w_i = \arg\min_w \sum_{h \to i} (1 + \alpha)(1 - f(h)^T w)^2
              + \sum_{h \not\to i} (f(h)^T w)^2 + \lambda_i \lVert w \rVert^2

    with :math:`h \to i` where ``i`` came right after ``h``. What comes next after a game is not
    what came before it. The share ``next_share`` of the item's own factor is added, and
    the sum is discounted by ``popularity_discount``.
    """
    users, items = _prefixes(train, factors, config)
    basis = principal_directions(users)
    order = np.argsort(items, kind="stable")
    indptr = np.append(0, np.cumsum(np.bincount(items, minlength=len(factors))))
    solved = _solved(users @ basis, indptr, order, config.next_regularisation, config)
    following = solved @ basis.T + np.float32(config.next_share) * factors
    popularity = np.maximum(np.bincount(train.items, minlength=len(factors)), 1)
    discount = (popularity / popularity.mean()) ** -config.popularity_discount
    discounted: FloatArray = following * discount[:, None].astype(np.float32)
    return discounted


def _prefixes(train: Histories, factors: FloatArray, config: ALSConfig) -> tuple[FloatArray, Array]:
    """The folded-in vector of every prefix, ``(prefixes, d)``, and the item that came next."""
    starts = np.repeat(train.indptr[:-1], train.lengths)
    ends = np.repeat(train.indptr[1:], train.lengths)
    last = np.flatnonzero(np.arange(len(train.items)) + 1 < ends)  # the prefix's last event
    lengths = np.minimum(last - starts[last] + 1, config.history_length)
    indptr = np.append(0, np.cumsum(lengths))
    places = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - (last + 1 - lengths), lengths)
    fold = fold_in(factors, config)
    return fold(Histories(indptr, train.items[places])), train.items[last + 1]


def fold_in(factors: FloatArray, config: ALSConfig) -> FoldIn:
    """What makes user vectors against these factors."""
    return FoldIn(factors, config.fold_in_confidence, config.recency, config.regularisation)


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
        lend: Lend | None = None,
    ) -> Self:
        """Factorise the training interactions: see `fit_both_factors`."""
        config = config or ALSConfig()
        read, scoring = fit_both_factors(train, num_items, config, seed, lend)
        maker = fold_in(read, config)
        return cls(scoring, lambda queries: maker(queries.histories))
