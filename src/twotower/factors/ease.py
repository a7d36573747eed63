"""EASE: the best linear item-to-item model, in closed form."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy import sparse
from scipy.linalg.lapack import spotrf, spotri

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.factors.item_knn import interaction_matrix, strongest_links
from twotower.types import Array, FloatArray

MOST_ITEMS: Final = 36_000
"""Largest number of bought items: the matrix to invert is then 4.8 GiB."""
BLOCK: Final = 1024
"""Columns that are worked on at once."""


@dataclass(frozen=True, slots=True)
class EASE:
    r"""Scores an item by a learned weight from each item of the history.

    The weights minimise the squared error of rebuilding the interaction matrix (binary, or of
    the square roots of the events' weights) from itself, with no item predicting itself
    (Steck, *Embarrassingly shallow autoencoders for sparse data*, WWW 2019):

    .. math:: P = (X^T X + \lambda I)^{-1}, \quad B_{ij} = -P_{ij} / P_{jj}, \quad B_{jj} = 0

    The matrix is inverted in place, in single precision: its peak memory is
    little more than ``4 * bought items ** 2`` bytes. A new user is scored like any other.
    """

    weights: FloatArray | sparse.csr_array
    """``(bought, bought)`` float32, dense, or sparse where links were cut. Row ``i`` holds what
    item ``bought_items[i]`` in the history adds to each."""
    bought_items: Array
    """``(bought,)`` the items of the training interactions; others score 0."""
    num_items: int
    """Size of the catalogue."""

    @classmethod
    def fit(
        cls,
        train: Histories,
        num_items: int,
        *,
        regularisation: float = 200.0,
        links: int | None = None,
    ) -> Self:
        """Solve for the weights.

        Parameters
        ----------
        regularisation
            ``λ``: larger values shrink the weights of items with few interactions more.
        links
            Strongest weights to keep of each item in a history, by absolute value; None keeps
            all. The weights are then sparse, which holds less memory and scores faster.

        Raises
        ------
        InputError
            Where a setting is out of range, or the matrix too large to invert.
        """
        if regularisation <= 0:
            raise InputError(f"regularisation must be positive, got {regularisation}")
        if links is not None and links < 1:
            raise InputError(f"links must be at least 1, got {links}")
        bought = np.unique(train.items)
        if len(bought) > MOST_ITEMS:
            raise InputError(
                f"EASE inverts a dense matrix of all {len(bought):,} bought items, "
                f"at most {MOST_ITEMS:,} fit",
                "use item-knn, or a k-core of the data",
            )
        interactions = interaction_matrix(train, num_items, root=True)[:, bought]
        weights = _solve((interactions.T @ interactions).tocsc(), regularisation)
        if links is None:
            return cls(weights, bought, num_items)
        blocks = (weights[start : start + BLOCK] for start in range(0, len(weights), BLOCK))
        cut = [strongest_links(sparse.csr_array(block), links) for block in blocks]
        return cls(sparse.vstack(cut, format="csr"), bought, num_items)

    @property
    def similarity(self) -> sparse.csr_array:
        """``(num_items, num_items)`` sparse: the weights, in rows and columns of all items."""
        links = sparse.coo_array(self.weights)
        rows, columns = (self.bought_items[axis] for axis in links.coords)
        shape = (self.num_items, self.num_items)
        return sparse.csr_array((links.data, (rows, columns)), shape=shape)

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; 0 for items without interactions."""
        history = interaction_matrix(queries.histories, self.num_items, root=True)[
            :, self.bought_items
        ]
        found = history @ self.weights
        scores = np.zeros((len(queries), self.num_items), dtype=np.float32)
        scores[:, self.bought_items] = found.toarray() if sparse.issparse(found) else found
        return scores


def _solve(gram: sparse.csc_array, regularisation: float) -> FloatArray:
    """The weights, in the memory of the dense Gram matrix."""
    matrix = gram.toarray(order="F")  # column-major: LAPACK works in place
    diagonal = np.arange(len(matrix))
    matrix[diagonal, diagonal] += regularisation
    matrix, failed = spotrf(matrix, lower=True, clean=False, overwrite_a=True)
    if not failed:
        matrix, failed = spotri(matrix, lower=True, overwrite_c=True)
    if failed:
        raise InputError(
            f"the matrix of EASE cannot be inverted in single precision with regularisation "
            f"{regularisation}",
            "raise it",
        )
    for start in range(0, len(matrix), BLOCK):  # only the lower triangle was written
        stop = min(start + BLOCK, len(matrix))
        matrix[:start, start:stop] = matrix[start:stop, :start].T
        square = matrix[start:stop, start:stop]
        square[:] = np.tril(square) + np.tril(square, -1).T
    weights: FloatArray = matrix.T  # symmetric, and row-major from here on
    scale = -1 / weights[diagonal, diagonal]
    weights *= scale
    weights[diagonal, diagonal] = 0
    return weights
