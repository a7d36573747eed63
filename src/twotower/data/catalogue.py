"""Item catalogue: one row per item, with typed canonical columns."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from twotower.data import columns
from twotower.data.ids import Vocabulary
from twotower.data.readers import CatalogueFile, Check, set_aside
from twotower.data.readers.amazon import ASIN_COLUMNS, listing_numbers
from twotower.data.readers.jsonl import python_literal
from twotower.data.readers.numbers import as_number, as_price, currency_of
from twotower.data.readers.times import TimeReader
from twotower.data.readers.values import as_text
from twotower.data.rejects import RejectLog, nothing_usable
from twotower.errors import InputError

CATALOGUE_SCHEMA: Final[Mapping[str, Any]] = {
    columns.ITEM_ID: pl.String, columns.TITLE: pl.String, columns.DESCRIPTION: pl.String,
    columns.PRICE: pl.Float32, columns.CATEGORY: pl.String, columns.AVERAGE_RATING: pl.Float32,
    columns.RATING_COUNT: pl.Int64, columns.IMAGE: pl.String,
}  # fmt: skip
"""Type of each column that every prepared catalogue has.

Those of `columns.CATALOGUE_EXTRA` are text, and `columns.RELEASED` is float64.
"""

_MEASURES: Final = (
    columns.PRICE, columns.AVERAGE_RATING, columns.RATING_COUNT, columns.RELEASED,
)  # fmt: skip
_LISTED: Final = {columns.CATEGORY: "|", columns.DESCRIPTION: "\n", columns.FEATURES: "\n"}
"""Separator of the parts of a list that becomes text: ``Drama|Comedy``."""


@dataclass(frozen=True)
class Catalogue:
    """Items in file order."""

    rows: pl.DataFrame
    """Columns of `CATALOGUE_SCHEMA`, then those of `columns.CATALOGUE_EXTRA` that the file has,
    then `columns.RELEASED` if it is known for any item."""
    items: Vocabulary
    """Item id → row."""
    read: int
    """Number of rows in the file, accepted and rejected."""
    repaired: Mapping[str, int]
    """Column and reason → number of values replaced by null."""
    examples: Mapping[str, str]
    """Column and reason → first such value."""
    currencies: Sequence[str]
    """Currencies of the prices."""


def read_catalogue(file: CatalogueFile, rejects: RejectLog) -> Catalogue:
    """Read and validate a catalogue.

    Rows without an id, and repeats of an id, are rejected. Text that is not a number
    (``from 12.99``), an impossible number (a price below 0, an average rating outside the rating
    scale) and blank text become null. If no column holds release times and the ids are Amazon
    product numbers, the release is derived from them (`amazon.listing_numbers`).

    Raises
    ------
    InputError
        If no item is left.
    """
    items = Vocabulary()
    ids = file.id_reader()
    tables = []
    read = 0
    with closing(file.chunks()) as chunks:
        for chunk in chunks:
            read += chunk.height
            raw = chunk.rows[columns.ITEM_ID]
            rows = chunk.rows.with_columns(ids.text(raw).alias(columns.ITEM_ID))
            again = pl.Series(items.find(rows[columns.ITEM_ID]) >= 0)
            again |= ~rows[columns.ITEM_ID].is_first_distinct()
            checks = [
                Check(columns.ITEM_ID, "missing", pl.col(columns.ITEM_ID).is_null()),
                Check(columns.ITEM_ID, "empty", pl.col(columns.ITEM_ID).str.strip_chars() == ""),
                Check(columns.ITEM_ID, "repeated", pl.lit(again)),
            ]
            checked = set_aside(replace(chunk, rows=rows), checks)
            rejects.add(file.path, checked.rejects)
            items.add(checked.rows[columns.ITEM_ID])
            tables.append(_as_held(checked.rows))
    if not len(items):
        problem = f"the catalogue {file.path} has no usable item"
        if not read:
            raise InputError(problem, "give a catalogue with rows")
        message = f"{problem}: {read:,} rows read"
        raise nothing_usable(message, rejects, [file.path], file.options)
    rows = _joined(tables)
    typed, repaired, examples = _typed(rows, file)
    marks = _currencies(rows, typed)
    return Catalogue(_with_releases(typed, file), items, read, repaired, examples, marks)


def bare_catalogue(item_ids: Sequence[str]) -> pl.DataFrame:
    """A catalogue with ids only; every other column is null."""
    rows = pl.DataFrame({columns.ITEM_ID: item_ids}, schema={columns.ITEM_ID: pl.String})
    return rows.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in CATALOGUE_SCHEMA.items()
        if name != columns.ITEM_ID
    )


def with_bare_items(known: Catalogue, items: Vocabulary) -> Catalogue:
    """The catalogue with an empty row for each item in ``items`` that it lacks."""
    ids = items.ids[known.rows.height :]
    if not ids:
        return known
    return replace(known, rows=pl.concat([known.rows, bare_catalogue(ids)], how="diagonal"))


def _with_releases(rows: pl.DataFrame, file: CatalogueFile) -> pl.DataFrame:
    """Derive the release from the ids if no column holds it; left out if all are unknown."""
    if columns.RELEASED in rows.columns:
        released = rows[columns.RELEASED]
        rows = rows.drop(columns.RELEASED)
    elif file.columns[columns.ITEM_ID].lower() in ASIN_COLUMNS:
        released = listing_numbers(rows[columns.ITEM_ID])
    else:
        return rows
    return rows if released.is_null().all() else rows.with_columns(released.alias(columns.RELEASED))


def _as_held(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns as kept until the whole catalogue is read: numbers and texts."""
    held = []
    for name in rows.columns:
        values = rows[name]
        if name not in _MEASURES and name != columns.ITEM_ID:
            values = _blank_to_null(_as_prose(values, _LISTED.get(name, ", ")))
        elif values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object, pl.Time):
            texts = [None if value is None else str(value) for value in values.to_list()]
            values = pl.Series(texts, dtype=pl.String)
        held.append(values.alias(name))
    return pl.DataFrame(held).drop(columns.LINE)


def _joined(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """All rows; a column is text where any part of it is, or where parts are of two kinds."""
    kinds: dict[str, set[Any]] = {}
    for table in tables:
        for name, dtype in table.schema.items():
            kinds.setdefault(name, set()).add(dtype)
    mixed = [name for name, found in kinds.items() if len(found) > 1]
    cast = [
        table.with_columns(pl.col(name).cast(pl.String) for name in mixed if name in table.columns)
        for table in tables
    ]
    return pl.concat(cast, how="diagonal")


def _typed(
    rows: pl.DataFrame, file: CatalogueFile
) -> tuple[pl.DataFrame, dict[str, int], dict[str, str]]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    extra = [name for name in columns.CATALOGUE_EXTRA if name in rows.columns]
    schema: dict[str, Any] = {**CATALOGUE_SCHEMA, **dict.fromkeys(extra, pl.String)}
    if columns.RELEASED in rows.columns:
        schema[columns.RELEASED] = pl.Float64
    result = []
    for name, dtype in schema.items():
        if name not in rows.columns:
            values = pl.repeat(None, rows.height, dtype=dtype, eager=True)
        elif dtype == pl.String:
            values = rows[name]
        else:
            values, faults = _measured(name, rows[name], file)
            for fault, which in faults.items():
                found = rows[name].filter(which.fill_null(False))
                if len(found):
                    counts[f"{name}: {fault}"] += len(found)
                    examples[f"{name}: {fault}"] = str(found[0])[:80]
        result.append(values.cast(dtype, strict=False).alias(name))
    return pl.DataFrame(result), dict(counts.most_common()), examples


def _measured(
    name: str, values: pl.Series, file: CatalogueFile
) -> tuple[pl.Series, dict[str, pl.Series]]:
    """Numbers within bounds, else null; and masks of invalid values by reason (NaN is missing)."""
    if values.dtype == pl.String:
        values = _blank_to_null(values)
        missing = values.is_in(file.options.missing_ids).fill_null(False)
        values = values.set(missing, None)
    bounds, unread = (0.0, math.inf), "not a number"
    comma = file.options.decimal_comma
    if name == columns.PRICE:
        numbers = as_price(values, comma)
    elif name == columns.RELEASED:
        numbers = _release(values, file)
        bounds, unread = (-math.inf, math.inf), "not a number or a date"
    else:
        numbers = as_number(values, comma)
        if name == columns.AVERAGE_RATING:
            bounds = file.options.rating_scale or (-math.inf, math.inf)
    faults = {unread: values.is_not_null() & numbers.is_null()}
    numbers = numbers.fill_nan(None)
    possible = numbers.is_between(*bounds) & numbers.is_finite()
    return numbers.set(~possible.fill_null(False), None), faults | {"out of range": ~possible}


def _release(values: pl.Series, file: CatalogueFile) -> pl.Series:
    """Release times: numbers unchanged, dates as milliseconds since 1970."""
    numbers = as_number(values)
    left = values.is_not_null() & numbers.is_null()
    if not left.any():
        return numbers
    times = TimeReader(file.path, file.columns[columns.RELEASED], file.options)
    try:
        dates = times.milliseconds(values.set(~left, None))
    except InputError:
        return numbers  # day and month are ambiguous: counted as unreadable
    return numbers.fill_null(dates)


def _currencies(rows: pl.DataFrame, typed: pl.DataFrame) -> list[str]:
    """Currencies of the prices that could be read."""
    if columns.PRICE not in rows.columns or rows.schema[columns.PRICE] != pl.String:
        return []
    texts = rows[columns.PRICE].filter(typed[columns.PRICE].is_not_null()).unique()
    found = Counter(filter(None, map(currency_of, texts)))
    return [mark for mark, _ in found.most_common() if len(mark) <= 4]


def _as_prose(values: pl.Series, between: str) -> pl.Series:
    """Values as text, with the parts of lists joined, including lists written as text."""
    if isinstance(values.dtype, pl.List):
        return values.cast(pl.List(pl.String)).list.join(between, ignore_nulls=True)
    if values.dtype.is_nested() or values.dtype == pl.Object:
        return pl.repeat(None, len(values), dtype=pl.String, eager=True)
    text = as_text(values) if values.dtype == pl.Binary else values.cast(pl.String)
    lists = text.str.contains(r"^\s*\[.*\]\s*$").fill_null(False)
    if not lists.any():
        return text
    listed = text.set(~lists, None)
    parts = listed.map_elements(lambda value: _parts_of(value, between), return_dtype=pl.String)
    return text.zip_with(~lists, parts)


def _parts_of(text: str, between: str) -> str:
    """The joined parts of a list written by JSON, Python or NumPy; other text unchanged."""
    text = text.strip()
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        parts = python_literal(re.sub(r"(['\"])\s+(['\"])", r"\1, \2", text))
    if not isinstance(parts, list) or any(isinstance(part, list | dict) for part in parts):
        return text
    return between.join(str(part).strip() for part in parts if part is not None)


def _blank_to_null(values: pl.Series) -> pl.Series:
    values = values.str.strip_chars()
    return values.set((values == "").fill_null(False), None)
