"""Cross-batch negatives: a queue of item vectors from earlier batches."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from twotower.data import Histories
from twotower.models.base import Embeddings
from twotower.training.negatives.base import LiveNegatives, NegativeSampler, NegativesConfig
from twotower.training.negatives.sampled import InBatch


class Queue(NegativesConfig):
    """The batch, and item vectors of the batches before it (Wang et al., *Cross-batch negative
    sampling*, SIGIR 2021).

    Item vectors change slowly, so those of recent batches are nearly current: they provide many
    more negatives without embedding any item again.
    """

    kind: Literal["queue"] = "queue"
    size: int = Field(1024, ge=1)
    """Number of item vectors kept; the oldest are dropped first."""

    def fit(self, train: Histories, num_items: int) -> NegativeSampler:
        """As for in-batch negatives: queued items were sampled as positives are."""
        return InBatch().fit(train, num_items)

    def live(self, train: Histories, num_items: int, dim: int, seed: int) -> LiveNegatives:
        """An empty queue of ``dim``-dimensional vectors."""
        del train, num_items, seed
        return VectorQueue(self.size, dim)


class VectorQueue(LiveNegatives):
    """First in, first out; vectors are detached: no gradient reaches earlier batches."""

    vectors: Tensor
    ids: Tensor
    log_q: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("ids", torch.full((size,), -1))  # -1: not filled yet
        self.register_buffer("log_q", torch.zeros(size))

    def after(self, embeddings: Embeddings, epoch: int) -> Embeddings:
        """Add the queue to the shared negatives, then enqueue the batch's positives."""
        del epoch
        ready = self.ids >= 0
        extended = embeddings._replace(
            shared=torch.cat([embeddings.shared, self.vectors[ready]]),
            shared_ids=torch.cat([embeddings.shared_ids, self.ids[ready]]),
            shared_log_q=torch.cat([embeddings.shared_log_q, self.log_q[ready]]),
        )
        for name, new in (
            ("vectors", embeddings.positive.detach()),
            ("ids", embeddings.positive_ids),
            ("log_q", embeddings.log_q),
        ):
            old = self.get_buffer(name)
            setattr(self, name, torch.cat([old, new.to(old.dtype)])[-self.size :])
        return extended
