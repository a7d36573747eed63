"""Item-kNN: items bought by the same people as what the user has had."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from scipy import sparse

from twotower.data import Histories, Queries
from twotower.data.events import strongest_of_pairs
from twotower.errors import InputError
from twotower.types import FloatArray

MOST_LINKS: Final = 100_000_000
"""Similarities that are kept, 0.8 GB: 3,800 an item of 26 thousand, 100 of a million."""
_PRODUCTS: Final = 20_000_000
"""Products that are summed up at once, about 0.3 GB."""


@dataclass(frozen=True, slots=True)
class ItemKNN:
    r"""Scores an item by its summed similarity to the items of the history.

    The similarity is the cosine of the two items' columns of the binary interaction matrix,

    .. math:: \mathrm{sim}(i, j) = \frac{|U_i \cap U_j|}{\sqrt{|U_i| \, |U_j|}}

    with ``U_i`` the users of item ``i``, kept for the ``neighbours`` most similar items of
    each (Deshpande and Karypis, Item-based top-N recommendation, TOIS 2004). Of events with
    weights the columns hold the square roots, so that an event of weight 2 counts as two. The user
    is described by the history alone, so that a new user is scored as any other.
    """

    similarity: sparse.csr_array
    """``(num_items, num_items)`` sparse float32; row ``i`` holds the neighbours of item ``i``."""

    @classmethod
    def fit(cls, train: Histories, num_items: int, *, neighbours: int | None = None) -> Self:
        """Compute the similarities of the training interactions, a block of items at a time.

        ``neighbours`` None keeps every item that shares a user, which ranks best on sparse
        data, as far as all items together have at most `MOST_LINKS`; a limit bounds the memory
        further.

        Raises
        ------
        InputError
            Where ``neighbours`` is below 1.
        """
        if neighbours is not None and neighbours < 1:
            raise InputError(f"neighbours must be at least 1, got {neighbours}")
        keep = max(1, MOST_LINKS // num_items) if neighbours is None else neighbours
        bought = interaction_matrix(train, num_items, root=True)
        squares = np.bincount(bought.indices, bought.data**2, minlength=num_items)
        norms = np.sqrt(np.where(squares > 0, squares, 1))
        scale = sparse.diags_array(1 / norms, dtype=np.float32)
        by_user = (bought @ scale).tocsr()
        by_item = by_user.T.tocsr()
        products = by_item.astype(np.bool_) @ np.diff(by_user.indptr)
        ends = np.cumsum(products)
        blocks, start = [], 0
        while start < num_items:
            before = ends[start] - products[start]
            end = max(start + 1, int(np.searchsorted(ends, before + _PRODUCTS, "right")))
            end = min(end, num_items)
            block = (by_item[start:end] @ by_user).tocsr()
            itself = start + np.repeat(np.arange(end - start), np.diff(block.indptr))
            block.data[block.indices == itself] = 0
            block.eliminate_zeros()
            blocks.append(strongest_links(block, keep))
            start = end
        return cls(sparse.vstack(blocks, format="csr"))

    @property
    def num_items(self) -> int:
        """Size of the catalogue."""
        return int(self.similarity.shape[0])

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32; 0 where no item of the history is a neighbour."""
        product = interaction_matrix(queries.histories, self.num_items, root=True) @ self.similarity
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


def interaction_matrix(
    histories: Histories, num_items: int, *, root: bool = False
) -> sparse.csr_array:
    """``(rows, num_items)`` float32: the greatest weight of the row's events with the item.

    1 where events have no weights, as `binary_matrix`. With ``root`` the square root of the weight:
    in a product of two such matrices an event of weight 2 then counts as two events.
    """
    weights = histories.weights
    if weights is None:
        return binary_matrix(histories, num_items)
    strongest = strongest_of_pairs(histories.rows * num_items + histories.items, weights)
    kept = histories.keep(strongest)
    matrix = sparse.csr_array(
        (kept.weights, kept.items, kept.indptr), shape=(len(kept), num_items), copy=True
    )
    matrix.sort_indices()
    if root:
        np.sqrt(matrix.data, out=matrix.data)
    return matrix


def strongest_links(links: sparse.csr_array, keep: int) -> sparse.csr_array:
    """The ``keep`` values of each row that are furthest from 0; ties go to the smaller column."""
    links.sort_indices()
    lengths = np.diff(links.indptr)
    kept = np.ones(links.nnz, dtype=np.bool_)
    for row in np.flatnonzero(lengths > keep):
        span = slice(links.indptr[row], links.indptr[row + 1])
        values = np.abs(links.data[span])
        least = np.partition(values, len(values) - keep)[len(values) - keep]
        best = values > least
        best[np.flatnonzero(values == least)[: keep - np.count_nonzero(best)]] = True
        kept[span] = best
    indptr = np.append(0, np.cumsum(np.minimum(lengths, keep)))
    return sparse.csr_array((links.data[kept], links.indices[kept], indptr), shape=links.shape)
