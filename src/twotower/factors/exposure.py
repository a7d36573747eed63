"""Bounds on how often items without events are recommended.

Training (`twotower.training.cold_start`) bounds those of the catalogue together, on validation
queries; serving bounds each item that is added. Both use NumPy alone.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from twotower.types import FloatArray

LIST_LENGTH: Final = 10
"""Places of a list."""
ADDED_ITEMS: Final = 20
"""So many added items together take no more than the share that the bound allows; of more, each
is allowed less."""
_LEAST_SCALE: Final = 1e-6
_BELOW: Final = 1 - 1e-4
"""A score that is to stay below another is that much smaller: float32 must not tie them."""


def places_taken(known: FloatArray, cold: FloatArray) -> float:
    """Share of the places of merged lists that cold items take.

    Parameters
    ----------
    known, cold
        ``(queries, k)`` and ``(queries, up to k)`` best scores of either kind, best first.

    Examples
    --------
    >>> places_taken(np.array([[3.0, 2.0]]), np.array([[2.5, 1.0]]))
    0.5
    """
    width = cold.shape[1]
    return float((cold > known[:, ::-1][:, :width]).sum() / max(known.size, 1))


def bounding_scale(known: FloatArray, cold: FloatArray, share: float) -> float:
    r"""The largest factor, up to 1, of cold items' scores with which they take at most ``share``.

    The j-th best cold item of a query has a place among ``k`` where its score is above that of
    the known item of rank :math:`k + 1 - j`, so that it gets in at a factor above the ratio of
    the two. The bound is a quantile of these ratios.

    Examples
    --------
    >>> known, cold = np.array([[4.0, 2.0]]), np.array([[8.0, 5.0]])
    >>> scale = bounding_scale(known, cold, 0.5)
    >>> places_taken(known, cold), places_taken(known, scale * cold)
    (1.0, 0.5)
    """
    ratios = _ratios(known[:, ::-1][:, : cold.shape[1]], cold)
    return float(_smallest_allowed(ratios.reshape(-1, 1), int(share * known.size))[0])


@dataclass(frozen=True)
class ListBars:
    """Scores that an added item has to beat: the last score in each of some users' lists."""

    users: FloatArray
    """``(queries, d)`` float32 vectors of users that were drawn from those with a history."""
    bars: FloatArray
    """``(queries,)`` float32 score of the last of each user's `LIST_LENGTH` best items."""
    items: int
    """Items that these lists were made of."""
    share: float
    """Largest share of all places that added items may take together: `ColdItems.exposure`."""

    def scales(self, vectors: FloatArray, added: int = 0) -> tuple[FloatArray, FloatArray]:
        """``(m,)`` factors up to 1 of new items' vectors ``(m, d)``, and lists without them.

        The share of lists with each item is bounded by that of an average catalogue item, or by the
        item's part of ``share`` if that is more. ``added`` items were added before.

        Returns
        -------
        scales
            ``(m,)`` float32.
        lists
            ``(m,)`` share of the lists that the item would be in with a factor of 1.
        """
        ratios = _ratios(self.bars[:, None], self.users @ vectors.T)
        together = self.share * LIST_LENGTH / max(ADDED_ITEMS, added + len(vectors))
        allowed = min(max(together, LIST_LENGTH / max(self.items, 1)), 1.0)
        scales = _smallest_allowed(ratios, int(allowed * len(self.bars)))
        return scales, (ratios < 1).mean(axis=0, dtype=np.float32)


def _ratios(bars: FloatArray, scores: FloatArray) -> FloatArray:
    """The factor of each score above which it beats its bar; infinite where none does."""
    ratios = np.full(scores.shape, np.inf, dtype=np.float32)
    np.divide(bars, scores, out=ratios, where=scores > 0)
    # Beside a bar of no height any positive score does, and a negative one already has.
    ratios[(bars <= 0) & (scores > bars)] = 0
    return ratios


def _smallest_allowed(ratios: FloatArray, allowed: int) -> FloatArray:
    """Per column, the largest factor up to 1 that at most ``allowed`` of the rows are below."""
    if allowed >= len(ratios):
        return np.ones(ratios.shape[1], dtype=np.float32)
    first_too_many = np.partition(ratios, allowed, axis=0)[allowed]
    bounded = np.where(first_too_many < 1, first_too_many * _BELOW, 1)
    return np.maximum(bounded, _LEAST_SCALE).astype(np.float32)
