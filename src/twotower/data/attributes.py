"""Item and user attributes: declared columns, read and typed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.data.readers.chunk import Chunk
from twotower.data.readers.lists import elements, mark_of
from twotower.data.readers.mapping import Columns
from twotower.data.readers.numbers import as_number, as_price, as_rating
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.tables import column_names, read_table
from twotower.data.readers.times import TimeReader
from twotower.data.readers.values import IdReader
from twotower.data.rejects import RejectLog
from twotower.data.schema import DTYPES, KINDS, Column, unknown_column
from twotower.data.time_zones import TIME_KINDS
from twotower.errors import InputError

_WRONG: Final = 0.5
"""Share of unreadable values above which a column is not of its declared kind."""


class Place(NamedTuple):
    """Source of values, with its read options; named in messages."""

    path: Path
    options: ReadOptions
    kinds: Sequence[str] = KINDS
    """Kinds that its columns can be declared as."""


class Described(NamedTuple):
    """Rows of an item or user table, one per requested id, and counts of the file."""

    rows: pl.DataFrame
    """In id order; null for ids that the file lacks. If an id has several rows, the first is
    kept."""
    read: int
    without_id: int
    repeated: int
    known: int
    """Counts: rows read, without an id and repeated; requested ids that the file has."""


def described_rows(
    place: Place,
    key: str,
    ids: Sequence[str],
    names: Sequence[str],
    rejects: RejectLog | None = None,
) -> Described:
    """Columns ``names`` of a file, unconverted, with one row per id of column ``key``.

    Rows that cannot be read are added to ``rejects``.
    """
    id_column = columns.ITEM_ID
    # Under private names, since columns are typed by their canonical names.
    canonical = {id_column: key, **{f"of {name}": name for name in names}}
    found = Columns(canonical, column_names(place.path, place.options))

    def read() -> Iterator[Chunk]:
        return read_table(place.path, found, place.options)

    reader = IdReader(
        lambda: (chunk.rows[id_column] for chunk in read()), place.options.missing_ids
    )
    chunks = []
    for chunk in read():
        if rejects is not None:
            rejects.add(place.path, chunk.rejects)
        ids_as_text = reader.text(chunk.rows[id_column])
        chunks.append(chunk.rows.with_columns(ids_as_text.alias(id_column)))
    rows = pl.concat(chunks, how="vertical_relaxed") if chunks else pl.DataFrame()
    named = rows.select(pl.col(id_column).alias(""), *(pl.col(f"of {x}").alias(x) for x in names))
    usable = named.filter(pl.col("").is_not_null() & (pl.col("") != ""))
    once = usable.unique("", keep="first", maintain_order=True)
    wanted = pl.DataFrame({"": ids}, schema={"": pl.String})
    table = wanted.join(once, "", how="left", maintain_order="left").drop("")
    known = int(wanted[""].is_in(once[""].to_list()).sum())
    return Described(
        table, rows.height, rows.height - usable.height, usable.height - once.height, known
    )


def typed_values(name: str, values: pl.Series, column: Column, place: Place) -> pl.Series:
    """A column's values, converted to its declared kind; null where missing or unreadable.

    Raises
    ------
    InputError
        If more than half of the values are of another kind; gives an example.
    """
    values = _without_blanks(values, place.options)
    try:
        read = _read(values, column, place).cast(DTYPES[column.kind])
    except (InputError, pl.exceptions.PolarsError) as error:
        raise _wrong_kind(name, column, place, values, error) from error
    unread = (values.is_not_null() & read.is_null()).fill_null(False)
    if int(unread.sum()) > _WRONG * max(len(values) - values.null_count(), 1):
        raise _wrong_kind(name, column, place, values.filter(unread))
    return read.alias(name)


def typed_table(table: pl.DataFrame, columns: Mapping[str, Column], place: Place) -> pl.DataFrame:
    """The declared columns of a table, typed, in declaration order.

    Raises
    ------
    InputError
        If a column is missing or of another kind.
    """
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise unknown_column(absent[0], place.path, table.columns)
    return pl.DataFrame(
        [typed_values(name, table[name], column, place) for name, column in columns.items()]
    )


def own_vectors(column: Column, base: Path, ids: Sequence[str], name: str) -> pl.Series:
    """Vectors of a ``.npy`` file by external id; null for ids not in its id file.

    Raises
    ------
    InputError
        If a file cannot be read, or vectors and ids do not match.
    """
    assert column.file is not None
    assert column.ids is not None
    path, listed = base / column.file, base / column.ids
    try:
        vectors = np.load(path, allow_pickle=False)
        known = listed.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {error}", "give a .npy file and a text file of ids") from error
    known = [line.strip() for line in known if line.strip()]
    if vectors.ndim != 2 or len(vectors) != len(known) or vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path} must hold a number table with a row for each of the {len(known):,} ids of "
            f"{listed.name}, got shape {vectors.shape}"
        )
    rows = {item: row for row, item in enumerate(known)}
    found = [rows.get(external) for external in ids]
    if not any(row is not None for row in found):
        raise InputError(f"{listed} names no id of the data set, such as {ids[0]!r}")
    values = [None if row is None else vectors[row].tolist() for row in found]
    return pl.Series(name, values, dtype=pl.List(pl.Float32))


def _without_blanks(values: pl.Series, options: ReadOptions) -> pl.Series:
    if values.dtype == pl.Binary:
        values = values.cast(pl.String, strict=False)
    if values.dtype == pl.String:
        values = values.str.strip_chars()
        blank = ((values == "") | values.is_in(list(options.missing_ids))).fill_null(False)
        return values.set(blank, None) if blank.any() else values
    return values.fill_nan(None) if values.dtype.is_float() else values


def _read(values: pl.Series, column: Column, place: Place) -> pl.Series:
    """A column's values converted to its kind; null where that fails."""
    comma = place.options.decimal_comma
    if column.kind == "number":
        return _number(values, comma)
    if column.kind in TIME_KINDS:
        numbers = as_number(values, comma)
        fits = numbers.is_between(*TIME_KINDS[column.kind]) & (numbers == numbers.round())
        return numbers.set(~fits.fill_null(False), None)
    if column.kind == "flag":
        numbers = as_rating(values, comma)
        return numbers.set(~numbers.is_in([0.0, 1.0]).fill_null(True), None)
    if column.kind == "date":
        return TimeReader(place.path, values.name, place.options).milliseconds(values)
    if column.kind == "list":
        return _list(values, column.separator)
    if column.kind == "embedding":
        return _embedding(values)
    return _plain_text(values)


def _number(values: pl.Series, decimal_comma: bool | None) -> pl.Series:
    if values.dtype == pl.Boolean:
        return values.cast(pl.Float64)
    numbers = as_number(values, decimal_comma)
    if values.dtype == pl.String and numbers.null_count() > values.null_count():
        numbers = numbers.fill_null(as_price(values, decimal_comma))
    return numbers.set(numbers.is_infinite().fill_null(False), None)


def _plain_text(values: pl.Series) -> pl.Series:
    if values.dtype.is_nested() or values.dtype == pl.Object:
        return pl.repeat(None, len(values), dtype=pl.String, eager=True)
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        if (whole.cast(pl.Float64) == values).all():
            values = whole
    return values.cast(pl.String)


def _list(values: pl.Series, separator: str | None) -> pl.Series:
    if values.dtype == pl.List or values.dtype == pl.Array:
        return values.cast(pl.List(pl.String))
    texts = _plain_text(values)
    mark = mark_of(texts) if separator is None else separator
    parts = [None if text is None else list(elements(text, mark)) for text in texts]
    return pl.Series(values.name, parts, dtype=pl.List(pl.String))


def _embedding(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        values = values.str.json_decode(pl.List(pl.Float64))
    vectors = values.cast(pl.List(pl.Float32))
    lengths = vectors.drop_nulls().list.len().unique()
    if len(lengths) > 1:
        raise InputError(f"vectors of {lengths.sort().to_list()[:3]} dimensions")
    return vectors


def _wrong_kind(
    name: str, column: Column, place: Place, values: pl.Series, why: Exception | None = None
) -> InputError:
    known = values.drop_nulls()
    example = repr(known[0])[:80] if len(known) else "nothing"
    first = "" if why is None else f" ({str(why).splitlines()[0][:120]})"
    return InputError(
        f"column {name!r} of {place.path} is declared as {column.kind}, "
        f"but holds values such as {example}{first}",
        f"declare another kind: {', '.join(place.kinds)}",
    )
