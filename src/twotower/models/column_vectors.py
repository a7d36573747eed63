"""Embedding of declared item, user and request-context columns as one vector."""

from typing import Final

import torch
from torch import Tensor, nn

from twotower.features.declared_columns import ColumnEncoders, Encoded, Slots

INPUTS: Final = ("codes", "weights", "dense")
"""Input names, in order, as in the exported towers' graphs."""
_INIT_STD: Final = 0.05
HIDDEN: Final = 0.1
"""Dropout in training: share of requests with their whole context hidden, of columns hidden in
the other requests, and of item or user rows with all their columns hidden."""


class ColumnVectors(nn.Module):
    """Sum of the columns' embeddings: categories from one table, numbers through a linear map.

    A layer over the concatenated embeddings would be the same map with more weights. In training
    all columns of a random share of rows are hidden: the trained model then works with and
    without them (Neverova et al., *ModDrop*, TPAMI 2016).
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
        if self.training:
            vectors = vectors * (torch.rand(len(vectors), 1, device=vectors.device) >= HIDDEN)
        return vectors


class RequestContext(nn.Module):
    """Vector added to a user's state for the context of a request; initialised to zero.

    Training hides single columns, or all columns of a request, at random, to prepare the tower
    for requests that leave some or all of them out.

    Parameters
    ----------
    encoders
        Fitted on the context of training events.
    encoded
        ``(contexts + 1,)`` rows; row 0 is a request without any known context.
    slots
        The column that each code and number of a row belongs to.
    dim
        Width of the state.
    """

    codes: Tensor
    weights: Tensor
    dense: Tensor
    code_slots: Tensor
    dense_slots: Tensor

    def __init__(self, encoders: ColumnEncoders, encoded: Encoded, slots: Slots, dim: int) -> None:
        super().__init__()
        self.vectors = ColumnVectors(encoders, encoded, dim, init_std=0.0)
        self._columns = len(encoders.encoders)
        tables = encoded._asdict() | {"code_slots": slots.codes, "dense_slots": slots.dense}
        for name, table in tables.items():  # data, and no weights
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def forward(self, codes: Tensor, weights: Tensor, dense: Tensor) -> Tensor:
        """Encoded contexts of ``B`` requests to ``(B, dim)``."""
        vectors: Tensor = self.vectors(codes, weights, dense)
        return vectors

    def of_rows(self, rows: Tensor) -> Tensor:
        """Context rows of any shape (0 for an unknown context) to ``(..., dim)``."""
        vectors: Tensor = self(*self.inputs(rows.flatten()))
        return vectors.reshape(*rows.shape, -1)

    def inputs(self, rows: Tensor) -> list[Tensor]:
        """Inputs of `forward` for rows ``(B,)``; in training some are hidden at random."""
        of_columns = rows[:, None].expand(-1, self._columns)
        if self.training:
            hidden = torch.rand(of_columns.shape, device=rows.device) < HIDDEN
            whole = torch.rand(len(rows), 1, device=rows.device) < HIDDEN
            of_columns = of_columns.masked_fill(hidden | whole, 0)
        by_code, by_number = of_columns[:, self.code_slots], of_columns[:, self.dense_slots]
        place = torch.arange(self.codes.shape[1], device=rows.device)
        return [
            self.codes[by_code, place],
            self.weights[by_code, place],
            self.dense[by_number, torch.arange(self.dense.shape[1], device=rows.device)],
        ]


def examples(like: Encoded, prefix: str = "") -> dict[str, Tensor]:
    """Example inputs of one row by name, for exporting a tower."""
    return {
        f"{prefix}codes": torch.zeros(1, like.codes.shape[1], dtype=torch.int64),
        f"{prefix}weights": torch.zeros(1, like.weights.shape[1]),
        f"{prefix}dense": torch.zeros(1, like.dense.shape[1]),
    }
