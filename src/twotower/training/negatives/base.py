"""Interface of negative samplers: what they add to a batch.

The log-q of a candidate is the log of the expected number of times that it is a candidate of a
query, divided by the batch size. For in-batch negatives this is the log share of the training
interactions. The expectation is summed over all the ways in which an item can become a candidate,
which lets sources be combined: a mixture is corrected by the log-q of the mixture (Yang et al.,
*Mixed negative sampling*, WWW 2020).
"""

from typing import NamedTuple, Protocol

import numpy as np
from torch import nn

from twotower.config import Config
from twotower.data import Histories
from twotower.models.base import Batch, Embeddings, RetrievalModule
from twotower.types import Array, DoubleArray, FloatArray


class Drawn(NamedTuple):
    """The candidates of a batch of ``B`` examples, beside their positives."""

    negatives: Array
    """``(B, M)`` int64 item index, each example's own negatives."""
    negative_log_q: FloatArray
    """``(B, M)`` float32."""
    shared: Array
    """``(S,)`` int64 item index, negatives of every example."""
    shared_log_q: FloatArray
    """``(S,)`` float32."""
    log_q: FloatArray
    """``(B,)`` float32, of the positives."""
    in_batch: bool
    """Whether the other positives of the batch are negatives too."""


class NegativeSampler(Protocol):
    """Draws negatives as a function of its arguments alone."""

    def sample(self, users: Array, positives: Array, rng: np.random.Generator, epoch: int) -> Drawn:
        """Negatives for ``(B,)`` user and positive item indices."""


class LiveNegatives(nn.Module):
    """Negatives that depend on the model in training. The base class adds none.

    Buffers are part of the checkpoint: a killed run resumes with the same negatives.
    """

    def before(self, batch: Batch, module: RetrievalModule, epoch: int, step: int) -> Batch:
        """Change a batch before the model sees it."""
        del module, epoch, step
        return batch

    def after(self, embeddings: Embeddings, epoch: int) -> Embeddings:
        """Change the embeddings of a batch before the loss sees them."""
        del epoch
        return embeddings


class NegativesConfig(Config):
    """Settings of a source of negatives."""

    kind: str

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """A sampler fitted on the training part."""
        raise NotImplementedError

    def live(self, train: Histories, num_items: int, dim: int, seed: int) -> LiveNegatives:
        """The negatives that depend on the model; none by default.

        ``dim`` is the length of the vectors that a loss sees.
        """
        del train, num_items, dim, seed
        return LiveNegatives()


def train_shares(train: Histories, num_items: int) -> DoubleArray:
    """``(num_items,)`` share of the training interactions; an unseen item counts as seen once."""
    counts = np.bincount(train.items, minlength=num_items)
    return np.maximum(counts, 1) / max(len(train.items), 1)


def none_drawn(log_q: FloatArray, *, in_batch: bool) -> Drawn:
    """No sampled negatives, for ``(B,)`` positives with the given log-q."""
    none = np.empty((len(log_q), 0))
    return Drawn(
        none.astype(np.int64),
        none.astype(np.float32),
        np.empty(0, dtype=np.int64),
        np.empty(0, dtype=np.float32),
        log_q,
        in_batch,
    )
