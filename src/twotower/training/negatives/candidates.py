"""Candidates shared by a whole batch: its positives and a draw, or the whole catalogue."""

from typing import Literal

import numpy as np

from twotower.data import Histories
from twotower.training.negatives.base import (
    Drawn,
    NegativeSampler,
    NegativesConfig,
    none_drawn,
    train_shares,
)
from twotower.training.negatives.sampled import Chance, Uniform
from twotower.types import Array, DoubleArray, FloatArray


class Candidates(NegativesConfig):
    """As `Mixed`, but each distinct positive of the batch is a candidate once.

    In a large batch popular positives occur many times: the copies cost time and add no
    information.
    """

    kind: Literal["candidates"] = "candidates"
    sampled: Chance = Uniform(count=2048, shared=True)
    """Negatives sampled in addition to the batch; ``shared`` is implied."""

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Fit what is drawn, and count the training interactions."""
        weights = self.sampled.weights(train, num_items)
        return DistinctCandidates(
            train_shares(train, num_items), weights / weights.sum(), self.sampled.count
        )


class AllItems(NegativesConfig):
    """Every item of the catalogue: with `SampledSoftmax` the full softmax, exactly.

    For a catalogue of a few thousand items it costs about as much as a sample.
    """

    kind: Literal["all_items"] = "all_items"

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Count the items."""
        del train
        return WholeCatalogue(num_items)


class WholeCatalogue:
    """Sampler that returns every item once for every batch."""

    def __init__(self, num_items: int) -> None:
        self._items = np.arange(num_items, dtype=np.int64)

    def sample(self, users: Array, positives: Array, rng: np.random.Generator, epoch: int) -> Drawn:
        """All items; once a batch is ``1 / B`` in units of the batch."""
        del users, rng, epoch
        log_q = np.full(len(self._items), -np.log(len(positives)), dtype=np.float32)
        return none_drawn(log_q[positives], in_batch=False)._replace(
            shared=self._items, shared_log_q=log_q
        )


class DistinctCandidates:
    """Shared candidates whose log-q is that of their expected number.

    An item of share ``p`` is among ``B`` positives with probability ``1 - (1 - p)^B``, and is drawn
    ``n q`` times on average.
    """

    def __init__(self, shares: DoubleArray, chances: DoubleArray, count: int) -> None:
        self._shares, self._chances, self._count = shares, chances, count
        self._cumulated = np.cumsum(chances) / chances.sum()

    def sample(self, users: Array, positives: Array, rng: np.random.Generator, epoch: int) -> Drawn:
        """Candidates of the whole batch."""
        del users, epoch
        size = len(positives)
        drawn = np.searchsorted(self._cumulated, rng.random(self._count), side="right")
        shared = np.concatenate([np.unique(positives), drawn])
        return none_drawn(self._log_q(positives, size), in_batch=False)._replace(
            shared=shared, shared_log_q=self._log_q(shared, size)
        )

    def _log_q(self, items: Array, size: int) -> FloatArray:
        in_batch = -np.expm1(size * np.log1p(-np.minimum(self._shares[items], 0.5)))
        expected = in_batch + self._count * self._chances[items]
        log_q: FloatArray = np.log(expected / size).astype(np.float32)
        return log_q
