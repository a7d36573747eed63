"""Vectors of cold-start items, from the factors of items with similar texts.

Used by training (`twotower.models.sequence`) and serving; NumPy only.
"""

import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.factors.text_smoothing import Nearness, mean_of, nearest_texts
from twotower.types import Array, BoolArray, FloatArray


class ColdItems(Config):
    """Substitute for the least-squares factor of an item without interactions.

    Its own factor is zero, which would keep it out of every list. Instead it gets the mean factor
    of the items with the nearest texts and a similar release time. A mean is shorter than its
    parts, and a new item has no popularity; the scales compensate for both. They trade exposure of
    new items against that of the others.
    """

    neighbours: int = Field(6, ge=1)
    """Items whose factors are averaged."""
    release_weight: float = Field(0.2, ge=0)
    """Weight of release proximity relative to the cosine of the texts."""
    factor_scale: float = Field(0.85, ge=0)
    """Factor on the mean. This and ``tower_scale`` are fitted on validation if it has enough
    queries: see `twotower.training.cold_start`."""
    tower_scale: float = Field(1.34, ge=0)
    """Factor on the item tower's unit vector."""
    cost: float = Field(0.02, ge=0, le=1)
    """Largest relative loss of validation NDCG@10 for users with other held-out items, when a
    twentieth of the catalogue simulates new items."""
    exposure: float = Field(0.05, ge=0, le=1)
    """Largest share of top-10 list slots for all items without events together, measured on
    validation users; see `twotower.factors.exposure` for items added later."""

    def nearest(
        self, text: FloatArray, table: FloatArray, trained: BoolArray, released: Nearness
    ) -> Array:
        """``(m, neighbours)`` int64: see `nearest_texts`, among the rows that are trained.

        ``released`` are `ReleaseOrder.waves`.
        """
        nearness = released.weighed(self.release_weight)
        return nearest_texts(text, table, trained, self.neighbours, nearness=nearness)

    def vectors(self, towers: FloatArray, nearest: Array, factors: FloatArray) -> FloatArray:
        """``(m, d + f)`` of tower vectors ``(m, d)`` and rows `nearest` of factors ``(n, f)``."""
        borrowed = mean_of(factors, nearest)
        return np.hstack([self.tower_scale * towers, self.factor_scale * borrowed])
