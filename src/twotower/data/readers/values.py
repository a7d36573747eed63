"""Conversion of source values to canonical types: ids to text, numbers to float64."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

import polars as pl

from twotower.data import columns
from twotower.data.readers.chunk import Check, Chunk, set_aside
from twotower.data.readers.numbers import as_number, as_rating, rating_scales
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.times import TimeReader

IDS: Final = (columns.USER_ID, columns.ITEM_ID)
NUMBERS: Final = (
    columns.RATING, columns.TIMESTAMP, columns.ORDER, columns.QUANTITY, columns.WEIGHT,
    columns.PRICE, columns.AVERAGE_RATING, columns.RATING_COUNT, columns.RELEASED,
)  # fmt: skip

_WHOLE_OR_BLANK: Final = r"^([+-]?\d+(\.0*)?)?$"
WHOLE_FLOAT: Final = r"^([+-]?\d+)\.0*$"
"""A whole number written as a float, such as ``7.0``."""

RAW_TIME: Final = "raw timestamp"
"""Column of a typed chunk: the time as written in the file, for messages."""


class IdReader:
    """Reader of one id column, as stripped text.

    Whole floats lose their ``.0`` if every id of the column is a whole number, because integer
    columns with missing values are often written as floats. This is decided for the whole file,
    which is read once more when the first such id occurs. Leading zeros are kept.

    ``again`` rereads the values of the column; ``missing`` lists texts that mean a missing id.
    """

    def __init__(self, again: Callable[[], Iterable[pl.Series]], missing: Sequence[str]) -> None:
        self._again = again
        self._missing = missing
        self._whole: bool | None = None

    def text(self, values: pl.Series, missing: pl.Series | None = None) -> pl.Series:
        """Ids as text; null where missing or invalid.

        ``missing`` is a mask of missing ids; if given, ``values`` must be stripped text.
        """
        text = (
            id_text(values, self._missing)
            if missing is None
            else _unquoted(values.set(missing, None))
        )
        if self._whole is None and text.str.contains(WHOLE_FLOAT).any():
            texts = (id_text(part, self._missing) for part in chain((values,), self._again()))
            self._whole = all(text.str.contains(_WHOLE_OR_BLANK).all() for text in texts)
        return text.str.replace(WHOLE_FLOAT, "$1") if self._whole else text


class RatingReader:
    """Reader of one rating column; see `as_rating`.

    Whether ratings such as ``4/5`` share one scale is decided for the whole file, which is read
    once more when the first such rating occurs.

    ``again`` rereads the values of the column; ``decimal_comma`` as in `as_number`.
    """

    def __init__(
        self, again: Callable[[], Iterable[pl.Series]], decimal_comma: bool | None
    ) -> None:
        self._again = again
        self._decimal_comma = decimal_comma
        self._one_scale: bool | None = None

    def numbers(self, values: pl.Series) -> pl.Series:
        """Ratings as float64, null where a value is not a rating."""
        if self._one_scale is None and (scales := rating_scales(values)):
            self._one_scale = len(scales.union(*map(rating_scales, self._again()))) == 1
        return as_rating(values, self._decimal_comma, self._one_scale)


def id_text(values: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Ids as stripped text; null where missing or invalid."""
    text = _unquoted(as_text(values).str.strip_chars())
    absent = text.is_in(list(missing)).fill_null(False)
    return text.set(absent, None) if absent.any() else text


def _unquoted(text: pl.Series) -> pl.Series:
    """Text without the spreadsheet quoting that keeps it as text: ``="007"`` → ``007``."""
    if not text.str.starts_with('="').any():
        return text
    return text.str.replace(r'^="(.*)"$', "$1").str.strip_chars()


def as_text(values: pl.Series) -> pl.Series:
    """Ids of any type as text; null where a value is not an id.

    Bytes are decoded as UTF-8; if that fails or is not printable, 16 bytes become a UUID with
    dashes, others hexadecimal.
    """
    dtype = values.dtype
    if dtype.is_nested() or dtype == pl.Object:
        return pl.repeat(None, len(values), dtype=pl.String, eager=True)
    if dtype == pl.Binary:
        return values.map_elements(_bytes_as_text, return_dtype=pl.String)
    if dtype.is_float():
        values = values.fill_nan(None)
        integers = values.cast(pl.Int64, strict=False)
        exact = (integers.cast(pl.Float64) == values.cast(pl.Float64)).fill_null(False)
        return (integers.cast(pl.String) + ".0").zip_with(exact, values.cast(pl.String))
    return values.cast(pl.String, strict=False)


def typed(
    chunk: Chunk,
    ids: Mapping[str, IdReader],
    ratings: RatingReader,
    times: TimeReader | None,
    options: ReadOptions,
) -> Chunk:
    """Convert every column of a log; reject rows with missing ids or values of the wrong type.

    Ids and event kinds become text, other columns float64, times in milliseconds since 1970.
    Blank numbers, missing ratings and `ReadOptions.unrated` become null. The original time is
    kept as `RAW_TIME`. Declared context columns are left as they are: they are typed later, as a
    whole.
    """
    converted: dict[str, pl.Series] = {}
    checks: list[Check] = []

    def check(name: str, what: str, failing: pl.Series) -> None:
        if failing.any():
            checks.append(Check(name, what, pl.lit(failing)))

    for values in chunk.rows.drop(columns.LINE):
        name = values.name
        if columns.is_context(name):
            converted[name] = values
            continue
        text = values.str.strip_chars() if values.dtype == pl.String else None
        missing = values.is_null()
        if text is not None:
            missing |= text.is_in(options.missing_ids).fill_null(False)
        elif values.dtype.is_float() and name in (*IDS, columns.RATING):
            missing |= values.is_nan().fill_null(False)
        source = values if text is None else text
        if name in ids:
            result = ids[name].text(source, None if text is None else missing)
            check(name, "missing", missing)
            check(name, "empty", result == "")
        else:
            if text is not None:
                missing |= text == ""
            source = source.set(missing, None) if missing.any() else source
            if name == columns.TIMESTAMP and times is not None:
                result = times.milliseconds(source)
            elif name == columns.EVENT:
                result = as_text(source)
            elif name == columns.RATING:
                result = ratings.numbers(source)
            else:
                result = as_number(source, options.decimal_comma)
        check(name, "wrong type", ~missing & result.is_null())
        if name == columns.RATING and options.unrated is not None:
            result = result.set((result == options.unrated).fill_null(False), None)
        converted[name] = result
    if columns.TIMESTAMP in converted:
        converted[RAW_TIME] = chunk.rows[columns.TIMESTAMP]
    if not checks:
        return replace(chunk, rows=pl.DataFrame(converted).with_columns(chunk.rows[columns.LINE]))
    beside = [result.alias(f"typed {name}") for name, result in converted.items()]
    checked = set_aside(replace(chunk, rows=chunk.rows.with_columns(beside)), checks)
    rows = checked.rows.select(
        *(pl.col(f"typed {name}").alias(name) for name in converted), columns.LINE
    )
    return replace(checked, rows=rows)


def _bytes_as_text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        return text
    return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
