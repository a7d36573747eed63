"""Text vectors in their principal components, as a module that exports with its tower."""

from typing import Self

import torch
from torch import Tensor, nn

from twotower.types import FloatArray


class TextComponents(nn.Module):
    """Centred, scaled to length 1, and turned to the directions of greatest variance.

    Vectors of one catalogue's titles have much in common, which tells no item apart: centred, they
    spread. No text (a zero vector) stays no text.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, mean: Tensor, basis: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)

    @classmethod
    def fit(cls, text: FloatArray, components: int) -> Self:
        """Fit mean and components on ``(n, t)`` text vectors, zero where there is no text."""
        vectors = torch.from_numpy(text)
        written = vectors[vectors.any(dim=1)].double()
        mean = written.mean(0) if len(written) else vectors.new_zeros(text.shape[1]).double()
        centred = nn.functional.normalize(written - mean, dim=-1)
        _, basis = torch.linalg.eigh(centred.T @ centred)
        return cls(mean.float(), basis.flip(1)[:, :components].float())

    @property
    def input_dim(self) -> int:
        """Dimensions of the text vectors that are read."""
        return int(self.basis.shape[0])

    @property
    def components(self) -> int:
        """Directions that are kept."""
        return int(self.basis.shape[1])

    def forward(self, text: Tensor) -> Tensor:
        """``(B, t)`` to ``(B, components)``."""
        written = (text != 0).any(dim=-1, keepdim=True)
        centred = nn.functional.normalize(text - self.mean, dim=-1)
        return (centred @ self.basis) * written
