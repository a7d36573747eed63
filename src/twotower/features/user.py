"""User features, 8 columns of whole histories or of every prefix, and the user tower's inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.features.declared import USER_FEATURES
from twotower.features.standard import (
    Standardiser,
    category_indicators,
    frequent_categories,
    log_days,
    log_popularity,
    log_prices,
)
from twotower.types import Array, DoubleArray, FloatArray, OffsetArray

BLOCK: Final = 1_000_000
"""Events whose sums are held in memory at a time, about 300 bytes each."""


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """Standardised features of histories; independent of ids, so anonymous users have them too."""

    item_table: FloatArray
    """``(num_items, 12)`` float32, what an event adds to its row's sums: log price (0 where
    unknown), 1 where it is known, the same two for log popularity, and the one-hot category."""
    standardiser: Standardiser
    """Fitted on the features of every prefix of every training history."""
    end: int
    """The newest training event, milliseconds since 1970; 0 where the log has no timestamps."""

    @classmethod
    def fit(cls, train: Histories, catalogue: pl.DataFrame, *, notices: bool = False) -> Self:
        """Fit on the training interactions and the catalogue, whose row ``i`` is item ``i``.

        Features that the source lacks entirely are 0 throughout. With `notices`, for models that
        read all features, this is logged once per feature.
        """
        popularity = log_popularity(train, catalogue.height)
        item_table = _item_rows(catalogue, popularity, frequent_categories(catalogue))
        end = 0 if train.timestamps is None else int(train.timestamps.max(initial=0))
        raw = _running(train, item_table, end)
        return cls(item_table, Standardiser.fit(raw, USER_FEATURES, notices=notices), end)

    @property
    def empty(self) -> FloatArray:
        """``(8,)`` features of an empty history: activity of no events, all else the mean."""
        raw = np.full((1, len(USER_FEATURES)), np.nan)
        raw[0, 0] = 0.0
        return self.standardiser.apply(raw).reshape(-1)

    def running(self, histories: Histories) -> FloatArray:
        """``(events, 8)`` features of each row's prefix up to and including each event.

        The example that predicts event ``t`` of a row uses the features after event ``t - 1``
        (`empty` for the first), so that no target is counted in its own query.
        """
        return self.standardiser.apply(_running(histories, self.item_table, self.end))

    def transform(self, histories: Histories) -> FloatArray:
        """``(rows, 8)`` features of whole histories: the last of `running`, or `empty`."""
        filled = histories.lengths > 0
        last = self.standardiser.apply(_running(histories, self.item_table, self.end, last=True))
        if filled.all():
            return last
        features = np.tile(self.empty, (len(histories), 1))
        features[filled] = last
        return features

    def rows_of_new(self, rows: pl.DataFrame, categories: Sequence[str]) -> FloatArray:
        """``(rows, 12)`` as `item_table`, of items that training never saw.

        Parameters
        ----------
        rows
            Catalogue columns of the new items; any may be null or absent.
        categories
            Those of the fit, in their order: `ItemFeatures.categories`.
        """
        return _item_rows(rows, np.full(rows.height, np.nan), categories)

    def to_arrays(self) -> dict[str, Array]:
        """Everything as NumPy arrays, for a safetensors file."""
        return {
            "item_table": self.item_table,
            "mean": self.standardiser.mean,
            "weight": self.standardiser.weight,
            "end": np.asarray([self.end], dtype=np.int64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """The inverse of `to_arrays`."""
        standardiser = Standardiser(arrays["mean"], arrays["weight"])
        return cls(arrays["item_table"], standardiser, int(arrays["end"][0]))


def _item_rows(
    rows: pl.DataFrame, popularity: DoubleArray, categories: Sequence[str]
) -> FloatArray:
    """``(rows, 12)`` as `UserFeatures.item_table`."""
    return np.column_stack(
        [
            *_value_and_known(log_prices(rows)),
            *_value_and_known(popularity),
            category_indicators(rows, categories),
        ]
    ).astype(np.float32)


def _value_and_known(values: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    known = np.isfinite(values)
    return np.where(known, values, 0.0), known.astype(np.float64)


def _running(
    histories: Histories, item_table: FloatArray, end: int, last: bool = False
) -> DoubleArray:
    """``(events, 8)`` raw features of every prefix, NaN where unknown.

    With ``last``, of whole rows alone: one for each row that has an event.
    """
    if len(histories.items) <= BLOCK:
        return _running_block(histories, item_table, end, last)
    marks = np.arange(0, len(histories.items), BLOCK)
    cuts = np.unique([*np.searchsorted(histories.indptr, marks), len(histories)])
    return np.concatenate(
        [
            _running_block(histories.select(np.arange(start, stop)), item_table, end, last)
            for start, stop in pairwise(cuts)
        ]
    )


def _running_block(
    histories: Histories, item_table: FloatArray, end: int, last: bool
) -> DoubleArray:
    """Sums over each row's events: of all of them, or up to and including each event."""
    lengths = histories.lengths
    begins = histories.indptr[:-1].repeat(lengths)  # (events,) where a row begins
    if last:
        at = histories.indptr[1:][lengths > 0] - 1
        starts = begins[at]
        summed = partial(np.add.reduceat, indices=starts, axis=0, dtype=np.float64)
    else:
        at, starts = np.arange(len(begins)), begins
        summed = partial(_prefix_sums, starts=starts)
    count = at + 1 - starts  # events so far
    sums = summed(item_table[histories.items])  # (rows, 12)
    categories = sums[:, 4:]

    raw = np.full((len(at), len(USER_FEATURES)), np.nan)
    raw[:, 0] = np.log1p(count)
    if histories.ratings is not None:
        # Shifted by the row's first rating, which leaves the spread of equal ratings exactly 0.
        rated = np.isfinite(histories.ratings)
        first = np.where(rated, histories.ratings, 0.0)[begins].astype(np.float64)
        shifted = np.where(rated, histories.ratings - first, 0.0)
        total, squares, count_rated = summed(np.array([shifted, shifted**2, rated]).T).T
        known = count_rated > 0  # before the first rating both stay unknown
        mean = np.divide(total, count_rated, out=raw[:, 1], where=known)
        square = np.divide(squares, count_rated, out=raw[:, 2], where=known)
        raw[:, 2] = np.sqrt(np.maximum(square - mean**2, 0.0))
        raw[:, 1] += first[at]
    if histories.timestamps is not None:
        times = histories.timestamps[at]
        raw[:, 3] = log_days(end - times)
        raw[:, 4] = log_days(times - histories.timestamps[starts])
    for column, total in ((5, 0), (6, 2)):
        known = sums[:, total + 1]
        np.divide(sums[:, total], known, out=raw[:, column], where=known > 0)
    # -sum(p log p) with p = c / n is log n - sum(c log c) / n.
    weighted = np.einsum("ec,ec->e", categories, np.log(np.maximum(categories, 1.0)))
    raw[:, 7] = np.log(count) - weighted / count
    return raw


def _prefix_sums(values: Array, starts: OffsetArray) -> DoubleArray:
    """``(events, columns)`` sums of each row's values up to and including each event."""
    totals = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=totals[1:])
    return totals[1:] - totals[starts]


class UserInputs(NamedTuple):
    """A batch of user-tower inputs."""

    users: OffsetArray
    """``(B,)`` int64 user index + 1; 0 for a user that training never saw."""
    items: OffsetArray
    """``(B, length)`` int64 item index + 1, oldest first, 0 behind the last."""
    lengths: OffsetArray
    """``(B,)`` int64 items held in ``items``, from 0 to ``length``."""
    features: FloatArray
    """``(B, 8)`` float32 user features of the whole history, not only of its last items."""


def user_inputs(queries: Queries, user_features: UserFeatures, length: int) -> UserInputs:
    """Turn queries into arrays that keep the newest ``length`` items of each history."""
    if length < 1:
        raise InputError(f"length must be at least 1, got {length}")
    items, lengths = queries.histories.padded(length)
    return UserInputs(
        queries.users.astype(np.int64) + 1,
        items.astype(np.int64),
        lengths,
        user_features.transform(queries.histories),
    )
