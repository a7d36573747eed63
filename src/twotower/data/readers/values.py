"""From a source's values to canonical types: ids as text, everything measured as float64."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from twotower.data import columns
from twotower.data.readers.chunk import Check, Chunk, set_aside
from twotower.data.readers.numbers import as_number, as_rating
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.times import TimeReader

IDS: Final = (columns.USER_ID, columns.ITEM_ID)
NUMBERS: Final = (
    columns.RATING, columns.TIMESTAMP, columns.ORDER,
    columns.PRICE, columns.AVERAGE_RATING, columns.RATING_COUNT, columns.RELEASED,
)  # fmt: skip

_WHOLE: Final = r"^[+-]?\d+(\.0*)?$"
_TRAILING: Final = r"^([+-]?\d+)\.0*$"

RAW_TIME: Final = "raw timestamp"
"""Column of a typed chunk: the time as the file has it, for messages."""


class IdReader:
    """Reads the ids of one column: text without blanks around it.

    Whole floats lose their ``.0`` where every id of the column is a whole number, since integers
    beside a missing value are written as floats. That is decided for the file, which is looked
    through once more when the first such id is met. Leading zeros stay.

    Parameters
    ----------
    again
        Yields the values of the column once more.
    missing
        Texts that are no id.
    """

    def __init__(self, again: Callable[[], Iterable[pl.Series]], missing: Sequence[str]) -> None:
        self._again = again
        self._missing = list(missing)
        self._whole: bool | None = None

    def text(self, values: pl.Series) -> pl.Series:
        """Ids as text; null where one is missing or cannot be one."""
        text = self._plain(values)
        if self._whole is None and text.str.contains(_TRAILING).any():
            self._whole = all(_are_whole(self._plain(more)) for more in (values, *self._again()))
        return text.str.replace(_TRAILING, "$1") if self._whole else text

    def _plain(self, values: pl.Series) -> pl.Series:
        text = as_text(values).str.strip_chars()
        return text.set(text.is_in(self._missing), None) if self._missing else text


def as_text(values: pl.Series) -> pl.Series:
    """Ids of any type as text; null where a value cannot be one.

    Bytes are UTF-8, else sixteen of them a UUID in its form with dashes, others hexadecimal.
    """
    dtype = values.dtype
    if dtype.is_nested() or dtype == pl.Object:
        return pl.repeat(None, len(values), dtype=pl.String, eager=True)
    if dtype == pl.Binary:
        return values.map_elements(_bytes_as_text, return_dtype=pl.String)
    if dtype.is_float():
        values = values.fill_nan(None)
        whole = values.cast(pl.Int64, strict=False)
        exact = (whole.cast(pl.Float64) == values.cast(pl.Float64)).fill_null(False)
        return (whole.cast(pl.String) + ".0").zip_with(exact, values.cast(pl.String))
    return values.cast(pl.String, strict=False)


def typed(
    chunk: Chunk, ids: Mapping[str, IdReader], times: TimeReader | None, options: ReadOptions
) -> Chunk:
    """Convert every column of a log; rows with a value of the wrong type are set aside.

    Ids and kinds of events become text, the others float64, times in milliseconds since 1970.
    Blank numbers become null, and so do ratings that stand for none. Beside a time stands what
    the file has, as `RAW_TIME`.
    """
    names = [name for name in chunk.rows.columns if name != columns.LINE]
    converted = []
    checks = []
    for name in names:
        values = chunk.rows[name]
        blank = _is_blank(values, options.missing_ids, nan=name in (*IDS, columns.RATING))
        if name in ids:
            result = ids[name].text(values)
            checks.append(Check(name, "missing", pl.lit(blank)))
            checks.append(Check(name, "empty", pl.lit(result == "")))
        elif name == columns.TIMESTAMP and times is not None:
            result = times.milliseconds(values.set(blank, None) if blank.any() else values)
        elif name == columns.EVENT:
            result = as_text(values).str.strip_chars()
        else:
            read = as_rating if name == columns.RATING else as_number
            result = read(values, options.decimal_comma)
            if name == columns.RATING:
                result = result.fill_nan(None)
            if blank.any():
                result = result.set(blank, None)
        blank |= values.is_null()
        if values.dtype == pl.String:
            blank |= (values.str.strip_chars() == "").fill_null(True)
        checks.append(Check(name, "wrong type", pl.lit(~blank & result.is_null())))
        converted.append(result.alias(f"typed {name}"))
    checked = set_aside(replace(chunk, rows=chunk.rows.with_columns(converted)), checks)
    kept = [pl.col(f"typed {name}").alias(name) for name in names]
    if columns.TIMESTAMP in names:
        kept.append(pl.col(columns.TIMESTAMP).alias(RAW_TIME))
    return replace(checked, rows=checked.rows.select(*kept, columns.LINE))


def _is_blank(values: pl.Series, missing: Sequence[str], *, nan: bool) -> pl.Series:
    """Where nothing stands, or a text that stands for nothing."""
    if values.dtype == pl.String and missing:
        return values.is_null() | values.str.strip_chars().is_in(missing).fill_null(False)
    if values.dtype.is_float() and nan:
        return values.is_null() | values.is_nan().fill_null(False)
    return values.is_null()


def _are_whole(text: pl.Series) -> bool:
    return bool(text.drop_nulls().str.contains(_WHOLE).all())


def _bytes_as_text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        return text
    return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
