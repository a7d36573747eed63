"""The catalogue: read whole, one row an item, every canonical column typed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import polars as pl

from twotower.data import columns
from twotower.data.readers import CatalogueFile, Check, set_aside
from twotower.data.readers.amazon import ASIN_COLUMNS, listing_numbers
from twotower.data.readers.values import as_number, as_release, as_text
from twotower.data.rejects import RejectLog
from twotower.data.validation import id_checks
from twotower.data.vocabulary import Vocabulary
from twotower.errors import InputError

CATALOGUE_SCHEMA: Final[Mapping[str, Any]] = MappingProxyType(
    {
        columns.ITEM_ID: pl.String,
        columns.TITLE: pl.String,
        columns.DESCRIPTION: pl.String,
        columns.PRICE: pl.Float32,
        columns.CATEGORY: pl.String,
        columns.AVERAGE_RATING: pl.Float32,
        columns.RATING_COUNT: pl.Int64,
        columns.IMAGE: pl.String,
    }
)
"""Type of each column that every prepared catalogue has.

Those of `columns.CATALOGUE_EXTRA` are text, and `columns.RELEASED` is float64.
"""

_THOUSANDS: Final = r"^\d{1,3}(,\d{3})+(\.\d*)?$"


@dataclass(frozen=True)
class Catalogue:
    """Items in the order of their file.

    Attributes
    ----------
    rows
        Columns of `CATALOGUE_SCHEMA`, then those of `columns.CATALOGUE_EXTRA` that the file has,
        then `columns.RELEASED` where it is known of an item.
    items
        Code of each id: its row.
    read
        Rows of the file, good and bad.
    repaired
        Values that were replaced by null, counted by column and reason.
    """

    rows: pl.DataFrame
    items: Vocabulary
    read: int
    repaired: Mapping[str, int]


def read_catalogue(
    file: CatalogueFile, rejects: RejectLog, rating_range: tuple[float, float]
) -> Catalogue:
    """Read and validate a catalogue.

    Rows without an id, and all but the first of an id, are set aside. A number that is none
    (``from 12.99``) or that cannot be (a price below 0, an average rating outside
    ``rating_range``) becomes null; so does blank text. Where nothing says when items came out
    and their ids are Amazon's product numbers, these say it (`amazon.listing_numbers`).

    Raises
    ------
    InputError
        Where no item is left.
    """
    items = Vocabulary()
    repaired: Counter[str] = Counter()
    tables = []
    read = 0
    for chunk in file.chunks():
        read += chunk.height
        rows, faults = _typed(chunk.rows, rating_range)
        repaired.update(faults)
        again = pl.Series(items.find(rows[columns.ITEM_ID]) >= 0)
        again |= ~rows[columns.ITEM_ID].is_first_distinct()
        checks = [*id_checks(columns.ITEM_ID), Check(columns.ITEM_ID, "repeated", pl.lit(again))]
        checked = set_aside(replace(chunk, rows=rows), checks)
        rejects.add(file.path, checked.rejects)
        items.add(checked.rows[columns.ITEM_ID])
        tables.append(checked.rows.drop(columns.LINE))
    if not len(items):
        counts = rejects.counts([file.path])
        raise InputError(
            f"the catalogue {file.path} has no usable item: {read} rows read, rejected {counts}",
            f"first: {rejects.first}" if counts else "give a catalogue with rows",
        )
    known = _with_releases(pl.concat(tables), file)
    return Catalogue(known, items, read, dict(repaired))


def bare_catalogue(item_ids: Sequence[str]) -> pl.DataFrame:
    """A catalogue of which only the ids are known."""
    rows = pl.DataFrame({columns.ITEM_ID: item_ids}, schema={columns.ITEM_ID: pl.String})
    return rows.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in CATALOGUE_SCHEMA.items()
        if name != columns.ITEM_ID
    )


def _with_releases(rows: pl.DataFrame, file: CatalogueFile) -> pl.DataFrame:
    """From the ids where no column says it; the column is left out where it would be empty."""
    if columns.RELEASED in rows.columns:
        released = rows[columns.RELEASED]
        rows = rows.drop(columns.RELEASED)
    elif file.columns[columns.ITEM_ID].lower() in ASIN_COLUMNS:
        released = listing_numbers(rows[columns.ITEM_ID])
    else:
        return rows
    return rows if released.is_null().all() else rows.with_columns(released.alias(columns.RELEASED))


def _typed(
    rows: pl.DataFrame, rating_range: tuple[float, float]
) -> tuple[pl.DataFrame, dict[str, int]]:
    faults: dict[str, int] = {}
    extra = [name for name in columns.CATALOGUE_EXTRA if name in rows.columns]
    schema: dict[str, Any] = {**CATALOGUE_SCHEMA, **dict.fromkeys(extra, pl.String)}
    if columns.RELEASED in rows.columns:
        schema[columns.RELEASED] = pl.Float64
    result = [as_text(rows[columns.ITEM_ID]), rows[columns.LINE]]
    for name, dtype in schema.items():
        if name == columns.ITEM_ID:
            continue
        if name not in rows.columns:
            result.append(pl.repeat(None, rows.height, dtype=dtype, eager=True).alias(name))
        elif dtype == pl.String:
            result.append(_blank_to_null(_as_prose(rows[name])).alias(name))
        else:
            if name == columns.RELEASED:
                numbers, counts = _release(rows[name])
            else:
                bounds = rating_range if name == columns.AVERAGE_RATING else (0.0, float("inf"))
                numbers, counts = _measure(rows[name], bounds)
            result.append(numbers.cast(dtype).alias(name))
            faults |= {f"{name}: {what}": count for what, count in counts.items() if count}
    return pl.DataFrame(result).select(*schema, columns.LINE), faults


def _measure(values: pl.Series, bounds: tuple[float, float]) -> tuple[pl.Series, dict[str, int]]:
    """Numbers within bounds, else null, and how many were not; NaN is a missing value."""
    if values.dtype == pl.String:
        values = _blank_to_null(values).str.strip_prefix("$")
        grouped = values.str.contains(_THOUSANDS)
        values = values.zip_with(~grouped.fill_null(False), values.str.replace_all(",", ""))
    numbers = as_number(values)
    unread = _unread(values, numbers)
    numbers, impossible = _within(numbers, bounds)
    return numbers, {"not a number": unread, "out of range": impossible}


def _release(values: pl.Series) -> tuple[pl.Series, dict[str, int]]:
    """Finite numbers, and dates as such; else null, and how many were neither."""
    if values.dtype == pl.String:
        values = _blank_to_null(values)
    numbers = as_release(values)
    unread = _unread(values, numbers)
    numbers, infinite = _within(numbers, (float("-inf"), float("inf")))
    return numbers, {"not a number or a date": unread, "out of range": infinite}


def _unread(values: pl.Series, numbers: pl.Series) -> int:
    return int((values.is_not_null() & numbers.is_null()).sum())


def _within(numbers: pl.Series, bounds: tuple[float, float]) -> tuple[pl.Series, int]:
    """Null for what is infinite or out of bounds, and how many were."""
    numbers = numbers.fill_nan(None)
    possible = numbers.is_between(*bounds) & numbers.is_finite()
    impossible = int((~possible).sum())
    return numbers.set(~possible.fill_null(False), None), impossible


def _as_prose(values: pl.Series) -> pl.Series:
    if isinstance(values.dtype, pl.List):
        return values.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    if values.dtype.is_nested():
        return pl.repeat(None, len(values), dtype=pl.String, eager=True)
    return values.cast(pl.String)


def _blank_to_null(values: pl.Series) -> pl.Series:
    values = values.str.strip_chars()
    return values.set((values == "").fill_null(False), None)
