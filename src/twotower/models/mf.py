"""Matrix factorisation: one table of user vectors, one of item vectors."""

from typing import Literal

import numpy as np
from pydantic import Field
from torch import nn

from twotower.data import Histories, Queries
from twotower.factors.scorer import FactorScorer, history_sums, trained_items
from twotower.models.base import (
    Batch,
    Embeddings,
    ModelFamily,
    ModelInputs,
    RetrievalModule,
    half_squared_norm,
    split_items,
    wanted_items,
)
from twotower.types import FloatArray


class MFConfig(ModelFamily):
    """Matrix factorisation (Rendle et al., *BPR*, UAI 2009)."""

    kind: Literal["mf"] = "mf"
    embedding_dim: int = Field(64, ge=1)
    """Length of a user or item vector."""
    init_std: float = Field(0.1, gt=0)
    """Standard deviation of the initial tables."""

    def build(self, inputs: ModelInputs) -> "MatrixFactorisation":
        """Make the module."""
        return MatrixFactorisation(self, inputs.dataset.train, len(inputs.dataset.items))


class MatrixFactorisation(RetrievalModule):
    """Score of user u and item i: ``p_u . q_i``."""

    def __init__(self, config: MFConfig, train: Histories, num_items: int) -> None:
        super().__init__()
        # Sparse: a batch reads few users, and `RowAdam` updates only those rows. It reads so many
        # items that this would cost more for them.
        self.user_embedding = nn.Embedding(len(train), config.embedding_dim, sparse=True)
        self.item_embedding = nn.Embedding(num_items, config.embedding_dim)
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=config.init_std)
        self.trained = trained_items(train, num_items)
        self.trained_users = train.lengths > 0

    def forward(self, batch: Batch) -> Embeddings:
        """Look up the rows of a batch."""
        # One look-up for positives and negatives: each costs a pass over the whole gradient.
        # Missing negatives are -1: any row will do, they are masked.
        query = self.user_embedding(batch.users)  # (B, d)
        items = self.item_embedding(wanted_items(batch).clamp(min=0))
        penalty = half_squared_norm(len(query), query, items)
        return Embeddings.of(batch, query, *split_items(items, batch), penalty)

    def scorer(self) -> FactorScorer:
        """Known users by their table row; others by the centred mean of their items.

        The mean of ``q_i - mean(q)`` over the history is the direction of BPR's first gradient
        step from ``p = 0``, so it is the cheapest useful fold-in. An item without training events
        scores 0 and is ignored in histories.
        """
        users = self.user_embedding.weight.detach().cpu().numpy().copy()
        items = self.item_embedding.weight.detach().cpu().numpy().copy()
        items[~self.trained] = 0
        trained_users = self.trained_users
        centred = (items - items[self.trained].mean(axis=0)) * self.trained[:, None]

        def encode(queries: Queries) -> FloatArray:
            rows = np.maximum(queries.users, 0)
            vectors = users[rows]
            unknown = np.flatnonzero((queries.users < 0) | ~trained_users[rows])
            if len(unknown):
                histories = queries.histories.select(unknown)
                lengths = np.maximum(histories.lengths, 1)[:, None].astype(np.float32)
                vectors[unknown] = history_sums(histories, centred) / lengths
            return vectors

        return FactorScorer(items, encode)
