"""What the training loop and evaluation expect of a model, and what a batch holds."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from twotower.data import Queries
from twotower.types import FloatArray


@runtime_checkable
class Scorer(Protocol):
    """Scores every item of the catalogue for a batch of queries."""

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        ...

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; higher ranks first. Seen items are not masked."""
        ...


@runtime_checkable
class VectorScorer(Scorer, Protocol):
    """A scorer whose score is the dot product of a user vector and an item vector."""

    def user_vectors(self, queries: Queries) -> FloatArray:
        """``(queries, dim)`` float32."""
        ...

    def item_vectors(self) -> FloatArray:
        """``(num_items, dim)`` float32, row ``i`` for item index ``i``."""
        ...


class Batch(NamedTuple):
    """Training examples: who, what came before, what came next, and what did not.

    ``B`` examples, ``M`` sampled negatives (0 where the loss uses none), ``L`` history
    positions (0 where the model reads none), ``F`` user features.
    """

    users: Tensor
    """``(B,)`` int64 user index."""
    positives: Tensor
    """``(B,)`` int64 item index."""
    log_q: Tensor
    """``(B,)`` float32 log of each positive's share of the training interactions."""
    negatives: Tensor
    """``(B, M)`` int64 item index."""
    histories: Tensor
    """``(B, L)`` int64 item index + 1, oldest first, 0 behind the last."""
    lengths: Tensor
    """``(B,)`` int64 number of history positions in use."""
    features: Tensor
    """``(B, F)`` float32 user features of the history, never of the positive."""


class Embeddings(NamedTuple):
    """What a model makes of a batch; all that a loss gets to see."""

    query: Tensor
    """``(B, d)``"""
    positive: Tensor
    """``(B, d)``"""
    negative: Tensor
    """``(B, M, d)``"""
    positive_ids: Tensor
    """``(B,)`` int64 item index of each positive, to recognise the same item in a batch."""
    log_q: Tensor
    """``(B,)`` log of the chance that a random training interaction is of that item."""
    squared_norm: Tensor
    """Scalar: half the squared norm of the looked-up table rows, a mean over examples."""


class RetrievalModule(nn.Module):
    """A trainable model: `forward` for the loss, `scorer` for everything else."""

    def forward(self, batch: Batch) -> Embeddings:
        """Embed the users, positives and negatives of a batch."""
        raise NotImplementedError

    def scorer(self) -> VectorScorer:
        """A frozen snapshot of the current weights that scores queries."""
        raise NotImplementedError


def half_squared_norm(*rows: Tensor) -> Tensor:
    """``sum(rows ** 2) / (2 B)`` with ``B`` the examples of the first: LightGCN's penalty."""
    total = sum((one.square().sum() for one in rows), start=rows[0].new_zeros(()))
    return total / (2 * len(rows[0]))
