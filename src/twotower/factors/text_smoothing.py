"""Text smoothing: factors of an item borrow from those of items with similar texts.

Shared by training (`twotower.models.sequence`) and serving; NumPy only.
"""

from typing import Final, NamedTuple, Self

import numpy as np
from pydantic import Field

from twotower.config import Config
from twotower.types import Array, BoolArray, FloatArray

_BLOCK: Final = 4096
_POOL: Final = 200
"""Nearest texts that `Nearness` re-ranks."""
_SPARE: Final = 32
"""Over-fetch: neighbours beyond those wanted, since some are not eligible."""
_NO_ITEM: Final = -1


class Nearness(NamedTuple):
    """Similarity added to the cosine of two texts: the inner product of two other vectors."""

    asking: FloatArray
    table: FloatArray
    """``(m, w)`` of those that ask, and ``(n, w)`` of those that are found."""

    def weighed(self, weight: float) -> Self:
        """A copy with this weight."""
        return self._replace(asking=np.float32(weight) * self.asking)


def nearest_texts(
    text: FloatArray,
    table: FloatArray,
    eligible: BoolArray,
    count: int,
    own: Array | None = None,
    nearness: Nearness | None = None,
) -> Array:
    """``(m, count)`` int64: for texts ``(m, t)``, the nearest rows of ``table`` ``(n, t)``.

    By cosine, nearest first, among the ``eligible`` ``(n,)`` rows, excluding each text's own row
    ``own[i]`` ``(m,)``. With ``nearness``, the 200 nearest texts are re-ranked by the sum of both
    similarities. Fewer columns if fewer rows are eligible; -1 throughout for a missing text (a zero
    vector) or without eligible rows.
    """
    import faiss

    others = int(eligible.sum()) - (own is not None)
    count = max(min(count, others), 0)
    pool = count if nearness is None else min(max(count, _POOL), others)
    rows = np.full((len(text), max(count, 1)), _NO_ITEM)
    has_text = np.flatnonzero(text.any(axis=1)) if count else np.empty(0, dtype=np.int64)
    for start in range(0, len(has_text), _BLOCK):
        left, asked = has_text[start : start + _BLOCK], pool + _SPARE
        while len(left):
            # FAISS holds no more than the best, where NumPy would hold all: several times as fast.
            asked = min(asked, len(table))
            cosines, near = faiss.knn(text[left], table, asked, metric=faiss.METRIC_INNER_PRODUCT)
            passes = eligible[near]
            if own is not None:
                passes &= near != own[left][:, None]
            enough = passes.sum(axis=1) >= pool
            found = np.argsort(~passes, axis=1, kind="stable")[:, :pool]  # eligible first, in order
            pooled = np.take_along_axis(near, found, axis=1)
            if nearness is not None:
                cosines = np.take_along_axis(cosines, found, axis=1)
                pooled = _reordered(pooled, cosines, nearness.asking[left], nearness.table)
            rows[left[enough]] = pooled[enough, :count]
            left, asked = left[~enough], 4 * asked
    return rows


def _reordered(near: Array, cosines: FloatArray, asking: FloatArray, table: FloatArray) -> Array:
    """Rows ``(m, pool)`` in the order of the cosine plus `Nearness`."""
    nearness = np.einsum("mw,mpw->mp", asking, table[near])
    order = np.argsort(-(cosines + nearness), axis=1, kind="stable")
    return np.take_along_axis(near, order, axis=1)


def mean_of(table: FloatArray, rows: Array) -> FloatArray:
    """``(m, d)`` means of the rows `nearest_texts` of a table ``(n, d)``; zeros for none."""
    mean: FloatArray = sum(table[column] for column in rows.T) / np.float32(rows.shape[1])
    mean[rows[:, 0] == _NO_ITEM] = 0
    return mean


class TextSmoothing(Config):
    r"""Smoothing of least-squares factors over items with similar texts.

    The factor of an item with few events is mostly noise. With ``n`` events it becomes

    .. math:: f_i + \frac{k}{n_i + k} \cdot \frac{1}{|N_i|} \sum_{j \in N_i} f_j

    over the nearest texts :math:`N_i` of about the same release: a text-based prior that
    interactions outweigh.
    """

    neighbours: int = Field(5, ge=1)
    """Items whose factors are averaged."""
    events: float = Field(30.0, ge=0)
    """:math:`k`: with so many events an item borrows half of the mean."""
    release_weight: float = Field(0.2, ge=0)
    """Weight of release proximity relative to the cosine of the texts."""

    def nearest(self, text: FloatArray, release: FloatArray, events: Array) -> Array:
        """Neighbours of each item with an event, as from `nearest_texts`.

        Takes time quadratic in the number of items; the result is the same for all factors.

        Parameters
        ----------
        text
            ``(n, t)`` unit texts.
        release
            ``(n, w)`` `ReleaseOrder.waves`.
        events
            ``(n,)`` number of events of each item.
        """
        trained = events > 0
        rows = np.flatnonzero(trained)
        nearness = Nearness(release[rows], release).weighed(self.release_weight)
        return nearest_texts(
            text[rows], text, trained, self.neighbours, own=rows, nearness=nearness
        )

    def smoothed(self, factors: FloatArray, nearest: Array, events: Array) -> FloatArray:
        """``(n, d)`` smoothed factors; an item without an event is neither smoothed nor averaged.

        Parameters
        ----------
        factors
            ``(n, d)``.
        nearest
            See `nearest`.
        events
            ``(n,)`` number of events of each item.
        """
        rows = np.flatnonzero(events > 0)
        share = (self.events / (events[rows] + self.events)).astype(np.float32)
        smoothed = factors.copy()
        smoothed[rows] += share[:, None] * mean_of(factors, nearest)
        return smoothed
