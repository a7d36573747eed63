"""Calibration of cold-start items: score scales fitted on validation, and bounded exposure."""

import logging
from dataclasses import dataclass
from itertools import product
from typing import Final, Protocol

import numpy as np
from torch import Tensor

from twotower.data import Dataset, Part, Queries
from twotower.factors.exposure import LIST_LENGTH, bounding_scale, places_taken
from twotower.factors.scorer import VectorScorer, unseen_scores
from twotower.index import top_scores
from twotower.types import Array, BoolArray, DoubleArray, FloatArray

logger = logging.getLogger(__name__)

SIMULATED_SHARE: Final = 0.05
"""Share of the trained items that simulate cold-start items while the scales are fitted."""
MOST_SIMULATED: Final = 2000
MOST_QUERIES: Final = 6000
"""Most validation queries with a simulated cold item as target, and most other queries."""
LEAST_TARGETS: Final = 20
"""With fewer queries whose target is a simulated cold item, the scales are left unchanged."""
TOWER_SCALES: Final = (0.0, 0.25, 0.5, 0.75, 1.0, 1.2, 1.5)
FACTOR_SCALES: Final = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)


class ColdItemModel(Protocol):
    """A module whose scores of items without a training event can be scaled."""

    trained: BoolArray
    """``(num_items,)`` whether an item has a training event."""
    cold_scale: Tensor
    """Scalar factor on the vectors of the other items."""
    cold_scales: Tensor
    """``(2,)`` `ColdItems.tower_scale` and `ColdItems.factor_scale`, if the model has factors."""

    @property
    def exposure(self) -> float:
        """See `twotower.factors.cold_items.ColdItems.exposure`."""

    @property
    def cost(self) -> float:
        """See `twotower.factors.cold_items.ColdItems.cost`, if the model has factors."""

    @property
    def has_factors(self) -> bool:
        """Whether a cold item has a least-squares part, borrowed from others."""

    def cold_parts(self, rows: Array) -> tuple[FloatArray, FloatArray]:
        """``(m, k)`` and ``(m, f)`` unscaled parts of item vectors, as if the items were cold."""

    def scorer(self) -> VectorScorer:
        """A scorer with the module's current weights."""


@dataclass(frozen=True)
class ColdStart:
    """Result of the calibration of cold-start items."""

    items: int
    """Items of the catalogue without a training event."""
    queries: int
    """Number of queries used."""
    unbounded: float
    """Share of the slots of their lists that these items would take without the bound."""
    share: float
    """Share that they take."""
    scale: float
    """Factor on their scores that bounds this share; 1 if no bound was needed."""
    tower_scale: float
    factor_scale: float
    """See `twotower.factors.cold_items.ColdItems`; not multiplied by ``scale``."""


def fit_cold_start(module: ColdItemModel, dataset: Dataset) -> ColdStart | None:
    """Calibrate the scores of cold-start items; None if there is nothing to fit them on.

    For a model with a least-squares part, a random twentieth of the trained items first simulate
    cold-start items: they get the vectors that they would have without events. The two scales of
    `ColdItems` are chosen to maximise validation NDCG@10 of users whose held-out item is one of
    them, provided that NDCG@10 of the other users drops by at most ``cost`` and that the simulated
    items take no more list slots than with their own vectors. Then all cold-start items are
    bounded together, however many they are: they take at most ``exposure`` of the slots of top-10
    lists, and users with other held-out items lose at most ``cost``.

    Without a validation part only the slots are bounded, in the lists of training users.
    """
    queries, targets = dataset.held_out(Part.VALIDATION)
    if not len(queries):
        users = np.flatnonzero(dataset.train.lengths)
        users = np.sort(np.random.default_rng(0).permutation(users)[: 2 * MOST_QUERIES])
        return _bound(module, Queries(users.astype(np.int32), dataset.train.select(users)))
    asked = np.flatnonzero(queries.histories.lengths > 0)
    wanted = targets.items[targets.indptr[:-1]]
    asked = asked[module.trained[wanted[asked]]]
    if not len(asked):
        return None
    if module.has_factors:
        _fit_scales(module, queries.select(asked), wanted[asked])
    chosen = np.sort(np.random.default_rng(0).permutation(asked)[: 2 * MOST_QUERIES])
    return _bound(module, queries.select(chosen), wanted[chosen])


def _bound(module: ColdItemModel, queries: Queries, wanted: Array | None = None) -> ColdStart:
    """Set the module's ``cold_scale`` by the list slots that cold items take, and their cost."""
    module.cold_scale.fill_(1.0)
    cold, share = np.flatnonzero(~module.trained), module.exposure
    scorer = module.scorer()
    users, known, best = _two_kinds(scorer, queries, module.trained)
    unbounded = places_taken(known, best)
    scale, allowed = bounding_scale(known, best, share), f"exposure allows {share:.1%}"
    if module.has_factors and wanted is not None and len(cold):
        target = np.einsum("qd,qd->q", users, scorer.item_vectors()[wanted])
        affordable = scale * _affordable(known, np.float32(scale) * best, target, module.cost)
        if affordable < scale:
            scale, allowed = affordable, f"others may lose {module.cost:.1%} of NDCG@10"
    module.cold_scale.fill_(scale)
    taken = places_taken(known, np.float32(scale) * best)
    if scale < 1:
        logger.warning(
            "%s items without a training event would take %.1f%% of the places of top-10 lists, "
            "%s: their scores are multiplied by %.3g, which leaves %.1f%%",
            f"{len(cold):,}", 100 * unbounded, allowed, scale, 100 * taken,
        )  # fmt: skip
    tower, factor = module.cold_scales.tolist() if module.has_factors else (1.0, 1.0)
    return ColdStart(len(cold), len(queries), unbounded, taken, scale, tower, factor)


def _affordable(known: FloatArray, cold: FloatArray, target: FloatArray, cost: float) -> float:
    """The largest factor on cold items' scores, up to 1 in steps of 0.02, with which NDCG@10 of
    targets with these scores is at most ``cost`` below that without cold items.
    """
    bar = target[:, None]
    above = (known > bar).sum(axis=1)
    least = (1 - cost) * _ndcg(above).mean()
    factors = np.linspace(1, 0, 50, endpoint=False, dtype=np.float32)
    found = (
        factor
        for factor in factors
        if _ndcg(above + (factor * cold > bar).sum(axis=1)).mean() >= least
    )
    return float(next(found, factors[-1]))


def _two_kinds(
    scorer: VectorScorer, queries: Queries, trained: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """User vectors, and the best unseen scores of trained items and of the others, ``(queries, k)``
    each.
    """
    users, known, cold = [], [], []
    for _, vectors, scores in unseen_scores(scorer, queries):
        users.append(vectors)
        known.append(top_scores(scores[:, trained], LIST_LENGTH))
        cold.append(top_scores(scores[:, ~trained], LIST_LENGTH))
    return np.concatenate(users), np.concatenate(known), np.concatenate(cold)


def _fit_scales(module: ColdItemModel, queries: Queries, wanted: Array) -> None:
    """Fit the module's ``cold_scales`` on simulated cold-start items."""
    rng = np.random.default_rng(0)
    trained = np.flatnonzero(module.trained)
    count = min(MOST_SIMULATED, int(SIMULATED_SHARE * len(trained)))
    simulated = np.zeros(len(module.trained), dtype=np.bool_)
    simulated[rng.permutation(trained)[:count]] = True
    asks = simulated[wanted]
    if int(asks.sum()) < LEAST_TARGETS:
        return
    parts = [rng.permutation(np.flatnonzero(of))[:MOST_QUERIES] for of in (asks, ~asks)]
    # Weights that turn the two samples of queries into a mean over all queries.
    weights = np.repeat([asks.mean(), 1 - asks.mean()], [len(part) for part in parts])
    weights /= np.repeat([len(part) for part in parts], [len(part) for part in parts])
    rows = np.concatenate(parts)
    found = _Simulation.of(module, queries.select(rows), wanted[rows], simulated)
    allowed, least = found.own_share(weights), (1 - module.cost) * found.without
    best = (0.0, 0.0), (0.0, 0.0)  # out of all lists, if everything else costs too much
    for scales in product(TOWER_SCALES, FACTOR_SCALES):
        scores = found.scores(*scales)
        new, others = found.ndcg(scores)
        if others >= least and found.share(scores, weights) <= allowed:
            best = max(best, ((new, others), scales))
    module.cold_scales.copy_(module.cold_scales.new_tensor(best[1]))


@dataclass(frozen=True)
class _Simulation:
    """Scores of queries in which some trained items simulate cold-start items."""

    known: FloatArray
    """``(queries, k)`` best unseen scores of the other items, best first."""
    own: FloatArray
    """``(queries, k)`` best unseen scores of the simulated items with their own vectors."""
    towers: FloatArray
    factors: FloatArray
    """``(queries, simulated)`` scores of their cold vectors' parts; seen items have -inf."""
    target: FloatArray
    """``(queries,)`` score of the target by its own vector."""
    column: Array
    """``(queries,)`` column of a simulated target, -1 for other targets."""

    @classmethod
    def of(
        cls, module: ColdItemModel, queries: Queries, wanted: Array, simulated: BoolArray
    ) -> "_Simulation":
        rows = np.flatnonzero(simulated)
        scorer = module.scorer()
        items, others = scorer.item_vectors(), module.trained & ~simulated
        towers, factors = module.cold_parts(rows)
        width = towers.shape[1]
        places = np.full(len(simulated), -1)
        places[rows] = np.arange(len(rows))
        known, own, by_tower, by_factor, target = [], [], [], [], []
        for part, users, scores in unseen_scores(scorer, queries):
            target.append(np.einsum("qd,qd->q", users, items[wanted[part]]))
            known.append(top_scores(scores[:, others], LIST_LENGTH))
            own.append(top_scores(scores[:, simulated], LIST_LENGTH))
            hidden = np.where(np.isneginf(scores[:, rows]), -np.inf, np.float32(0))
            by_tower.append(users[:, :width] @ towers.T + hidden)
            by_factor.append(users[:, width:] @ factors.T)
        return cls(
            np.concatenate(known),
            np.concatenate(own),
            np.concatenate(by_tower),
            np.concatenate(by_factor),
            np.concatenate(target),
            places[wanted],
        )

    def scores(self, tower: float, factor: float) -> FloatArray:
        """``(queries, simulated)`` with these scales; seen items have -inf."""
        hidden = np.isneginf(self.towers)
        found: FloatArray = np.float32(tower) * np.where(hidden, 0, self.towers)
        found += np.float32(factor) * self.factors
        found[hidden] = -np.inf
        return found

    def share(self, scores: FloatArray, weights: Array) -> float:
        """Share of list slots that simulated items take by `scores`, which it sorts first."""
        return self._taken(top_scores(scores, LIST_LENGTH), weights)

    def own_share(self, weights: Array) -> float:
        """Share of list slots that they take with their own vectors."""
        return self._taken(self.own, weights)

    def _taken(self, cold: FloatArray, weights: Array) -> float:
        width = cold.shape[1]
        taken = (cold > self.known[:, ::-1][:, :width]).sum(axis=1)
        return float(weights @ taken / self.known.shape[1])

    def ndcg(self, scores: FloatArray) -> tuple[float, float]:
        """Mean NDCG@10, by `scores`, of queries with a simulated target, and of the others."""
        own = np.take_along_axis(scores, np.maximum(self.column, 0)[:, None], axis=1)[:, 0]
        target = np.where(self.column >= 0, own, self.target)[:, None]
        values = _ndcg((scores > target).sum(axis=1) + (self.known > target).sum(axis=1))
        asks = self.column >= 0
        return float(values[asks].mean()), float(values[~asks].mean())

    @property
    def without(self) -> float:
        """Mean NDCG@10 of queries with other targets, without simulated items in the lists."""
        values = _ndcg((self.known > self.target[:, None]).sum(axis=1))
        return float(values[self.column < 0].mean())


def _ndcg(above: Array) -> DoubleArray:
    """NDCG@10 of targets, given the number of items ranked above each."""
    return np.where(above < LIST_LENGTH, 1 / np.log2(above + 2.0), 0)
