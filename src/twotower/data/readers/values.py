"""From a source's values to canonical types: ids as text, everything measured as float64."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import polars as pl

from twotower.data import columns
from twotower.data.readers.chunk import Check, Chunk, set_aside

IDS: Final = (columns.USER_ID, columns.ITEM_ID)
NUMBERS: Final = (
    columns.RATING, columns.TIMESTAMP, columns.ORDER,
    columns.PRICE, columns.AVERAGE_RATING, columns.RATING_COUNT, columns.RELEASED,
)  # fmt: skip


def typed(chunk: Chunk) -> Chunk:
    """Convert every column of a log; rows with a value of the wrong type are set aside.

    Ids become text, the others float64; a time given as a date becomes seconds since 1970.
    Blank numbers become null.
    """
    converted = [
        _CONVERSIONS[name](chunk.rows[name]).alias(f"typed {name}")
        for name in chunk.rows.columns
        if name != columns.LINE
    ]
    names = [name for name in chunk.rows.columns if name != columns.LINE]
    checks = [
        Check(name, "wrong type", ~_is_blank(chunk.rows, name) & pl.col(f"typed {name}").is_null())
        for name in names
    ]
    checked = set_aside(replace(chunk, rows=chunk.rows.with_columns(converted)), checks)
    rows = checked.rows.select(
        *(pl.col(f"typed {name}").alias(name) for name in names), columns.LINE
    )
    return replace(checked, rows=rows)


def as_text(values: pl.Series) -> pl.Series:
    """Ids as text. Whole floats lose their ``.0``: integers beside a null are read as floats."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
        if values.drop_nulls().round().equals(values.drop_nulls()):
            values = values.cast(pl.Int64, strict=False)
    if values.dtype.is_nested():
        return pl.repeat(None, len(values), dtype=pl.String, eager=True)
    return values.cast(pl.String)


def as_number(values: pl.Series) -> pl.Series:
    """Float64, null where a value is not a number."""
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    elif not values.dtype.is_numeric():
        return pl.repeat(None, len(values), dtype=pl.Float64, eager=True)
    return values.cast(pl.Float64, strict=False)


def as_time(values: pl.Series) -> pl.Series:
    """Numbers as they are; dates, or ISO 8601 text, as seconds since 1970 (UTC where unsaid)."""
    if isinstance(values.dtype, pl.Date | pl.Datetime):
        return values.cast(pl.Datetime("ms")).dt.epoch("ms") / 1000
    numbers = as_number(values)
    if values.dtype != pl.String:
        return numbers
    unread = numbers.is_null() & values.is_not_null()
    dates = values.set(~unread, None).map_elements(_iso_seconds, return_dtype=pl.Float64)
    return numbers.fill_null(dates)


def as_release(values: pl.Series) -> pl.Series:
    """Numbers as they are; dates, or ISO 8601 text, as milliseconds since 1970.

    >>> as_release(pl.Series(["2017", "1970-01-02", "soon"])).to_list()
    [2017.0, 86400000.0, None]
    """
    return as_number(values).fill_null((as_time(values) * 1000).round())


def _iso_seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_blank(rows: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    if name in NUMBERS and rows.schema[name] == pl.String:
        return column.is_null() | (column.str.strip_chars() == "")
    if rows.schema[name].is_float():
        return column.is_null() | (column.is_nan() if name in IDS else pl.lit(False))
    return column.is_null()


_CONVERSIONS: Final[dict[str, Callable[[pl.Series], pl.Series]]] = {
    columns.USER_ID: as_text,
    columns.ITEM_ID: as_text,
    columns.RATING: as_number,
    columns.TIMESTAMP: as_time,
    columns.ORDER: as_number,
}
