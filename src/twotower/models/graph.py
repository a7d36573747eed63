"""User-item graph: normalised adjacency and fast propagation over it."""

from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.data import Histories
from twotower.types import FloatArray


class BipartiteGraph(nn.Module):
    """Symmetrically normalised adjacency, ``A[u, i] = 1 / sqrt(deg u * deg i)``.

    Nodes are users (0 … U-1), then items (U … U+I-1). Stored as compressed sparse rows with
    32-bit indices. Each distinct (user, item) pair is one edge: repeats add no weight.
    """

    indptr: Tensor
    indices: Tensor
    weights: Tensor

    def __init__(self, adjacency: sp.csr_matrix) -> None:
        super().__init__()
        self.register_buffer("indptr", torch.from_numpy(adjacency.indptr.astype(np.int32)), False)
        self.register_buffer("indices", torch.from_numpy(adjacency.indices.astype(np.int32)), False)
        self.register_buffer("weights", torch.from_numpy(adjacency.data.astype(np.float32)), False)

    @classmethod
    def fit(cls, train: Histories, num_items: int) -> Self:
        """Build from the training interactions only."""
        pairs = sp.csr_matrix(
            (np.ones(len(train.items), dtype=np.float32), (train.rows, train.items)),
            shape=(len(train), num_items),
        )
        pairs.data[:] = 1  # repeats were summed
        scale = [inverse_sqrt(np.asarray(pairs.sum(axis)).ravel()) for axis in (1, 0)]
        pairs = sp.diags(scale[0]) @ pairs @ sp.diags(scale[1])
        return cls(sp.bmat([[None, pairs], [pairs.T, None]], format="csr"))

    def multiply(self, nodes: Tensor) -> Tensor:
        """``A @ nodes`` for ``(U + I, d)`` node vectors.

        Uses a weighted embedding bag: on a CPU its kernel is several times as fast as
        ``torch.sparse.mm`` on COO or CSR (`benchmarks/lightgcn_speed.py`).
        """
        return F.embedding_bag(
            self.indices,
            nodes,
            self.indptr,
            mode="sum",
            per_sample_weights=self.weights,
            include_last_offset=True,
        )

    def propagate(self, nodes: Tensor, layers: int) -> Tensor:
        """Mean of ``A^0 x … A^layers x``, differentiable in ``nodes``."""
        propagated: Tensor = _Propagate.apply(nodes, self, layers)  # type: ignore[no-untyped-call]
        return propagated


class _Propagate(torch.autograd.Function):
    """LightGCN's layer mean. ``A`` is symmetric, so the backward pass is the same map."""

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, graph: BipartiteGraph, layers: int) -> Tensor:
        ctx.graph, ctx.layers = graph, layers
        return layer_mean(graph, nodes, layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return layer_mean(ctx.graph, gradients[0].contiguous(), ctx.layers), None, None


def layer_mean(graph: BipartiteGraph, nodes: Tensor, layers: int) -> Tensor:
    """Mean of the layers by Horner's rule: one product and one addition per layer."""
    total = nodes
    for _ in range(layers):
        total = graph.multiply(total).add_(nodes)
    return total / (layers + 1)


def inverse_sqrt(degrees: FloatArray) -> FloatArray:
    """``degree ** -0.5``, 0 for a node without edges."""
    return np.divide(
        1.0,
        np.sqrt(degrees),
        out=np.zeros(len(degrees), dtype=np.float32),
        where=degrees > 0,
    )
