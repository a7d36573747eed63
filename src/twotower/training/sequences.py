"""Training on whole histories: every position of a sequence is an example."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from twotower.data import Histories
from twotower.features.gaps import UNKNOWN, gap_codes
from twotower.models.base import Batch, RetrievalModule
from twotower.training.negatives import NegativeSampler
from twotower.types import Array

if TYPE_CHECKING:
    from twotower.training.trainer import TrainingConfig

_BUCKET_BATCHES = 20
"""Batches per length-sorted bucket: large enough for little padding, small enough that a batch
still mixes users."""


def sequence_examples(
    module: RetrievalModule,
    train: Histories,
    negatives: NegativeSampler,
    settings: "TrainingConfig",
    seed: int,
) -> "SequenceExamples":
    """Every position of a history is an example; sequences have the module's history length."""
    return SequenceExamples(
        train,
        negatives,
        settings.batch_size,
        seed,
        length=module.history_length,
        batch_positions=settings.batch_positions,
        in_order=module.in_order,
    )


class SequenceExamples:
    """Next-item prediction from each item of a history but the last.

    If there is a target kind, only events of that kind are predicted, from all events before them.

    A batch depends only on the seed, the epoch and the step, as in `Examples`. Sequences of
    similar length share a batch, to reduce padding.

    Parameters
    ----------
    batch_size
        Users in a batch, each with the most recent history items; unused with ``batch_positions``.
    length
        Most items read per sequence; one more is predicted.
    batch_positions
        Mean number of predictions in a batch, at least ``length``. Histories are then read
        whole: longer ones are cut into windows, at random places in each epoch, which together
        predict every item but the first once.
    in_order
        Whether the order of histories carries information. Otherwise histories are shuffled in
        each epoch, to predict each item from any other items of its user.
    """

    def __init__(
        self,
        train: Histories,
        negatives: NegativeSampler,
        batch_size: int,
        seed: int,
        *,
        length: int,
        batch_positions: int | None = None,
        in_order: bool = True,
    ) -> None:
        whole = batch_positions is not None
        kept = train if whole else train.last(length + 1)
        self._items, self._starts = kept.items.astype(np.int64), kept.indptr[:-1].astype(np.int64)
        self._times, self._contexts = kept.timestamps, kept.contexts
        self._predictions = kept.lengths - 1
        self._weights = kept.learned
        self._order = np.arange(len(kept.items))
        self._rows = None if in_order else kept.rows
        self._asked = self._asked_before()
        ends = self._asked[kept.indptr[1:]]
        # The first event has no history and is not predicted, unless shuffling moves it.
        begins = np.minimum(self._starts + 1, kept.indptr[1:]) if in_order else self._starts
        self._users = np.flatnonzero((ends > self._asked[begins]) & (self._predictions > 0))
        self._negatives, self._seed, self._length = negatives, seed, length
        self._epoch: tuple[int, _Sequences, list[Array]] | None = None
        total = int(self._predictions[self._users].sum())
        if batch_positions is None:
            self.size, self.batch_size = len(self._users), batch_size
            self.steps = -(-self.size // batch_size)
        else:
            self.size, self.batch_size = total, max(batch_positions, length)
            self.steps = max(total // self.batch_size, 1) if total else 0
        self._whole = whole

    size: int
    """Examples in an epoch: users, or predictions where histories are read whole."""
    steps: int
    """Batches in an epoch."""

    def _asked_before(self) -> Array:
        """``(events + 1,)`` number of predicted events before each position."""
        weights, order = self._weights, self._order
        asked = np.ones(len(order)) if weights is None else weights[order] > 0
        return np.append(0, np.cumsum(asked)).astype(np.int64)

    def _second_where_alone(self) -> None:
        """Move a user's only predicted event to second place if shuffling put it first."""
        starts, ends = self._starts[self._users], self._starts + self._predictions + 1
        after_first = self._asked[ends[self._users]] - self._asked[starts + 1]
        alone = starts[after_first == 0]
        self._order[alone], self._order[alone + 1] = self._order[alone + 1], self._order[alone]
        self._asked[alone + 1] = self._asked[alone]

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at a position, the same at every call."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, *self._planned(epoch))
        _, sequences, batches = self._epoch
        rows = batches[step]
        first, count = sequences.first[rows], sequences.size[rows]
        column = np.arange(int(count.max()))
        known = column < count[:, None]  # (S, L): has an item after it
        place = np.where(known, first[:, None] + column, 0)
        event, following = self._order[place], self._order[place + known]
        histories = np.where(known, self._items[event] + 1, 0)
        asks = known
        if self._weights is not None:
            asks = known & (self._weights[following] > 0)
        positives = self._items[following[asks]]
        asking = np.repeat(sequences.user[rows], asks.sum(axis=1))
        rng = np.random.default_rng((self._seed, epoch, step))
        drawn = self._negatives.sample(asking, positives, rng, epoch)
        return Batch(
            users=torch.from_numpy(asking),
            positives=torch.from_numpy(positives),
            log_q=torch.from_numpy(drawn.log_q),
            negatives=torch.from_numpy(drawn.negatives),
            histories=torch.from_numpy(histories),
            lengths=torch.from_numpy(count),
            features=torch.empty(len(asking), 0),
            negative_log_q=torch.from_numpy(drawn.negative_log_q),
            shared=torch.from_numpy(drawn.shared),
            shared_log_q=torch.from_numpy(drawn.shared_log_q),
            in_batch=drawn.in_batch,
            positions=torch.from_numpy(np.flatnonzero(asks)),
            weights=torch.empty(0)
            if self._weights is None
            else torch.from_numpy(self._weights[following[asks]]),
            gaps=self._gaps(event, following, known),
            contexts=self._next_contexts(following, known),
        )

    def _gaps(self, event: Array, following: Array, known: Array) -> torch.Tensor:
        """Codes of the time from events ``(S, L)`` to the next ones."""
        if self._times is None:
            return torch.empty(0, dtype=torch.int64)
        codes = gap_codes(self._times[following] - self._times[event])
        return torch.from_numpy(np.where(known, codes, UNKNOWN))

    def _next_contexts(self, following: Array, known: Array) -> torch.Tensor:
        """Rows of the context of the events ``(S, L)`` that are predicted."""
        if self._contexts is None:
            return torch.empty(0, dtype=torch.int64)
        rows = self._contexts[following].astype(np.int64) + 1
        return torch.from_numpy(np.where(known, rows, 0))

    def _planned(self, epoch: int) -> tuple["_Sequences", list[Array]]:
        """The sequences of an epoch, and those of each batch.

        Sequences come in a random order, are sorted by length within buckets and cut into
        batches, which are shuffled.
        """
        rng = np.random.default_rng((self._seed, epoch))
        if self._rows is not None:
            self._order = np.lexsort((rng.random(len(self._rows)), self._rows))
            self._asked = self._asked_before()
            self._second_where_alone()
        if not self._whole:
            everything = _Sequences(
                np.arange(len(self._starts)), self._starts, np.maximum(self._predictions, 0)
            )
            order = rng.permutation(self._users)
            bucket = self.batch_size * _BUCKET_BATCHES
        else:
            everything = self._windows(rng)
            order = rng.permutation(len(everything.user))
            bucket = max(len(order) * _BUCKET_BATCHES // self.steps, 1)
        sorted_parts = []
        for start in range(0, len(order), bucket):
            rows = order[start : start + bucket]
            sorted_parts.append(rows[np.argsort(everything.size[rows], kind="stable")])
        if self._whole:
            rows = np.concatenate(sorted_parts)
            # No batch is empty: it has at least as many predictions as the longest sequence.
            ends = np.cumsum(everything.size[rows])
            cuts = np.searchsorted(ends, ends[-1] * np.arange(1, self.steps) / self.steps)
            batches = np.split(rows, cuts + 1)
        else:
            batches = [
                batch
                for rows in sorted_parts
                for batch in np.split(rows, range(self.batch_size, len(rows), self.batch_size))
            ]
        return everything, [batches[place] for place in rng.permutation(len(batches))]

    def _windows(self, rng: np.random.Generator) -> "_Sequences":
        """Histories cut into sequences of at most ``length`` predictions."""
        total = self._predictions[self._users]
        offset = rng.integers(1, self._length + 1, len(total))  # predictions of the first window
        offset = np.where(total <= self._length, total, offset)
        windows = 1 + -(-(total - offset) // self._length)
        row = np.repeat(np.arange(len(total)), windows)
        number = np.arange(len(row)) - np.repeat(np.cumsum(windows) - windows, windows)
        begin = np.where(number == 0, 0, offset[row] + (number - 1) * self._length)
        end = np.minimum(offset[row] + number * self._length, total[row])
        users = self._users[row]
        first = self._starts[users] + begin
        size = end - begin
        asks = self._asked[first + size + 1] > self._asked[first + 1]
        return _Sequences(users[asks], first[asks], size[asks])


class _Sequences(NamedTuple):
    """Runs of consecutive training events, each of one user."""

    user: Array
    """``(n,)`` user index."""
    first: Array
    """``(n,)`` first event read; the one after it is the first prediction."""
    size: Array
    """``(n,)`` number of predictions."""
