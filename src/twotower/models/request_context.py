"""Context of a request as an input of the user tower."""

from typing import Final

import torch
from torch import Tensor, nn

from twotower.features.declared_columns import ColumnEncoders, Encoded, Slots
from twotower.models.column_vectors import ColumnVectors

HIDDEN: Final = 0.1
"""Share of requests whose context is hidden in training, and of columns of the others."""


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
