"""What the training loop and evaluation expect of a model, and what a batch holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from twotower.factors.scorer import Scorer, VectorScorer

__all__ = [
    "Batch",
    "Embeddings",
    "RetrievalModule",
    "Scorer",
    "VectorScorer",
    "evaluating",
    "half_squared_norm",
    "split_items",
    "wanted_items",
]


_NO_IDS = torch.empty(0, dtype=torch.int64)
_NO_VALUES = torch.empty(0)


class Batch(NamedTuple):
    """Training examples: who, what came before, what came next, and what did not.

    ``B`` examples, ``M`` negatives of each and ``S`` of all of them together (0 where there are
    none), ``L`` history positions (0 where the model reads none), ``F`` user features.
    """

    users: Tensor
    """``(B,)`` int64 user index."""
    positives: Tensor
    """``(B,)`` int64 item index."""
    log_q: Tensor
    """``(B,)`` float32 log of how often each positive is a candidate of another example, in
    units of the batch size: see `twotower.training.negatives.base`."""
    negatives: Tensor
    """``(B, M)`` int64 item index, -1 where an example has fewer."""
    histories: Tensor
    """``(B, L)`` int64 item index + 1, oldest first, 0 behind the last."""
    lengths: Tensor
    """``(B,)`` int64 number of history positions in use."""
    features: Tensor
    """``(B, F)`` float32 user features of the history, never of the positive."""
    negative_log_q: Tensor = _NO_VALUES
    """``(B, M)`` float32, as ``log_q``."""
    shared: Tensor = _NO_IDS
    """``(S,)`` int64 item index of the negatives that all examples share."""
    shared_log_q: Tensor = _NO_VALUES
    """``(S,)`` float32, as ``log_q``."""
    in_batch: bool = False
    """Whether the other positives of the batch are negatives too."""
    positions: Tensor = _NO_IDS
    """``(B,)`` int64 where all places of ``S`` histories ``(S, L)`` are examples: the place, in
    row-major order, after which each example asks. ``histories`` and ``lengths`` then have
    ``S`` rows."""


class Embeddings(NamedTuple):
    """What a model makes of a batch; all that a loss gets to see."""

    query: Tensor
    """``(B, d)``"""
    positive: Tensor
    """``(B, d)``"""
    negative: Tensor
    """``(B, M, d)``, anything where ``negative_ids`` is -1."""
    shared: Tensor
    """``(S, d)``"""
    users: Tensor
    """``(B,)`` int64 user index."""
    positive_ids: Tensor
    """``(B,)`` int64 item index of each positive, to recognise the same item in a batch."""
    negative_ids: Tensor
    """``(B, M)`` int64 item index, -1 for no item."""
    shared_ids: Tensor
    """``(S,)`` int64 item index."""
    log_q: Tensor
    """``(B,)`` as `Batch.log_q`."""
    negative_log_q: Tensor
    """``(B, M)`` as `Batch.negative_log_q`."""
    shared_log_q: Tensor
    """``(S,)`` as `Batch.shared_log_q`."""
    in_batch: bool
    """Whether the other positives of the batch are negatives too."""
    squared_norm: Tensor
    """Scalar: half the squared norm of the looked-up table rows, a mean over examples."""

    @classmethod
    def of(
        cls,
        batch: Batch,
        query: Tensor,
        positive: Tensor,
        negative: Tensor,
        shared: Tensor,
        squared_norm: Tensor,
    ) -> Self:
        """Vectors, with what the batch says about them."""
        return cls(
            query,
            positive,
            negative,
            shared,
            batch.users,
            batch.positives,
            batch.negatives,
            batch.shared,
            batch.log_q,
            batch.negative_log_q,
            batch.shared_log_q,
            batch.in_batch,
            squared_norm,
        )


class RetrievalModule(nn.Module):
    """A trainable model: `forward` for the loss, `scorer` for everything else."""

    def forward(self, batch: Batch) -> Embeddings:
        """Embed the users, positives and negatives of a batch."""
        raise NotImplementedError

    def scorer(self) -> VectorScorer:
        """A frozen snapshot of the current weights that scores queries."""
        raise NotImplementedError


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode within, and the mode that it was in afterwards."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def half_squared_norm(examples: int, *rows: Tensor) -> Tensor:
    """``sum(rows ** 2) / (2 * examples)``: LightGCN's penalty."""
    return torch.stack([one.square().sum() for one in rows]).sum() / (2 * examples)


def split_items(rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors ``(B * (1 + M) + S, d)`` as positives, negatives and shared negatives.

    A split, not three slices: the gradient of a slice is a table of zeros of the whole's size.
    """
    size, count = batch.negatives.shape
    own, shared = torch.split(rows, [size * (1 + count), len(batch.shared)])
    positive, negative = torch.split(own.reshape(size, 1 + count, -1), [1, count], dim=1)
    return positive.squeeze(1), negative, shared


def wanted_items(batch: Batch) -> Tensor:
    """``(B * (1 + M) + S,)`` items of a batch, -1 for no item, as `split_items` takes them."""
    own = torch.cat([batch.positives[:, None], batch.negatives], dim=1)  # (B, 1 + M)
    return torch.cat([own.flatten(), batch.shared])
