"""Vectors of items that nobody has had yet, from the items that read like them.

Training (`twotower.models.sequence`) and serving make them here, in NumPy.
"""

from typing import Final

import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.types import Array, BoolArray, FloatArray

_BLOCK: Final = 1024
_NO_ITEM: Final = -1


class ColdItems(Config):
    """What an item without interactions has in place of a least-squares factor.

    Its own factor is zero, and the factors of the others would keep it out of every list. So it
    gets the mean factor of the items with the nearest texts, which lends it their buyers. A mean
    is shorter than what it is a mean of, and an item that is new has no popularity to show; the
    scales make up for both. They decide how often new items are shown at the cost of the others.
    """

    neighbours: int = Field(5, ge=1)
    """Items whose factors are averaged."""
    factor_scale: float = Field(1.4, gt=0)
    """What the mean is multiplied by."""
    tower_scale: float = Field(1.2, gt=0)
    """What the item tower's unit vector is multiplied by."""

    def nearest(self, text: FloatArray, table: FloatArray, trained: BoolArray) -> Array:
        """``(m, neighbours)`` int64: for texts ``(m, t)``, rows of ``table`` ``(n, t)``.

        By cosine among the rows that are ``trained`` ``(n,)``, in no order; -1 throughout where
        there is no text (a zero vector) or nothing was trained.
        """
        count = min(self.neighbours, int(trained.sum()))
        rows = np.full((len(text), max(count, 1)), _NO_ITEM)
        has_text = np.flatnonzero(text.any(axis=1)) if count else np.empty(0, dtype=np.int64)
        for start in range(0, len(has_text), _BLOCK):
            block = has_text[start : start + _BLOCK]
            alike = np.where(trained, text[block] @ table.T, -np.inf)
            rows[block] = np.argpartition(-alike, count - 1)[:, :count]
        return rows

    def vectors(self, towers: FloatArray, nearest: Array, factors: FloatArray) -> FloatArray:
        """``(m, d + f)`` of tower vectors ``(m, d)`` and rows `nearest` of factors ``(n, f)``."""
        borrowed = sum(factors[rows] for rows in nearest.T) / np.float32(nearest.shape[1])
        borrowed[nearest[:, 0] == _NO_ITEM] = 0
        return np.hstack([self.tower_scale * towers, self.factor_scale * borrowed])
