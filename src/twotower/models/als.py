"""Implicit alternating least squares, with users folded in from their histories."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.data import Histories
from twotower.features import FoldIn, principal_basis, solve_rows
from twotower.models.factors import FactorScorer
from twotower.models.item_knn import binary_matrix
from twotower.types import Array, FloatArray


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
    recency: float = Field(0.5, gt=0, le=1)
    """What that weight is multiplied by for each newer item; 1 forgets the order."""


def fit_factors(train: Histories, num_items: int, config: ALSConfig, seed: int = 0) -> FloatArray:
    """Item factors of the training interactions, ``(num_items, d)`` in `principal_basis`.

    An item without an interaction gets zeros.
    """
    by_user = binary_matrix(train, num_items)
    by_item = by_user.T.tocsr()
    rng = np.random.default_rng(seed)
    # Near zero: the first round must not trust the random start.
    items = rng.normal(0, 0.01, (num_items, config.embedding_dim)).astype(np.float32)
    for _ in range(config.iterations):
        users = _solved(principal_basis(items), by_user.indptr, by_user.indices, config)
        items = _solved(principal_basis(users), by_item.indptr, by_item.indices, config)
    return principal_basis(items)


def _solved(table: FloatArray, indptr: Array, events: Array, config: ALSConfig) -> FloatArray:
    counts = np.diff(indptr)
    share = np.maximum(counts, 1) / max(float(counts.mean()), 1e-9)
    penalty = (config.regularisation * share**config.frequency_power).astype(np.float32)
    weights = np.full(len(events), config.confidence, dtype=np.float32)
    return solve_rows(table, indptr.astype(np.int64), events, weights, penalty)


def fold_in(factors: FloatArray, config: ALSConfig) -> FoldIn:
    """What makes user vectors against these factors."""
    return FoldIn(factors, config.fold_in_confidence, config.recency, config.regularisation)


@dataclass(frozen=True)
class ALS(FactorScorer):
    """ALS as a model of its own: every user, known or not, is folded in from the history."""

    @classmethod
    def fit(
        cls, train: Histories, num_items: int, config: ALSConfig | None = None, seed: int = 0
    ) -> Self:
        """Factorise the training interactions."""
        config = config or ALSConfig()
        factors = fit_factors(train, num_items, config, seed)
        maker = fold_in(factors, config)
        return cls(factors, lambda queries: maker(queries.histories))
