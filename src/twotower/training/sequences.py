"""Training on whole histories: every position of a sequence is an example."""

import numpy as np
import torch

from twotower.data import Histories
from twotower.models.base import Batch, RetrievalModule
from twotower.training.examples import Sampling
from twotower.training.negatives import NegativeSampler
from twotower.types import Array

_BUCKET_BATCHES = 20
"""Batches that are sorted by length together: wide enough for little padding, small enough that
a batch still mixes users."""


def sequence_examples(
    module: RetrievalModule,
    train: Histories,
    negatives: NegativeSampler,
    *,
    batch_size: int,
    sampling: Sampling,
    seed: int,
) -> "SequenceExamples":
    """Histories as long as the module reads; every user once an epoch, whatever ``sampling``."""
    del sampling
    return SequenceExamples(train, negatives, batch_size, seed, length=module.history_length)


class SequenceExamples:
    """Every user once an epoch: from each item of the history but the last, the next is predicted.

    A batch depends on nothing but the seed, the epoch and the step, as in `Examples`.

    Parameters
    ----------
    batch_size
        Users in a batch.
    length
        Newest items of a user that are read; one more is predicted.
    """

    def __init__(
        self,
        train: Histories,
        negatives: NegativeSampler,
        batch_size: int,
        seed: int,
        *,
        length: int,
    ) -> None:
        recent = train.last(length + 1)
        self._items, self._starts = recent.items.astype(np.int64), recent.indptr[:-1]
        self._lengths = recent.lengths
        self._users = np.flatnonzero(recent.lengths >= 2)
        self._negatives, self._seed = negatives, seed
        self.batch_size = batch_size
        self._batches: tuple[int, list[Array]] = (-1, [])

    @property
    def size(self) -> int:
        """Users in an epoch."""
        return len(self._users)

    @property
    def steps(self) -> int:
        """Batches in an epoch; one of them may be smaller."""
        return -(-self.size // self.batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at a position, the same at every call."""
        if self._batches[0] != epoch:
            self._batches = (epoch, self._epoch_batches(epoch))
        users = self._batches[1][step]
        width = int(self._lengths[users].max()) - 1
        column = np.arange(width)
        known = column < self._lengths[users][:, None] - 1  # (S, L): has an item after it
        place = np.where(known, self._starts[users][:, None] + column, 0)
        histories = np.where(known, self._items[place] + 1, 0)
        positives = self._items[place + 1][known]
        asking = np.repeat(users, known.sum(1))
        rng = np.random.default_rng((self._seed, epoch, step))
        drawn = self._negatives.sample(asking, positives, rng, epoch)
        return Batch(
            users=torch.from_numpy(asking),
            positives=torch.from_numpy(positives),
            log_q=torch.from_numpy(drawn.log_q),
            negatives=torch.from_numpy(drawn.negatives),
            histories=torch.from_numpy(histories),
            lengths=torch.from_numpy(known.sum(1)),
            features=torch.empty(len(asking), 0),
            negative_log_q=torch.from_numpy(drawn.negative_log_q),
            shared=torch.from_numpy(drawn.shared),
            shared_log_q=torch.from_numpy(drawn.shared_log_q),
            in_batch=drawn.in_batch,
            positions=torch.from_numpy(np.flatnonzero(known)),
        )

    def _epoch_batches(self, epoch: int) -> list[Array]:
        """Users in a random order, sorted by length within buckets, whose batches are shuffled."""
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(self._users)
        bucket = self.batch_size * _BUCKET_BATCHES
        batches: list[Array] = []
        for start in range(0, len(order), bucket):
            users = order[start : start + bucket]
            users = users[np.argsort(self._lengths[users], kind="stable")]
            batches += np.split(users, range(self.batch_size, len(users), self.batch_size))
        return [batches[place] for place in rng.permutation(len(batches))]
