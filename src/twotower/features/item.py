"""Item features: 15 standardised columns."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import polars as pl

from twotower.data import Histories, columns
from twotower.features.declared import ITEM_FEATURES
from twotower.features.standard import (
    Standardiser,
    category_indicators,
    frequent_categories,
    log_days,
    log_popularity,
    log_prices,
    numbers,
)
from twotower.types import Array, DoubleArray, FloatArray

logger = logging.getLogger(__name__)

RECENT: Final = 0.1
"""The newest tenth of the training events counts as recent."""


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """Standardised features of every catalogue item, and their transform for new items."""

    values: FloatArray
    """``(num_items, 15)`` float32, columns `ITEM_FEATURES`. Unknown values are the mean, 0: a
    missing price (with ``price_missing`` set), and all training counts of an item without training
    events."""
    standardiser: Standardiser
    """Fitted on the catalogue's items."""
    categories: tuple[str, ...]
    """Categories of ``category_1`` to ``category_7``; shorter where there are fewer."""
    ratings_in_log: bool
    """True where average rating and rating count were counted in the training log. The
    catalogue's own figures are a later snapshot, which holds the ratings to be predicted, and
    are then ignored."""

    @classmethod
    def fit(cls, train: Histories, catalogue: pl.DataFrame, *, notices: bool = False) -> Self:
        """Fit on the training interactions and the catalogue, whose row ``i`` is item ``i``.

        Features that the source lacks entirely are 0 throughout. With `notices`, for models that
        read all features, this is logged once per feature.
        """
        categories = frequent_categories(catalogue)
        if notices and not categories:
            logger.warning("the source has no categories: every item is in category_other")
        raw = np.column_stack(
            [
                *_price(catalogue),
                *_ratings(train, catalogue, notices=notices),
                log_popularity(train, catalogue.height),
                *_times(train, catalogue.height),
                category_indicators(catalogue, categories),
            ]
        )
        standardiser = Standardiser.fit(raw, ITEM_FEATURES, notices=notices)
        values = standardiser.apply(raw)
        return cls(values, standardiser, categories, ratings_in_log=train.ratings is not None)

    def transform_new(self, rows: pl.DataFrame) -> FloatArray:
        """``(rows, 15)`` features of items that training never saw.

        Parameters
        ----------
        rows
            Catalogue columns of the new items; any may be null or absent. Average rating and
            rating count are read only where fitting read them from the catalogue too.
        """
        unknown = np.full(rows.height, np.nan)
        average, count = (unknown, unknown) if self.ratings_in_log else _catalogue_ratings(rows)
        indicators = category_indicators(rows, self.categories)
        raw = np.column_stack(
            [*_price(rows), average, count, unknown, unknown, unknown, indicators]
        )
        return self.standardiser.apply(raw)

    def to_arrays(self) -> dict[str, Array]:
        """Everything as NumPy arrays, for a safetensors file."""
        return {
            "values": self.values,
            "mean": self.standardiser.mean,
            "weight": self.standardiser.weight,
            "categories": np.frombuffer(json.dumps(self.categories).encode(), dtype=np.uint8),
            "ratings_in_log": np.asarray([self.ratings_in_log]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """The inverse of `to_arrays`."""
        return cls(
            arrays["values"],
            Standardiser(arrays["mean"], arrays["weight"]),
            tuple(json.loads(arrays["categories"].tobytes())),
            bool(arrays["ratings_in_log"][0]),
        )


def _price(rows: pl.DataFrame) -> tuple[DoubleArray, DoubleArray]:
    log_price = log_prices(rows)
    return log_price, np.isnan(log_price).astype(np.float64)


def _catalogue_ratings(rows: pl.DataFrame) -> tuple[DoubleArray, DoubleArray]:
    average = numbers(rows, columns.AVERAGE_RATING)
    return average, np.log1p(numbers(rows, columns.RATING_COUNT))


def _ratings(
    train: Histories, catalogue: pl.DataFrame, *, notices: bool
) -> tuple[DoubleArray, DoubleArray]:
    """Average rating and log rating count: the log's where it has ratings."""
    if train.ratings is None:
        average, count = _catalogue_ratings(catalogue)
        if notices and (np.isfinite(average).any() or np.isfinite(count).any()):
            logger.warning(
                "the training log has no ratings: average_rating and log_rating_count are the "
                "catalogue's, a snapshot that may be later than the training period"
            )
        return average, count
    rated = np.isfinite(train.ratings)
    items = train.items[rated]
    counts = np.bincount(items, minlength=catalogue.height)
    totals = np.bincount(items, weights=train.ratings[rated], minlength=catalogue.height)
    seen = counts > 0
    average = np.where(seen, totals / np.maximum(counts, 1), np.nan)
    return average, np.where(seen, np.log1p(counts), np.nan)


def _times(train: Histories, num_items: int) -> tuple[DoubleArray, DoubleArray]:
    """Age and recent share; unknown for items without events, or where there is no time."""
    if train.timestamps is None or len(train.timestamps) == 0:
        return np.full(num_items, np.nan), np.full(num_items, np.nan)
    times = train.timestamps
    first = np.full(num_items, np.iinfo(np.int64).max)
    np.minimum.at(first, train.items, times)
    counts = np.bincount(train.items, minlength=num_items)
    seen = counts > 0
    age = np.full(num_items, np.nan)
    age[seen] = log_days(times.max() - first[seen])
    # A share of events, not of the calendar: one stray old timestamp must not stretch the window.
    place = int((1 - RECENT) * len(times))
    recent = times >= np.partition(times, place)[place]
    share = np.bincount(train.items[recent], minlength=num_items) / np.maximum(counts, 1)
    return age, np.where(seen, share, np.nan)
