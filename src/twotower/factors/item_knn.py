"""Item-kNN: items bought by the same people as what the user has had."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.types import Array, FloatArray


@dataclass(frozen=True, slots=True)
class ItemKNN:
    r"""Scores an item by its summed similarity to the items of the history.

    The similarity is the cosine of the two items' columns of the binary interaction matrix,

    .. math:: \mathrm{sim}(i, j) = \frac{|U_i \cap U_j|}{\sqrt{|U_i| \, |U_j|}}

    with ``U_i`` the users of item ``i``, kept for the ``neighbours`` most similar items of
    each (Deshpande and Karypis, Item-based top-N recommendation, TOIS 2004). The user
    is described by the history alone, so that a new user is scored as any other.

    Attributes
    ----------
    similarity
        ``(num_items, num_items)`` sparse float32; row ``i`` holds the neighbours of item ``i``.
    """

    similarity: sparse.csr_array

    @classmethod
    def fit(cls, train: Histories, num_items: int, *, neighbours: int | None = None) -> Self:
        """Compute the similarities of the training interactions.

        ``neighbours`` None keeps every item that shares a user, which ranks best on sparse
        data; a limit bounds the memory where the catalogue is large or the log is dense.

        Raises
        ------
        InputError
            Where ``neighbours`` is below 1.
        """
        if neighbours is not None and neighbours < 1:
            raise InputError(f"neighbours must be at least 1, got {neighbours}")
        bought = binary_matrix(train, num_items)
        users = np.bincount(bought.indices, minlength=num_items)
        scale = sparse.diags_array(1 / np.sqrt(np.maximum(users, 1)), dtype=np.float32)
        normalised = (bought @ scale).tocsr()
        similarity = (normalised.T @ normalised).tocoo()
        row, column = similarity.coords
        other = row != column
        pairs = row[other], column[other], similarity.data[other]
        return cls(_strongest(*pairs, num_items, num_items if neighbours is None else neighbours))

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return int(self.similarity.shape[0])

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; 0 where no item of the history is a neighbour."""
        product = binary_matrix(queries.histories, self.num_items) @ self.similarity
        scores: FloatArray = product.toarray()
        return scores


def binary_matrix(histories: Histories, num_items: int) -> sparse.csr_array:
    """``(rows, num_items)`` float32, 1 where the row holds the item, however often."""
    matrix = sparse.csr_array(
        (np.ones(len(histories.items), dtype=np.float32), histories.items, histories.indptr),
        shape=(len(histories), num_items),
        copy=True,  # summing duplicates sorts and shortens these arrays in place
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def _strongest(
    row: Array, column: Array, value: FloatArray, size: int, keep: int
) -> sparse.csr_array:
    """The ``keep`` greatest values of each row; ties go to the smaller column."""
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    starts = np.searchsorted(row, np.arange(size))
    kept = np.arange(len(row)) - starts[row] < keep
    return sparse.csr_array((value[kept], (row[kept], column[kept])), shape=(size, size))
