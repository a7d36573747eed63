"""Items that read alike: what is known of one says something about the others.

Training (`twotower.models.sequence`) and serving find them here, in NumPy.
"""

from typing import Final

import faiss
import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.types import Array, BoolArray, FloatArray

_BLOCK: Final = 4096
_SPARE: Final = 8
"""Rows asked for beyond those wanted, since some may not lend."""
_NO_ITEM: Final = -1


def nearest_texts(
    text: FloatArray, table: FloatArray, lenders: BoolArray, count: int, own: Array | None = None
) -> Array:
    """``(m, count)`` int64: for texts ``(m, t)``, the nearest rows of ``table`` ``(n, t)``.

    By cosine, nearest first, among the rows that are ``lenders`` ``(n,)``, of which a text that
    is itself row ``own[i]`` of the table ``(m,)`` is none. Fewer columns where there are fewer
    lenders; -1 throughout where there is no text (a zero vector) or no lender.
    """
    others = int(lenders.sum()) - (own is not None)
    count = max(min(count, others), 0)
    rows = np.full((len(text), max(count, 1)), _NO_ITEM)
    has_text = np.flatnonzero(text.any(axis=1)) if count else np.empty(0, dtype=np.int64)
    for start in range(0, len(has_text), _BLOCK):
        left, asked = has_text[start : start + _BLOCK], count + _SPARE
        while len(left):
            # FAISS holds no more than the best, where NumPy would hold all: several times as fast.
            asked = min(asked, len(table))
            _, near = faiss.knn(text[left], table, asked, metric=faiss.METRIC_INNER_PRODUCT)
            lends = lenders[near]
            if own is not None:
                lends &= near != own[left][:, None]
            found = np.argsort(~lends, axis=1, kind="stable")[:, :count]  # lenders first, in order
            enough = lends.sum(axis=1) >= count
            rows[left[enough]] = np.take_along_axis(near, found, axis=1)[enough]
            left, asked = left[~enough], 4 * asked
    return rows


def mean_of(table: FloatArray, rows: Array) -> FloatArray:
    """``(m, d)`` means of the rows `nearest_texts` of a table ``(n, d)``; zeros for none."""
    mean: FloatArray = sum(table[column] for column in rows.T) / np.float32(rows.shape[1])
    mean[rows[:, 0] == _NO_ITEM] = 0
    return mean


class TextSmoothing(Config):
    r"""What an item's least-squares factor borrows from those of items that read like it.

    An item with few events has a factor that is mostly chance. With ``n`` events it gets

    .. math:: f_i + \frac{k}{n_i + k} \cdot \frac{1}{|N_i|} \sum_{j \in N_i} f_j

    over the nearest texts :math:`N_i`, which is a prior by text that purchases outweigh.
    """

    neighbours: int = Field(5, ge=1)
    """Items that lend."""
    events: float = Field(30.0, ge=0)
    """:math:`k`: with so many events an item borrows half of the mean."""

    def smoothed(self, factors: FloatArray, text: FloatArray, events: Array) -> FloatArray:
        """``(n, d)`` of factors ``(n, d)``, unit texts ``(n, t)`` and numbers of events ``(n,)``.

        An item without an event neither borrows nor lends.
        """
        trained = events > 0
        rows = np.flatnonzero(trained)
        nearest = nearest_texts(text[rows], text, trained, self.neighbours, own=rows)
        share = (self.events / (events[rows] + self.events)).astype(np.float32)
        smoothed = factors.copy()
        smoothed[rows] += share[:, None] * mean_of(factors, nearest)
        return smoothed
