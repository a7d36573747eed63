from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Histories, columns


@pytest.fixture
def make_catalogue() -> Callable[..., pl.DataFrame]:
    """Catalogue with the canonical columns, null where not given."""

    def make(num_items: int, **given: Sequence[Any]) -> pl.DataFrame:
        types = {
            columns.ITEM_ID: pl.String,
            columns.TITLE: pl.String,
            columns.DESCRIPTION: pl.String,
            columns.PRICE: pl.Float32,
            columns.CATEGORY: pl.String,
            columns.AVERAGE_RATING: pl.Float32,
            columns.RATING_COUNT: pl.Int64,
            columns.IMAGE: pl.String,
        }
        ids = [f"item-{index}" for index in range(num_items)]
        given = {columns.ITEM_ID: ids, **given}
        return pl.DataFrame(
            {name: given.get(name, [None] * num_items) for name in columns.CATALOGUE}, schema=types
        )

    return make


@pytest.fixture
def make_histories() -> Callable[..., Histories]:
    """Histories from one list per row of items, and where given of ratings and of days."""

    def make(
        items: Sequence[Sequence[int]],
        ratings: Sequence[Sequence[float]] | None = None,
        days: Sequence[Sequence[float]] | None = None,
    ) -> Histories:
        plain = Histories.from_lists(items)

        def flat(rows: Sequence[Sequence[float]], dtype: type, scale: int = 1) -> Any:
            return np.asarray([value * scale for row in rows for value in row], dtype=dtype)

        return Histories(
            plain.indptr,
            plain.items,
            None if ratings is None else flat(ratings, np.float32),
            None if days is None else flat(days, np.int64, 86_400_000),
        )

    return make
