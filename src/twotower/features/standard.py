"""Feature columns: raw, where NaN is unknown, and standardised, where it becomes the mean."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import polars as pl

from twotower.data import Histories, columns
from twotower.features.declared import NUM_CATEGORIES, Feature
from twotower.types import Array, DoubleArray, FloatArray

logger = logging.getLogger(__name__)

DAY: Final = 86_400_000
"""Milliseconds."""
SMALLEST_SPREAD: Final = 1e-6
"""A column that varies less than this is constant up to rounding."""


def log_days(milliseconds: Array) -> DoubleArray:
    """log(1 + days) of spans in milliseconds; a negative span counts as none."""
    return np.log1p(np.maximum(milliseconds, 0) / DAY)


def numbers(rows: pl.DataFrame, column: str) -> DoubleArray:
    """``(rows,)`` float64 of a column that may be null or absent; negative is unknown."""
    if column not in rows.columns:
        return np.full(rows.height, np.nan)
    values = rows[column].cast(pl.Float64).to_numpy().copy()
    values[~(np.isfinite(values) & (values >= 0))] = np.nan
    return values


def log_prices(rows: pl.DataFrame) -> DoubleArray:
    """``(rows,)`` log(1 + price)."""
    return np.log1p(numbers(rows, columns.PRICE))


def log_popularity(train: Histories, num_items: int) -> DoubleArray:
    """``(num_items,)`` log(1 + training events); unknown for an item that has none.

    An item without a training event is treated like a new item: its popularity is unknown, not
    low.
    """
    counts = np.bincount(train.items, minlength=num_items)
    return np.where(counts > 0, np.log1p(counts), np.nan)


def frequent_categories(catalogue: pl.DataFrame) -> tuple[str, ...]:
    """The most frequent categories, at most seven; equal counts in alphabetical order."""
    named = _categories(catalogue).drop_nulls()
    counts = named.to_frame("category").group_by("category").len()
    ordered = counts.sort(["len", "category"], descending=[True, False])
    return tuple(ordered["category"].head(NUM_CATEGORIES - 1).to_list())


def category_indicators(rows: pl.DataFrame, categories: Sequence[str]) -> DoubleArray:
    """``(rows, 8)`` one-hot; the last column is every other category, or none given."""
    rank = {category: index for index, category in enumerate(categories)}
    other = NUM_CATEGORIES - 1
    codes = [rank.get(category, other) for category in _categories(rows).to_list()]
    one_hot: Array = np.eye(NUM_CATEGORIES)
    return one_hot[np.asarray(codes, dtype=np.int64)]


def _categories(rows: pl.DataFrame) -> pl.Series:
    if columns.CATEGORY not in rows.columns:
        return pl.Series(columns.CATEGORY, [None] * rows.height, dtype=pl.String)
    return rows[columns.CATEGORY].cast(pl.String)


@dataclass(frozen=True, slots=True)
class Standardiser:
    """``(value - mean) * weight`` per column; NaN, an unknown value, becomes 0."""

    mean: DoubleArray
    """``(columns,)`` float64 mean of the known values; 0 for indicators."""
    weight: DoubleArray
    """``(columns,)`` float64, 1 / standard deviation of the known values; 1 for indicators; 0 where
    the column is constant or unknown throughout, so that it is always 0: a model cannot have learnt
    from it."""

    @classmethod
    def fit(cls, raw: DoubleArray, declared: Sequence[Feature], *, notices: bool = False) -> Self:
        """Fit on ``(rows, columns)`` raw values; with `notices`, log what the source lacks."""
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
        for needs in dict.fromkeys(feature.needs for feature in absent if notices):
            names = ", ".join(feature.name for feature in absent if feature.needs == needs)
            logger.warning("the source has no %s: constant 0 for %s", needs, names)
        return cls(mean, weight)

    def apply(self, raw: DoubleArray) -> FloatArray:
        """Standardise ``(rows, columns)`` raw values."""
        scaled = ((raw - self.mean) * self.weight).astype(np.float32)
        scaled[np.isnan(scaled)] = 0.0
        return scaled
