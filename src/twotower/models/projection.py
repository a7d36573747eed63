"""Projection to shorter vectors: by dot products, or by principal components of texts."""

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from twotower.types import FloatArray


class Projections(NamedTuple):
    """Maps ``(d, k)`` of users and items, whose dot product is taken after them."""

    user: FloatArray
    item: FloatArray


def score_projections(users: FloatArray, items: FloatArray, dim: int) -> Projections:
    r"""The maps whose ``dim`` dimensions keep the scores of users for items best.

    With scores :math:`S = U V^T`, the maps give the matrix of that rank which is nearest to ``S``
    in squared error (Eckart and Young, 1936). Only the Gram matrices are needed: with
    :math:`A = U^T U / n`, and ``P`` the leading eigenvectors of :math:`A^{1/2} B A^{1/2}` and
    :math:`\sigma^2` their eigenvalues, :math:`B = V^T V / m`, the user is mapped by
    :math:`A^{-1/2} P \sigma^{1/2}` and the item by :math:`A^{1/2} P \sigma^{-1/2}`. So a dimension
    is as long on either side, which keeps approximate search easy.

    Parameters
    ----------
    users
        ``(n, d)`` vectors of the users that matter; a sample will do.
    items
        ``(m, d)``.
    dim
        From 1 to ``d``.
    """
    gram = users.T.astype(np.float64) @ users / max(len(users), 1)
    values, basis = np.linalg.eigh(gram)
    # Directions in which no user points would be divided by nothing.
    roots = np.sqrt(np.maximum(values, 1e-8 * max(values[-1], 1e-8)))
    root, inverse = (basis * roots) @ basis.T, (basis / roots) @ basis.T
    products = items.T.astype(np.float64) @ items / max(len(items), 1)
    strengths, directions = np.linalg.eigh(root @ products @ root)
    leading = directions[:, ::-1][:, :dim]
    # Of the scores' singular values half goes to either side.
    least = 1e-12 * max(strengths[-1], 1e-12)
    balance = np.maximum(strengths[::-1][:dim], least) ** 0.25
    user, item = inverse @ leading * balance, root @ leading / balance
    return Projections(user.astype(np.float32), item.astype(np.float32))


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
