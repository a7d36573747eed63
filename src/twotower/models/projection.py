"""Dimensionality reduction: score-preserving projections, and principal components of text."""

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from twotower.types import FloatArray


class Projections(NamedTuple):
    """Maps ``(d, k)`` applied to user and item vectors before their dot product."""

    user: FloatArray
    item: FloatArray


def score_projections(users: FloatArray, items: FloatArray, dim: int) -> Projections:
    r"""Maps to ``dim`` dimensions that best preserve user-item scores.

    With scores :math:`S = U V^T`, the maps give the best rank-``dim`` approximation of ``S`` in
    squared error (Eckart and Young, 1936). Only the Gram matrices :math:`A = U^T U / n` and
    :math:`B = V^T V / m` are needed: with ``P`` the leading eigenvectors of
    :math:`A^{1/2} B A^{1/2}` and :math:`\sigma^2` their eigenvalues, users are mapped by
    :math:`A^{-1/2} P \sigma^{1/2}` and items by :math:`A^{1/2} P \sigma^{-1/2}`. Each dimension
    then has the same scale on both sides, which suits approximate nearest-neighbour search.

    Parameters
    ----------
    users
        ``(n, d)`` user vectors; a sample will do.
    items
        ``(m, d)``.
    dim
        From 1 to ``d``.
    """
    gram = users.T.astype(np.float64) @ users / max(len(users), 1)
    values, basis = np.linalg.eigh(gram)
    # Avoids division by zero in directions without users.
    roots = np.sqrt(np.maximum(values, 1e-8 * max(values[-1], 1e-8)))
    root, inverse = (basis * roots) @ basis.T, (basis / roots) @ basis.T
    products = items.T.astype(np.float64) @ items / max(len(items), 1)
    strengths, directions = np.linalg.eigh(root @ products @ root)
    leading = directions[:, ::-1][:, :dim]
    # Split the singular values of the scores equally between both sides.
    least = 1e-12 * max(strengths[-1], 1e-12)
    balance = np.maximum(strengths[::-1][:dim], least) ** 0.25
    user, item = inverse @ leading * balance, root @ leading / balance
    return Projections(user.astype(np.float32), item.astype(np.float32))


class TextComponents(nn.Module):
    """Principal components of centred and normalised text vectors.

    The title vectors of one catalogue share a large common component that distinguishes no items;
    centring removes it. A missing text (a zero vector) stays zero.
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
        """Dimension of the text vectors."""
        return int(self.basis.shape[0])

    @property
    def components(self) -> int:
        """Number of components kept."""
        return int(self.basis.shape[1])

    def forward(self, text: Tensor) -> Tensor:
        """``(B, t)`` to ``(B, components)``."""
        written = (text != 0).any(dim=-1, keepdim=True)
        centred = nn.functional.normalize(text - self.mean, dim=-1)
        return (centred @ self.basis) * written
