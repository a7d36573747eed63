"""How the parts of a tower become one vector."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from twotower.config import Config


class ConcatMLPConfig(Config):
    """Concatenate the parts, then one hidden layer with LayerNorm."""

    kind: Literal["concat_mlp"] = "concat_mlp"
    hidden_dim: int = Field(128, ge=1)
    """Width of the hidden layer."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of hidden units that are dropped in training."""

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


Fusion = ConcatMLPConfig
"""Every fusion there is; a new one is a class in this file and a name here."""
