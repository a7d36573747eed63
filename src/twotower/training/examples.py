"""Training examples from interactions: batches as a pure function of epoch and step."""

from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np
import torch

from twotower.data import Histories
from twotower.models.base import Batch, ContextBuilder, RetrievalModule, no_context
from twotower.registry import Registry
from twotower.training.negatives import NegativeSampler
from twotower.types import Array, FloatArray

if TYPE_CHECKING:
    from twotower.training.trainer import TrainingConfig

Sampling = Literal["interactions", "users"]


class ExampleSource(Protocol):
    """Batches for the training loop, each a pure function of its position."""

    batch_size: int

    @property
    def size(self) -> int:
        """Examples in an epoch."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at a position, the same at every call."""


class ExampleFactory(Protocol):
    """Makes an `ExampleSource` for a model."""

    def __call__(
        self,
        module: RetrievalModule,
        train: Histories,
        negatives: NegativeSampler,
        settings: "TrainingConfig",
        seed: int,
    ) -> ExampleSource:
        """The examples of an epoch; ``negatives`` are fitted on ``train``."""


EXAMPLE_SOURCES: Final[Registry[ExampleFactory]] = Registry(
    "twotower.example_sources",
    "example source",
    {
        "events": "twotower.training.examples:event_examples",
        "sequences": "twotower.training.sequences:sequence_examples",
    },
)
"""Sources of training examples: `RetrievalModule.example_source` names one."""


def event_examples(
    module: RetrievalModule,
    train: Histories,
    negatives: NegativeSampler,
    settings: "TrainingConfig",
    seed: int,
) -> "Examples":
    """Every interaction is an example, with the history inputs that the model needs.

    If there is a target kind, a model that reads histories learns to predict events of that kind
    only. A model without histories learns from all events: it cannot read the others as inputs.
    """
    return Examples(
        train,
        negatives,
        settings.batch_size,
        seed,
        context=module.context(train),
        sampling=settings.sampling,
        weights=train.learned if module.history_length else train.weights,
    )


class Examples:
    """Every training interaction once per epoch, in an order given by the seed.

    A batch depends only on the seed, the epoch and the step: a killed run resumes with exactly
    the batches that it would have seen.

    Parameters
    ----------
    sampling
        ``interactions``: a shuffled pass over the log. ``users``: as many draws, each of a
        uniform user and a uniform interaction of that user (as LightGCN's published code).
    weights
        ``(events,)`` weight of each interaction in the loss, 0 for those that are not examples;
        None for equal weights.
    """

    def __init__(
        self,
        train: Histories,
        negatives: NegativeSampler,
        batch_size: int,
        seed: int,
        *,
        context: ContextBuilder = no_context,
        sampling: Sampling = "interactions",
        weights: FloatArray | None = None,
    ) -> None:
        self._train = train
        self._weights = weights
        asked = np.ones(len(train.items), np.bool_) if weights is None else weights > 0
        self._events, self._indptr = np.flatnonzero(asked), train.keep(asked).indptr
        self._users = train.rows
        self._negatives = negatives
        self._context = context
        self._sampling = sampling
        self._seed = seed
        self.batch_size = batch_size
        self._order: tuple[int, Array] = (-1, np.empty(0, dtype=np.int64))

    @property
    def size(self) -> int:
        """Examples in an epoch."""
        return len(self._events)

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-self.size // self.batch_size)

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at a position, the same at every call."""
        if self._order[0] != epoch:
            self._order = (epoch, self._epoch_order(epoch))
        events = self._order[1][step * self.batch_size : (step + 1) * self.batch_size]
        users = self._users[events]
        positives = self._train.items[events].astype(np.int64)
        rng = np.random.default_rng((self._seed, epoch, step))
        drawn = self._negatives.sample(users, positives, rng, epoch)
        histories, lengths, features = self._context(events)
        return Batch(
            torch.from_numpy(users),
            torch.from_numpy(positives),
            torch.from_numpy(drawn.log_q),
            torch.from_numpy(drawn.negatives),
            torch.from_numpy(histories),
            torch.from_numpy(lengths),
            torch.from_numpy(features),
            torch.from_numpy(drawn.negative_log_q),
            torch.from_numpy(drawn.shared),
            torch.from_numpy(drawn.shared_log_q),
            drawn.in_batch,
            weights=torch.empty(0)
            if self._weights is None
            else torch.from_numpy(self._weights[events]),
        )

    def _epoch_order(self, epoch: int) -> Array:
        rng = np.random.default_rng((self._seed, epoch))
        total = len(self._events)
        if self._sampling == "interactions":
            return self._events[rng.permutation(total)]
        lengths = np.diff(self._indptr)
        active = np.flatnonzero(lengths)
        users = active[rng.integers(len(active), size=total)]
        within = rng.random(total) * lengths[users]
        return self._events[self._indptr[users] + within.astype(np.int64)]
