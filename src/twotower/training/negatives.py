"""What a user did not choose: samplers of negative items, fitted on the training part."""

from typing import Annotated, Final, Literal, Protocol, Self

import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.data import Histories
from twotower.types import Array

MOST_REDRAWS: Final = 100


class NegativeSampler(Protocol):
    """Draws items that a user has not interacted with in training."""

    def sample(self, users: Array, rng: np.random.Generator) -> Array:
        """``(B, M)`` int64 item indices for ``(B,)`` user indices."""
        ...


class InBatch(Config):
    """No sampling: the loss takes the other positives of the batch."""

    kind: Literal["in_batch"] = "in_batch"

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Nothing to learn."""
        del train, num_items
        return _NoNegatives()


class Uniform(Config):
    """Uniform over the catalogue without the user's own training items."""

    kind: Literal["uniform"] = "uniform"
    count: int = Field(1, ge=1)
    """Negatives for each example."""

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Remember who has what."""
        pairs = PairSet.fit(train, num_items)
        return _WeightedNegatives(pairs, np.arange(1, num_items + 1) / num_items, self.count)


class Popularity(Config):
    """In proportion to ``train count ** power``, without the user's own training items.

    ``power=1`` is what implicit's BPR does; 0.75 is word2vec's (Mikolov et al., 2013).
    """

    kind: Literal["popularity"] = "popularity"
    count: int = Field(1, ge=1)
    """Negatives for each example."""
    power: float = Field(1.0, ge=0, le=1)
    """Exponent of the count; 0 is uniform over the items that were bought."""

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Count the training interactions of each item."""
        counts = np.bincount(train.items, minlength=num_items).astype(np.float64)
        shares = np.cumsum(np.where(counts > 0, counts**self.power, 0.0))
        pairs = PairSet.fit(train, num_items)
        return _WeightedNegatives(pairs, shares / shares[-1], self.count)


Negatives = Annotated[InBatch | Uniform | Popularity, Field(discriminator="kind")]
"""Every sampler there is; a new one is a class in this file and a name here."""


class PairSet:
    """The set of (user, item) pairs of a log, with a vectorised membership test."""

    def __init__(self, keys: Array, num_items: int) -> None:
        self._keys = keys
        self._num_items = num_items

    @classmethod
    def fit(cls, train: Histories, num_items: int) -> Self:
        """Collect the pairs of a log."""
        keys = np.unique(train.rows * num_items + train.items)
        # The sentinel keeps every insertion point inside the array.
        return cls(np.append(keys, np.iinfo(np.int64).max), num_items)

    def contains(self, users: Array, items: Array) -> Array:
        """Elementwise membership of ``(users, items)``, broadcast against each other."""
        wanted = users * np.int64(self._num_items) + items
        found: Array = self._keys[np.searchsorted(self._keys, wanted)] == wanted
        return found


class _NoNegatives:
    def sample(self, users: Array, rng: np.random.Generator) -> Array:
        del rng
        return np.empty((len(users), 0), dtype=np.int64)


class _WeightedNegatives:
    """Draw by cumulative share, then draw again where a draw hit the user's own items."""

    def __init__(self, pairs: PairSet, shares: Array, count: int) -> None:
        self._pairs, self._shares, self._count = pairs, shares, count

    def sample(self, users: Array, rng: np.random.Generator) -> Array:
        items = self._draw(rng, (len(users), self._count))
        hits = self._pairs.contains(users[:, None], items)
        # Bounded: a user who has (nearly) the whole catalogue must not stall training.
        for _ in range(MOST_REDRAWS):
            if not hits.any():
                break
            items[hits] = self._draw(rng, int(hits.sum()))
            hits = self._pairs.contains(users[:, None], items)
        return items

    def _draw(self, rng: np.random.Generator, size: int | tuple[int, ...]) -> Array:
        items: Array = np.searchsorted(self._shares, rng.random(size), side="right")
        return items
