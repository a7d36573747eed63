"""Baselines of the demo: popularity, item-kNN, and the parts of the served model."""

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import numpy as np
from scipy import sparse

from twotower.bundle.contents import BundleContents
from twotower.inference.requests import Request, RequestReader
from twotower.inference.user_tower import UserTower
from twotower.types import FloatArray, IndexArray

POPULARITY: Final = "Popularity"
ITEM_KNN: Final = "Item-kNN"
TOWERS: Final = "Towers alone"
FACTORS: Final = "Implicit ALS alone"


class Baselines:
    """Scores of every item by popularity, by shared users, and by single parts of the bundle.

    Each user's last interaction is left out of popularity and shared users, so that they have not
    seen the item that is hidden from the other models.

    Parameters
    ----------
    contents
        A bundle's contents.
    """

    def __init__(self, contents: BundleContents) -> None:
        self._contents = contents
        self._reader = RequestReader(contents.users, contents.items, contents.histories)
        self._tower = UserTower(contents, 1)

    @cached_property
    def _pairs(self) -> sparse.csr_array:
        """Users by items, 1 where there was an interaction, without each user's last."""
        log = self._contents.histories
        lengths = np.diff(log.indptr)
        kept = np.ones(len(log.items), dtype=np.bool_)
        kept[log.indptr[1:][lengths > 0] - 1] = False
        rows = np.repeat(np.arange(len(lengths)), lengths)
        shape = (len(lengths), len(self._contents.items))
        table = sparse.csr_array(
            (np.ones(int(kept.sum()), dtype=np.float32), (rows[kept], log.items[kept])), shape=shape
        )
        table.sum_duplicates()
        table.data[:] = 1
        return table

    @cached_property
    def popularity(self) -> FloatArray:
        """``(items,)`` users of each item."""
        users: FloatArray = np.bincount(
            self._pairs.indices, minlength=len(self._contents.items)
        ).astype(np.float32)
        return users

    def together(self, rows: IndexArray) -> FloatArray:
        """``(items,)`` sums of the cosines of each item's users with those of the rows."""
        length = np.sqrt(np.maximum(self.popularity, 1))
        wanted = np.zeros(len(length), dtype=np.float32)
        wanted[rows] = 1 / length[rows]
        scores: FloatArray = (self._pairs.T @ (self._pairs @ wanted)) / length
        return scores

    def user_vector(self, history: Sequence[str]) -> FloatArray:
        """``(d,)`` vector of an anonymous user with this history."""
        vector: FloatArray = self._tower.encode(
            self._reader.queries([Request(history=list(history))])
        )[0]
        return vector

    def all_scores(self, history: Sequence[str]) -> dict[str, FloatArray]:
        """Baseline → scores of all items for an anonymous user with this history, not empty.

        The two parts of the served vectors are missing where there is only one.
        """
        contents = self._contents
        rows = contents.items.indices(history)
        vector, dim = self.user_vector(history), contents.tower_dim
        parts = {ITEM_KNN: self.together(rows), POPULARITY: self.popularity}
        if len(vector) > dim:
            parts = {
                TOWERS: contents.item_vectors[:, :dim] @ vector[:dim],
                FACTORS: contents.item_vectors[:, dim:] @ vector[dim:],
                **parts,
            }
        return parts
