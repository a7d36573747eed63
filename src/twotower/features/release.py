"""Release times of items: order among training items, encoded as sines and cosines."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.types import BoolArray, DoubleArray, FloatArray

_FREQUENCIES: Final = 4
RELEASE_WAVES: Final = 2 * _FREQUENCIES
"""Numbers that encode a release."""
NEWEST: Final = float("inf")
"""A release after all others."""


def releases(rows: pl.DataFrame, unknown: float = float("nan")) -> DoubleArray:
    """``(rows,)`` the column `columns.RELEASED`; ``unknown`` where it is null or absent."""
    if columns.RELEASED not in rows.columns:
        return np.full(rows.height, unknown)
    values = rows[columns.RELEASED].cast(pl.Float64).to_numpy()
    return np.where(np.isnan(values), unknown, values)


@dataclass(frozen=True, slots=True)
class ReleaseOrder:
    r"""Ranks of releases among those of training items, from 0, the oldest, to 1, the newest.

    Only the order counts: a catalogue may use any unit, and later releases count as the newest. A
    rank :math:`p` is encoded for a model as
    :math:`\cos 2^k \pi p,\ \sin 2^k \pi p` for :math:`k = 0 \dots 3`, each halved: the inner
    product of two of these unit vectors falls from 1 with the distance of their ranks, steeply at
    first.
    """

    known: DoubleArray
    """``(known,)`` float64 releases of the items that training has events of, in rising order."""

    @classmethod
    def fit(cls, released: DoubleArray, trained: BoolArray) -> Self:
        """Fit on the releases ``(items,)`` of the ``trained`` items; NaN stands for unknown."""
        return cls(np.sort(released[trained & ~np.isnan(released)]))

    def places(self, released: DoubleArray) -> DoubleArray:
        """``(m,)`` ranks, the middle one for equal release times; NaN where unknown."""
        if not len(self.known):
            return np.full(len(released), np.nan)
        earlier, later = (np.searchsorted(self.known, released, side) for side in ("left", "right"))
        return np.where(np.isnan(released), np.nan, (earlier + later) / (2 * len(self.known)))

    def waves(self, released: DoubleArray) -> FloatArray:
        """``(m, RELEASE_WAVES)`` float32 unit vectors; zeros where the release is unknown."""
        angles = self.places(released)[:, None] * np.pi * 2.0 ** np.arange(_FREQUENCIES)
        waves = np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(_FREQUENCIES)
        known: FloatArray = np.nan_to_num(waves, nan=0.0).astype(np.float32)
        return known
