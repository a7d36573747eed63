"""Vectors of cold items, from the items with like texts.

Training (`twotower.models.sequence`) and serving make them here, in NumPy.
"""

import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.factors.text_smoothing import Nearness, mean_of, nearest_texts
from twotower.types import Array, BoolArray, FloatArray


class ColdItems(Config):
    """What an item without interactions has in place of a least-squares factor.

    Its own factor is zero, and the factors of the others would keep it out of every list. So it
    gets the mean factor of the items with the nearest texts that came out at about the same time,
    and is near their buyers. A mean is shorter than its parts, and a new item has no popularity to
    show; the scales make up for both. They decide how often new items are shown at the cost of the
    others.
    """

    neighbours: int = Field(6, ge=1)
    """Items whose factors are averaged."""
    release_weight: float = Field(0.2, ge=0)
    """What nearness of release counts beside the cosine of the texts."""
    factor_scale: float = Field(0.85, ge=0)
    """What the mean is multiplied by. Of this and the next, values are fitted on validation where
    it has enough to say: see `twotower.training.cold_start`."""
    tower_scale: float = Field(1.34, ge=0)
    """What the item tower's unit vector is multiplied by."""
    cost: float = Field(0.02, ge=0, le=1)
    """Largest share of NDCG@10 that users who take other items may lose, on validation, by scales
    that show a twentieth of the catalogue as new items."""
    exposure: float = Field(0.05, ge=0, le=1)
    """Largest share of the places of top-10 lists that all items without events may take
    together, measured on validation users; see `twotower.factors.exposure` for items that are
    added later."""

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
