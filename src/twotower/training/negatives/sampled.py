"""Random negatives: in-batch, uniform, by popularity, and mixtures."""

from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field

from twotower.data import Histories
from twotower.training.negatives.base import (
    Drawn,
    NegativeSampler,
    NegativesConfig,
    none_drawn,
    train_shares,
)
from twotower.types import Array, DoubleArray, FloatArray

MOST_REDRAWS: Final = 100


class PairSet:
    """Set of the (user, item) pairs of a log, which samplers must not draw."""

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


class InBatch(NegativesConfig):
    """No sampling: the other positives of the batch."""

    kind: Literal["in_batch"] = "in_batch"

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Count the training interactions, for the log-q correction."""
        return BatchAlone(np.log(train_shares(train, num_items)).astype(np.float32))


class Uniform(NegativesConfig):
    """Uniform over the catalogue without the user's own training items."""

    kind: Literal["uniform"] = "uniform"
    count: int = Field(1, ge=1)
    """Negatives for each example; with ``shared``, for all examples of a batch together."""
    shared: bool = False
    """Whether one draw serves the whole batch. A user's own items can then be among it."""

    def weights(self, train: Histories, num_items: int) -> DoubleArray:
        """``(num_items,)`` what an item's chance to be drawn is in proportion to."""
        del train
        return np.ones(num_items)

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Collect the (user, item) pairs to exclude."""
        return ByChance(self, train, num_items)


class Popularity(NegativesConfig):
    """In proportion to ``train count ** power``, without the user's own training items.

    ``power=1`` is what implicit's BPR does; 0.75 is word2vec's (Mikolov et al., 2013).
    """

    kind: Literal["popularity"] = "popularity"
    count: int = Field(1, ge=1)
    """Negatives for each example; with ``shared``, for all examples of a batch together."""
    power: float = Field(1.0, ge=0, le=1)
    """Exponent of the count; 0 is uniform over items with training interactions."""
    shared: bool = False
    """Whether one draw serves the whole batch. A user's own items can then be among it."""

    def weights(self, train: Histories, num_items: int) -> DoubleArray:
        """``(num_items,)`` what an item's chance to be drawn is in proportion to."""
        counts = np.bincount(train.items, minlength=num_items).astype(np.float64)
        return np.where(counts > 0, counts**self.power, 0.0)

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Count the training interactions of each item."""
        return ByChance(self, train, num_items)


Chance = Annotated[Uniform | Popularity, Field(discriminator="kind")]


class Mixed(NegativesConfig):
    """In-batch plus sampled negatives (Yang et al., *Mixed negative sampling*, 2020).

    In-batch negatives contain only positives of the batch, mostly popular items; additional
    uniform negatives cover the whole catalogue.
    """

    kind: Literal["mixed"] = "mixed"
    sampled: Chance = Uniform(count=256, shared=True)
    """What is drawn beside the batch."""

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Fit what is drawn, and count the training interactions."""
        return ByChance(self.sampled, train, num_items, batch=train_shares(train, num_items))


class BatchAlone:
    """Sampler that draws nothing; ``log_q`` is that of each item of the catalogue."""

    def __init__(self, log_q: FloatArray) -> None:
        self._log_q = log_q

    def sample(self, users: Array, positives: Array, rng: np.random.Generator, epoch: int) -> Drawn:
        """Nothing but the batch."""
        del users, rng, epoch
        return none_drawn(self._log_q[positives], in_batch=True)


class ByChance:
    """Draw by cumulative share, and redraw those that hit the user's own items.

    If the other positives of the batch are negatives too, ``batch`` ``(num_items,)`` is the
    probability of each item to be one.
    """

    def __init__(
        self,
        config: Uniform | Popularity,
        train: Histories,
        num_items: int,
        batch: DoubleArray | None = None,
    ) -> None:
        weights = config.weights(train, num_items)
        cumulated = np.cumsum(weights)
        self._cumulated = cumulated / cumulated[-1]
        self._chances = weights / cumulated[-1]
        self._batch = np.zeros(num_items) if batch is None else batch
        self._in_batch = batch is not None
        self._count, self._shared = config.count, config.shared
        self._pairs = PairSet.fit(train, num_items)
        self._log_q: tuple[int, FloatArray] = (0, np.empty(0, dtype=np.float32))

    def sample(self, users: Array, positives: Array, rng: np.random.Generator, epoch: int) -> Drawn:
        """Negatives of each example, or of all of them together."""
        del epoch
        log_q = self._table(len(users))
        drawn = none_drawn(log_q[positives], in_batch=self._in_batch)
        if self._shared:
            shared = self._draw(rng, self._count)
            return drawn._replace(shared=shared, shared_log_q=log_q[shared])
        items = self._for_users(users, rng)
        return drawn._replace(negatives=items, negative_log_q=log_q[items])

    def _table(self, size: int) -> FloatArray:
        """``(num_items,)`` log-q for a batch of the given size; kept, as only the last differs."""
        if self._log_q[0] != size:
            often = self._batch + self._count / size * self._chances
            # An item that is never drawn can still be a positive: keep its log finite.
            often = np.maximum(often, np.finfo(np.float32).tiny)
            self._log_q = (size, np.log(often).astype(np.float32))
        return self._log_q[1]

    def _for_users(self, users: Array, rng: np.random.Generator) -> Array:
        items = self._draw(rng, (len(users), self._count))
        row, column = np.nonzero(self._pairs.contains(users[:, None], items))
        # Bounded: a user with nearly the whole catalogue must not stall training.
        for _ in range(MOST_REDRAWS):
            if not len(row):
                break
            again = self._draw(rng, len(row))
            items[row, column] = again
            hit = self._pairs.contains(users[row], again)
            row, column = row[hit], column[hit]
        for place in zip(row.tolist(), column.tolist(), strict=True):
            items[place] = self._draw_free(rng, users[place[0]], items[place])
        return items

    def _draw_free(self, rng: np.random.Generator, user: int, drawn: int) -> int:
        """A random item that the user does not have; ``drawn`` if there is none."""
        catalogue = np.arange(len(self._chances))
        has = self._pairs.contains(np.full(len(catalogue), user), catalogue)
        free = np.where(has, 0.0, self._chances)
        return int(rng.choice(catalogue, p=free / free.sum())) if free.any() else drawn

    def _draw(self, rng: np.random.Generator, size: int | tuple[int, ...]) -> Array:
        return np.searchsorted(self._cumulated, rng.random(size), side="right")
