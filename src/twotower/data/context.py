"""Event context: distinct combinations of the declared log columns."""

from typing import Final

import numpy as np
import polars as pl

from twotower.data.histories import Histories
from twotower.types import IndexArray, OffsetArray

_REPEATS: Final = 50
"""Minimum number of repeat events of items to decide whether a column describes items."""
_COMMONEST: Final = 0.9
"""If one value is more common than this share, that cannot be decided."""


def distinct_rows(table: pl.DataFrame) -> tuple[pl.DataFrame, IndexArray]:
    """The distinct rows of a table, sorted by value, and the index of each row among them.

    Examples
    --------
    >>> rows, which = distinct_rows(pl.DataFrame({"device": ["tv", "phone", None, "tv"]}))
    >>> rows["device"].to_list(), which.tolist()
    ([None, 'phone', 'tv'], [2, 1, 0, 2])
    """
    codes = np.zeros(table.height, dtype=np.int64)
    for column in table:
        own = _codes(column)
        # Re-ranked after each column, so that the product of counts cannot overflow.
        combined = codes * (int(own.max(initial=0)) + 1) + own
        codes = np.unique(combined, return_inverse=True)[1].astype(np.int64)
    _, first = np.unique(codes, return_index=True)
    return table[first], codes.astype(np.int32)


def _codes(column: pl.Series) -> OffsetArray:
    """Dense ranks of a column's values from 1; 0 for missing values."""
    return column.rank("dense").fill_null(0).to_numpy().astype(np.int64)


def columns_that_tell_the_item(table: pl.DataFrame, interactions: Histories) -> list[str]:
    """Context columns with a single value per item.

    Such a column may describe the item rather than the moment, and would then leak the target.
    """
    contexts, items = interactions.contexts, interactions.items
    if contexts is None:
        return []
    found = []
    for column in table:
        values = _codes(column)[contexts]
        pairs = np.unique(items * (int(values.max(initial=0)) + 1) + values)
        one_each = len(pairs) == len(np.unique(items))
        repeats = len(items) - len(np.unique(items))
        commonest = int(np.bincount(values).max(initial=0)) / max(len(values), 1)
        if one_each and repeats >= _REPEATS and commonest <= _COMMONEST:
            found.append(column.name)
    return found
