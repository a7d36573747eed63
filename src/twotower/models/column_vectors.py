"""Declared columns of a row, and of the context of a request, as one vector."""

from typing import Final

import torch
from torch import Tensor, nn

from twotower.features.declared_columns import ColumnEncoders, Encoded, Slots

INPUTS: Final = ("codes", "weights", "dense")
"""Names of what it reads, in order, as the towers' graphs have them."""
_INIT_STD: Final = 0.05
HIDDEN: Final = 0.1
"""Share of requests whose context is hidden in training, of columns of the others, and of rows
whose columns add nothing."""


class ColumnVectors(nn.Module):
    """The sum of each column's embedding: of its values in one table, or of its numbers.

    A layer over the columns' embeddings side by side would be the same map, with more weights. In
    training the columns of a row add nothing now and then, so that one training makes a model that
    can do with and without them (Neverova et al., *ModDrop*, TPAMI 2016).
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
    """What is added to the state of a user for the context of a request; nothing at first.

    In training a column is hidden now and then, and all columns of a request are, so that the tower
    answers requests that leave some or all of them out.

    Parameters
    ----------
    encoders
        Fitted on the context of training events.
    encoded
        ``(contexts + 1,)`` rows; row 0 is a request of which nothing is known.
    slots
        Which column each code and number of a row is of.
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
        """Rows of the contexts, of any shape, 0 where nothing is known, to ``(..., dim)``."""
        vectors: Tensor = self(*self.inputs(rows.flatten()))
        return vectors.reshape(*rows.shape, -1)

    def inputs(self, rows: Tensor) -> list[Tensor]:
        """What `forward` reads of rows ``(B,)``; in training with some of it hidden."""
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
    """Inputs of one row by name, for the export of a tower."""
    return {
        f"{prefix}codes": torch.zeros(1, like.codes.shape[1], dtype=torch.int64),
        f"{prefix}weights": torch.zeros(1, like.weights.shape[1]),
        f"{prefix}dense": torch.zeros(1, like.dense.shape[1]),
    }
