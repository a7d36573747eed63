"""LightGCN: embeddings propagated over the user-item graph."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from twotower.data import Histories, Queries
from twotower.factors.scorer import FactorScorer, distinct, history_sums
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
from twotower.models.graph import BipartiteGraph, inverse_sqrt
from twotower.types import FloatArray


class LightGCNConfig(ModelFamily):
    """LightGCN (He et al., SIGIR 2020): no transformation, no non-linearity, mean of layers."""

    kind: Literal["lightgcn"] = "lightgcn"
    embedding_dim: int = Field(64, ge=1)
    """Length of a node vector."""
    layers: int = Field(3, ge=1)
    """Propagation steps."""
    init_std: float = Field(0.1, gt=0)
    """Standard deviation of the initial table."""

    def build(self, inputs: ModelInputs) -> "LightGCN":
        """Make the module."""
        return LightGCN(self, inputs.dataset.train, len(inputs.dataset.items))


class LightGCN(RetrievalModule):
    """One table of node vectors, propagated over the training graph at every step."""

    def __init__(self, config: LightGCNConfig, train: Histories, num_items: int) -> None:
        super().__init__()
        self.config = config
        self.num_users = len(train)
        self.graph = BipartiteGraph.fit(train, num_items)
        self.node_embedding = nn.Embedding(self.num_users + num_items, config.embedding_dim)
        nn.init.normal_(self.node_embedding.weight, std=config.init_std)

    def forward(self, batch: Batch) -> Embeddings:
        """Propagate the whole graph, then look up the batch."""
        # Missing negatives are -1: any row will do, they are masked.
        items = self.num_users + wanted_items(batch).clamp(min=0)
        wanted = torch.cat([batch.users, items])
        nodes = self.graph.propagate(self.node_embedding.weight, self.config.layers)
        query, looked_up = torch.split(nodes[wanted], [len(batch.users), len(items)])
        penalty = half_squared_norm(len(query), self.node_embedding(wanted))
        return Embeddings.of(batch, query, *split_items(looked_up, batch), penalty)

    @torch.no_grad()
    def scorer(self) -> FactorScorer:
        """User vectors from the query's history, item vectors from the training graph.

        A user's propagated vector is a sum over history items, computed here from the query's
        history exactly as in the graph. With the training history it *is* the trained vector; a
        new interaction adds a term; a user without an id lacks only the id's term.
        """
        layers = [self.node_embedding.weight]
        for _ in range(self.config.layers):
            layers.append(self.graph.multiply(layers[-1]))
        stack = torch.stack(layers).cpu().numpy() / np.float32(len(layers))
        own = stack[0, : self.num_users]
        user_degrees = np.diff(self.graph.indptr.cpu().numpy())[: self.num_users]
        own[user_degrees == 0] = 0  # as for items: without an edge it is still its random start
        item_layers = stack[:, self.num_users :]  # (layers + 1, I, d)
        items: FloatArray = item_layers.sum(axis=0)
        degrees = np.diff(self.graph.indptr.cpu().numpy())[self.num_users :]
        items[degrees == 0] = 0  # no edge: score 0 instead of its random start
        # Contribution of one history item, without the user's 1 / sqrt(degree).
        adds: FloatArray = item_layers[:-1].sum(axis=0)
        adds *= inverse_sqrt(degrees.astype(np.float32))[:, None]

        def encode(queries: Queries) -> FloatArray:
            histories = distinct(queries.histories)  # as in the graph, repeats count once
            vectors = history_sums(histories, adds)
            vectors *= inverse_sqrt(histories.lengths.astype(np.float32))[:, None]
            known = np.flatnonzero(queries.users >= 0)
            vectors[known] += own[queries.users[known]]
            return vectors

        return FactorScorer(items, encode)
