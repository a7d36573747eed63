"""Shorter vectors with nearly the same dot products."""

from typing import NamedTuple

import numpy as np

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
