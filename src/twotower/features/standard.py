"""Standardisation of feature columns; unknown values become the mean."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from twotower.features.declared import Feature
from twotower.types import DoubleArray, FloatArray

logger = logging.getLogger(__name__)

SMALLEST_SPREAD: Final = 1e-6
"""A column that varies less than this is constant up to rounding."""


@dataclass(frozen=True, slots=True)
class Standardiser:
    """``(value - mean) * weight`` per column; NaN, an unknown value, becomes 0.

    Attributes
    ----------
    mean
        ``(columns,)`` float64 mean of the known values; 0 for indicators.
    weight
        ``(columns,)`` float64, 1 / standard deviation of the known values; 1 for indicators;
        0 where the column is constant or unknown throughout, so that it is always 0:
        a model cannot have learnt from it.
    """

    mean: DoubleArray
    weight: DoubleArray

    @classmethod
    def fit(cls, raw: DoubleArray, declared: Sequence[Feature]) -> Self:
        """Fit on ``(rows, columns)`` raw values; log a notice for what the source lacks."""
        mean, weight = np.zeros(len(declared)), np.zeros(len(declared))
        absent = []
        for column, feature in enumerate(declared):
            known = raw[np.isfinite(raw[:, column]), column]
            if feature.indicator:
                weight[column] = 1.0
            elif len(known) == 0:
                absent.append(feature)
            else:
                mean[column], spread = known.mean(), known.std()
                weight[column] = 1.0 / spread if spread > SMALLEST_SPREAD else 0.0
        for needs in dict.fromkeys(feature.needs for feature in absent):
            names = ", ".join(feature.name for feature in absent if feature.needs == needs)
            logger.warning("the source has no %s: constant 0 for %s", needs, names)
        return cls(mean, weight)

    def apply(self, raw: DoubleArray) -> FloatArray:
        """Standardise ``(rows, columns)`` raw values."""
        scaled = ((raw - self.mean) * self.weight).astype(np.float32)
        scaled[np.isnan(scaled)] = 0.0
        return scaled
