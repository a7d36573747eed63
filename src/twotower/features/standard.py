"""Standardisation in which the unknown is the mean."""

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
    """``(value - mean) * weight`` per column; NaN, which stands for unknown, becomes 0.

    Attributes
    ----------
    mean
        ``(columns,)`` float64 mean of the known values; 0 for indicators.
    weight
        ``(columns,)`` float64, 1 / standard deviation of the known values; 1 for indicators;
        0 where the column is constant or unknown throughout, so that it stays 0 whatever
        comes later: a model cannot have learnt what it means.
    """

    mean: DoubleArray
    weight: DoubleArray

    @classmethod
    def fit(cls, raw: DoubleArray, declared: Sequence[Feature]) -> Self:
        """Fit on ``(rows, columns)`` raw values; log a notice for what the source lacks."""
        known = np.isfinite(raw)
        counts = known.sum(axis=0)
        filled = np.where(known, raw, 0.0)
        mean = filled.sum(axis=0) / np.maximum(counts, 1)
        squares = np.where(known, (raw - mean) ** 2, 0.0).sum(axis=0)
        spread = np.sqrt(squares / np.maximum(counts, 1))
        varies = spread > SMALLEST_SPREAD
        weight = np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0)
        for column, feature in enumerate(declared):
            if feature.indicator:
                mean[column], weight[column] = 0.0, 1.0
        absent = [feature for feature, count in zip(declared, counts, strict=True) if count == 0]
        for needs in dict.fromkeys(feature.needs for feature in absent):
            names = ", ".join(feature.name for feature in absent if feature.needs == needs)
            logger.warning("the source has no %s: constant 0 for %s", needs, names)
        return cls(mean, weight)

    def apply(self, raw: DoubleArray) -> FloatArray:
        """Standardise ``(rows, columns)`` raw values."""
        scaled = ((raw - self.mean) * self.weight).astype(np.float32)
        scaled[np.isnan(scaled)] = 0.0
        return scaled
