"""Declared columns of a row as one vector."""

from typing import Final

import torch
from torch import Tensor, nn

from twotower.features.declared_columns import ColumnEncoders, Encoded

INPUTS: Final = ("codes", "weights", "dense")
"""Names of what it reads, in order, as the towers' graphs have them."""
_INIT_STD: Final = 0.05


class ColumnVectors(nn.Module):
    """The sum of each column's embedding: of its values in one table, or of its numbers.

    A layer over the columns' embeddings side by side would be the same map, with more weights.
    """

    def __init__(
        self, encoders: ColumnEncoders, like: Encoded, dim: int, init_std: float = _INIT_STD
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(encoders.rows, dim, padding_idx=0)
        self.dense = nn.Linear(like.dense.shape[1], dim)
        with torch.no_grad():  # small, so that what is learned outweighs it
            self.table.weight.mul_(init_std)
            nn.init.normal_(self.dense.weight, std=init_std)
            nn.init.zeros_(self.dense.bias)

    def forward(self, codes: Tensor, weights: Tensor, dense: Tensor) -> Tensor:
        """``(B, S)`` codes and weights and ``(B, D)`` numbers to ``(B, dim)``."""
        values = (self.table(codes) * weights[..., None]).sum(dim=1)
        vectors: Tensor = self.dense(dense) + values
        return vectors


def examples(like: Encoded, prefix: str = "") -> dict[str, Tensor]:
    """Inputs of one row by name, for the export of a tower."""
    return {
        f"{prefix}codes": torch.zeros(1, like.codes.shape[1], dtype=torch.int64),
        f"{prefix}weights": torch.zeros(1, like.weights.shape[1]),
        f"{prefix}dense": torch.zeros(1, like.dense.shape[1]),
    }
