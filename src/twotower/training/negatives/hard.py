"""Hard negatives: items that the model in training scores close to the positive."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from twotower.data import Histories
from twotower.models.base import Batch, RetrievalModule, evaluating
from twotower.training.negatives.base import (
    Drawn,
    LiveNegatives,
    NegativeSampler,
    NegativesConfig,
    none_drawn,
    train_shares,
)
from twotower.types import Array, FloatArray


class Hard(NegativesConfig):
    """The items that the current model scores highest, out of a random pool of the catalogue.

    User vectors come from the current model, item vectors from the model at the last refresh. As
    in ANCE (Xiong et al., ICLR 2021) the item vectors are slightly stale; as in dynamic negative
    sampling (Zhang et al., SIGIR 2013) the pool size controls the hardness.

    The user's own training items are never negatives. With a ``margin``, nor are items that score
    nearly as high as the positive, or higher: on sparse data these are likely false negatives. An
    example without enough hard negatives left has fewer.
    """

    kind: Literal["hard"] = "hard"
    count: int = Field(4, ge=1)
    """Negatives for each example, at most."""
    pool: int = Field(1000, ge=1)
    """Size of the random pool, drawn for each batch, whose hardest items are taken; larger means
    harder. At the catalogue's size or above, the pool is the whole catalogue."""
    margin: float | None = Field(None, ge=0)
    """By how much a negative must score below the positive; None for no margin."""
    refresh_steps: int = Field(100, ge=1)
    """Steps between refreshes of the item vectors, which are also refreshed at each epoch's
    start."""
    in_batch: bool = False
    """Whether the other positives of the batch are negatives too."""

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """Count the training interactions, for the log-q correction."""
        return _HardSampler(self, train, num_items)

    def live(self, train: Histories, num_items: int, dim: int, seed: int) -> LiveNegatives:
        """A miner that has no item vectors yet."""
        return HardMiner(self, train, num_items, dim, seed)

    def often(self, num_items: int) -> float:
        """How often one of the hardest items is a candidate: whenever it is in the pool."""
        return min(self.pool / num_items, 1.0)


class _HardSampler:
    """Sampler that draws nothing but gives the log-q of positives."""

    def __init__(self, config: Hard, train: Histories, num_items: int) -> None:
        self._in_batch = config.in_batch
        self._log_q = np.log(train_shares(train, num_items)).astype(np.float32)
        self._often = config.often(num_items)

    def sample(self, users: Array, positives: Array, rng: np.random.Generator, epoch: int) -> Drawn:
        """No negatives: `HardMiner` mines them with the model."""
        del rng, epoch
        alone = np.full(len(users), np.log(self._often / len(users)), dtype=np.float32)
        log_q = self._log_q[positives] if self._in_batch else alone
        return none_drawn(log_q, in_batch=self._in_batch)


class HardMiner(LiveNegatives):
    """Finds hard negatives with the item vectors of the last refresh."""

    item_vectors: Tensor

    def __init__(self, config: Hard, train: Histories, num_items: int, dim: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self._train = train
        self._seed = seed
        self.register_buffer("item_vectors", torch.zeros(num_items, dim))

    def before(self, batch: Batch, module: RetrievalModule, epoch: int, step: int) -> Batch:
        """The batch with ``(B, count)`` mined negatives, -1 where none is left."""
        if step % self.config.refresh_steps == 0:
            items = torch.from_numpy(module.scorer().item_vectors())
            self.item_vectors = items.to(self.item_vectors.device)
        with evaluating(module), torch.no_grad():
            query = module(batch).query.cpu().numpy()
        rng = np.random.default_rng((self._seed, epoch, step, 1))
        mined = torch.from_numpy(self.mine(query, batch, rng)).to(batch.users.device)
        num_items = len(self.item_vectors)
        log_q = np.log(self.config.often(num_items) / len(mined))
        return batch._replace(
            negatives=mined,
            negative_log_q=torch.full(mined.shape, log_q, device=mined.device),
        )

    def mine(self, query: FloatArray, batch: Batch, rng: np.random.Generator) -> Array:
        """``(B, count)`` int64 items for ``(B, d)`` user vectors, hardest first."""
        table = self.item_vectors.cpu().numpy()
        num_items, rows = len(table), np.arange(len(query))
        pool = np.arange(num_items)
        if self.config.pool < num_items:
            pool = rng.choice(num_items, self.config.pool, replace=False)
        scores = query @ table[pool].T  # (B, P)
        if self.config.margin is not None:
            positive = (query * table[batch.positives.cpu().numpy()]).sum(axis=1)
            scores[scores > (positive - self.config.margin)[:, None]] = -np.inf
        place = np.full(num_items, -1)
        place[pool] = np.arange(len(pool))
        own = self._train.select(batch.users.cpu().numpy())
        inside = place[own.items] >= 0
        scores[own.rows[inside], place[own.items[inside]]] = -np.inf
        count = min(self.config.count, len(pool))
        hardest = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        found = scores[rows[:, None], hardest]
        order = np.argsort(-found, axis=1, kind="stable")
        hardest, found = (np.take_along_axis(values, order, axis=1) for values in (hardest, found))
        return np.where(np.isfinite(found), pool[hardest], -1)
