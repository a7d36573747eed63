"""Who has what, for samplers that must not draw it."""

from typing import Self

import numpy as np

from twotower.data import Histories
from twotower.types import Array


class PairSet:
    """The set of (user, item) pairs of a log, with a vectorised membership test."""

    def __init__(self, keys: Array, num_items: int) -> None:
        self._keys = keys
        self._num_items = num_items

    @classmethod
    def fit(cls, train: Histories, num_items: int) -> Self:
        """Collect the pairs of a log."""
        keys = np.unique(train.rows * num_items + train.items)
        # The sentinel keeps every insertion point inside the array.
        return cls(np.append(keys, np.iinfo(np.int64).max), num_items)

    def contains(self, users: Array, items: Array) -> Array:
        """Elementwise membership of ``(users, items)``, broadcast against each other."""
        wanted = users * np.int64(self._num_items) + items
        found: Array = self._keys[np.searchsorted(self._keys, wanted)] == wanted
        return found
