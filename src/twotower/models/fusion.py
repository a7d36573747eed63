"""Fusion layers that combine the parts of a tower into one vector."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.config import Config


class ConcatMLPConfig(Config):
    """Concatenate the parts, then one hidden layer with LayerNorm."""

    kind: Literal["concat_mlp"] = "concat_mlp"
    hidden_dim: int = Field(128, ge=1)
    """Width of the hidden layer."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of hidden units dropped in training."""

    def build(self, part_dims: Sequence[int], out_dim: int) -> nn.Module:
        """Make the module for parts of the given widths."""
        return ConcatMLP(self, sum(part_dims), out_dim)


class ConcatMLP(nn.Module):
    """``Linear -> ReLU -> LayerNorm -> Dropout -> Linear`` over the concatenated parts."""

    def __init__(self, config: ConcatMLPConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_dim, config.hidden_dim),
            nn.ReLU(),
            nn.LayerNorm(config.hidden_dim),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_dim, out_dim),
        )

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """``(B, p_1) … (B, p_n)`` to ``(B, out_dim)``, not yet normalised."""
        fused: Tensor = self.layers(torch.cat(list(parts), dim=-1))
        return fused


class FMGatesConfig(Config):
    """Sum the parts, each weighted by a learned gate.

    The score of a user and an item is then a weighted sum of the dot products of every user part
    with every item part: the pairwise interactions of a factorisation machine (Rendle, ICDM
    2010), between parts instead of single features.
    """

    kind: Literal["fm_gates"] = "fm_gates"

    def build(self, part_dims: Sequence[int], out_dim: int) -> nn.Module:
        """Make the module for parts of the given widths."""
        return FMGates(part_dims, out_dim)


class FMGates(nn.Module):
    """``sum_k softmax(gates)_k * unit(linear_k(part_k))``.

    Every projected part has unit length: its weight is its gate alone.
    """

    def __init__(self, part_dims: Sequence[int], out_dim: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(dim, out_dim) for dim in part_dims)
        self.gates = nn.Parameter(torch.zeros(len(part_dims)))

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """``(B, p_1) … (B, p_n)`` to ``(B, out_dim)``, not yet normalised."""
        projected = [project(part) for project, part in zip(self.projections, parts, strict=True)]
        stacked = F.normalize(torch.stack(projected, dim=1), dim=-1)  # (B, n, d)
        return (stacked * self.gate_weights()[None, :, None]).sum(dim=1)

    def gate_weights(self) -> Tensor:
        """``(n,)`` weights of the parts, in their order; they sum to 1."""
        return self.gates.softmax(dim=0)


Fusion = Annotated[ConcatMLPConfig | FMGatesConfig, Field(discriminator="kind")]
"""All fusions; to add one, write a class in this file and name it here."""
