"""In-memory tables as a source: DataFrames of any library, arrays, and lists."""

import math
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
import polars as pl

from twotower.data.temporary import errors_naming
from twotower.errors import InputError

Table: TypeAlias = Any
"""A polars, pandas or Arrow table (any that narwhals takes), batches of Arrow, a NumPy array, a
matrix of ``scipy.sparse`` (users by items), a mapping of names to columns, or a list of rows."""

TABLE: Final = "interactions"
"""Default name of a data set made from a table."""

_SHOWN: Final = 60
"""Characters of a value in a message."""
_COLUMNS_SHOWN: Final = 5
"""Columns that a message names."""
_PAIR: Final = ("user", "item")
_HOW: Final = "pass a DataFrame, a dict of columns, or rows with columns=['user', 'item', 'time']"


class Files(NamedTuple):
    """Paths of the written tables; inputs given as paths are unchanged."""

    log: Any
    catalogue: str | Path | None
    users: str | Path | None


def is_table(source: object) -> bool:
    """Whether a source is an in-memory table, not the path of a file."""
    if isinstance(source, list | tuple) and source:  # of several files
        return not all(isinstance(path, str | os.PathLike) for path in source)
    return not isinstance(source, str | os.PathLike)


@contextmanager
def as_files(
    interactions: Table, items: Table | None = None, users: Table | None = None
) -> Iterator[Files]:
    """Temporary Parquet files of the tables; errors inside the block name the tables.

    ``items`` and ``users`` may be paths of files too.
    """
    tables = {"interactions": interactions, "items": items, "users": users}
    with tempfile.TemporaryDirectory(prefix="twotower-tables-") as folder:
        written: dict[str, Path] = {}
        for name, table in tables.items():
            if (table is None and name != "interactions") or not is_table(table):
                if isinstance(table, list | tuple) and name != "interactions":
                    raise InputError(
                        f"{name} must be a table or the path of one file, got {_short(table)}", _HOW
                    )
                continue
            path = Path(folder) / f"{name}.parquet"
            as_frame(table, name).write_parquet(path)
            written[name] = path
        places = {str(path): name for name, path in written.items()}
        with errors_naming(places | {path.name: name for name, path in written.items()}):
            yield Files(*(written.get(name, table) for name, table in tables.items()))


def as_frame(table: Table, what: str, names: Sequence[str] | None = None) -> pl.DataFrame:
    """A table as a polars DataFrame, without a copy where the library allows it.

    ``what`` is what messages call it; ``names`` are those of its columns, for arrays and rows that
    have none, by default ``user, item`` for two.

    Raises
    ------
    InputError
        If it is not a table, or its columns have neither names nor an evident order.
    """
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    try:
        native: Any = nw.from_native(table, pass_through=True, allow_series=True)
        if isinstance(native, nw.LazyFrame):
            native = native.collect()
    except nw.exceptions.NarwhalsError as error:
        raise InputError(f"{what} cannot be read ({error})", _HOW) from error
    if isinstance(native, nw.Series):
        raise InputError(
            f"{what} must be a table, got a Series",
            "pass a DataFrame; Series.reset_index() of pandas makes one with the index as columns",
        )
    if not isinstance(native, nw.DataFrame) and hasattr(table, "__arrow_c_stream__"):
        native = nw.from_native(pl.DataFrame(table))  # batches, and readers of them
    if isinstance(native, nw.DataFrame):
        native = _with_index(native)
        named = {name: native.get_column(name) for name in native.columns}
        return _from_columns(named, what, names)
    if isinstance(table, np.ndarray):
        if table.dtype.names:
            return _from_columns({name: table[name] for name in table.dtype.names}, what, names)
        if table.ndim != 2:
            raise InputError(f"{what} must be a table, got an array of shape {table.shape}", _HOW)
        labels = _labels(names, table.shape[1], what)
        return _from_columns(dict(zip(labels, table.T, strict=True)), what)
    if hasattr(table, "tocoo"):  # of scipy.sparse: users by items
        matrix = table.tocoo()
        stored = matrix.data != 0  # a zero that is stored is no other than one that is not
        places = {"user": matrix.row, "item": matrix.col, "value": matrix.data}
        return _from_columns({name: column[stored] for name, column in places.items()}, what, names)
    if isinstance(table, Mapping):
        return _from_columns(table, what, names)
    if isinstance(table, Iterable) and not isinstance(table, str | bytes):
        return _from_rows(list(table), what, names)
    raise InputError(f"{what} must be a table, got {type(table).__name__}", _HOW)


def _with_index(frame: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The frame with the levels of a pandas index as columns: those that have a name, and those
    of anything but whole numbers, which number the rows.
    """
    table = frame.to_native()
    if not nw.dependencies.is_pandas_dataframe(table):
        return frame
    index = table.index
    told = [
        level
        for level, name in enumerate(index.names)
        if name not in table.columns
        and (name is not None or index.get_level_values(level).inferred_type != "integer")
    ]
    return nw.from_native(table.reset_index(level=told), eager_only=True) if told else frame


def id_text(value: Any, what: str = "an id") -> str:
    """An id as stripped text, as in the data set; 12.0 becomes 12.

    Examples
    --------
    >>> id_text(np.int64(7)), id_text(7.0), id_text(" a ")
    ('7', '7', 'a')

    Raises
    ------
    InputError
        If it is missing, or neither text nor a whole number.
    """
    if hasattr(value, "as_py"):  # a scalar of Arrow
        value = value.as_py()
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            value = value.decode()
    if isinstance(value, bool | np.bool_ | np.timedelta64):  # the last calls itself a whole number
        raise InputError(f"{what} must be text or a whole number, got {value!r}")
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real | Decimal) and math.isfinite(value) and value == math.floor(value):
        return str(math.floor(value))
    raise InputError(f"{what} must be text or a whole number, got {_short(value)}")


def id_list(values: Any, what: str = "history") -> list[str]:
    """Ids of a list, an array or a column of any library, as `id_text` gives them.

    Raises
    ------
    InputError
        If it is a single text, or none of these.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(
            f"{what} must be a list of item ids, got the text {values!r}"
            if isinstance(values, str)
            else f"{what} must be a list of ids, got {values!r}",
            "leave it out" if values is None else f"pass [{values!r}]",
        )
    if isinstance(values, Mapping) or hasattr(values, "columns"):  # would be read as its names
        kind = type(values).__name__
        raise InputError(
            f"{what} must be a list of ids, got a {kind}", f"pass one column of the {kind}"
        )
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InputError(f"{what} must be a list of ids, got an array of shape {values.shape}")
    return [id_text(value, f"every id of {what}") for value in values]


def _labels(names: Sequence[str] | None, width: int, what: str) -> Sequence[str]:
    if names is None and what == TABLE and width == len(_PAIR):
        return _PAIR
    if names is not None and len(names) == width:
        return names
    raise InputError(
        f"the {width} columns of {what} have no names"
        if names is None
        else f"columns has {len(names)} names for the {width} columns of {what}",
        "name them in order, such as columns=['user', 'item', 'time']"
        if what == TABLE
        else "pass a DataFrame, a dict of columns or a list of dicts",
    )


def _from_rows(rows: list[Any], what: str, names: Sequence[str] | None) -> pl.DataFrame:
    if rows and all(isinstance(row, Mapping) for row in rows):
        keys = dict.fromkeys(key for row in rows for key in row)
        return _from_columns({key: [row.get(key) for row in rows] for key in keys}, what, names)
    if not rows or not all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        got = "no rows" if not rows else f"a list of {type(rows[0]).__name__}"
        raise InputError(f"{what} must be a table, got {got}", _HOW)
    labels = _labels(names, len(rows[0]), what)
    uneven = next((row for row in rows if len(row) != len(labels)), None)
    if uneven is not None:
        raise InputError(
            f"every row of {what} must have {len(labels)} values, got {tuple(uneven)!r}"
        )
    return _from_columns(dict(zip(labels, zip(*rows, strict=True), strict=True)), what)


def _from_columns(
    columns: Mapping[Any, Any], what: str, names: Sequence[str] | None = None
) -> pl.DataFrame:
    """Columns as polars types them; one of mixed values (text beside numbers) as text.

    ``names`` are taken by columns that are only numbered, as those of a DataFrame made of rows.
    """
    labels = ["_".join(filter(None, map(str, key))) if isinstance(key, tuple) else str(key)
              for key in columns]  # fmt: skip
    if names is not None and all(key == place for place, key in enumerate(columns)):
        labels = list(_labels(names, len(labels), what))
    elif names is not None and list(names) != labels:
        raise InputError(
            f"columns is a list, which names the columns of arrays and rows, but those of {what} "
            f"have names: {_first(repr(label) for label in labels)}",
            f"say which is which, such as columns={{'user': {labels[0]!r}}}",
        )
    series = [
        _column(label, column, what) for label, column in zip(labels, columns.values(), strict=True)
    ]
    if len(set(labels)) != len(labels):
        raise InputError(f"{what} has two columns of one name: {', '.join(labels)}")
    lengths = {len(column) for column in series}
    if len(lengths) > 1:
        raise InputError(
            f"the columns of {what} must be of one length, got "
            f"{_first(f'{column.name} {len(column):,}' for column in series)}"
        )
    return pl.DataFrame(series)


def _first(texts: Iterable[str]) -> str:
    """Some of the texts, and how many more there are."""
    listed = list(texts)
    more = len(listed) - _COLUMNS_SHOWN
    return ", ".join(listed[:_COLUMNS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _column(name: str, values: Any, what: str) -> pl.Series:
    column = _typed_column(name, values, what)
    if column.dtype == pl.Object:
        return pl.Series(name, [_as_text(value) for value in column.to_list()], dtype=pl.String)
    if column.dtype in (pl.Int128, pl.UInt128):  # which Parquet has not
        return column.cast(pl.String)
    return column


def _typed_column(name: str, values: Any, what: str) -> pl.Series:
    try:
        native: Any = values.to_native() if isinstance(values, nw.Series) else values
        if str(getattr(native, "dtype", "")).startswith("period["):  # of pandas: numbers for Arrow
            return pl.Series(name, native.dt.to_timestamp().to_numpy())
        if isinstance(values, nw.Series):
            return values.to_polars().alias(name)
        if isinstance(values, pl.Series):
            return values.alias(name)
        if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
            raise InputError(
                f"column {name!r} of {what} must be a list, got {_short(values)}", _HOW
            )
        if isinstance(values, np.ndarray) and values.dtype != object:
            return pl.Series(name, np.ascontiguousarray(values))
        wrapped: Any = nw.from_native(values, series_only=True, pass_through=True)
        if isinstance(wrapped, nw.Series):
            return wrapped.to_polars().alias(name)
        return pl.Series(name, list(values))
    except InputError:
        raise
    except Exception:  # each library has its own errors for what no column type holds
        plain = values.to_list() if hasattr(values, "to_list") else list(values)
        return pl.Series(name, [_as_text(value) for value in plain], dtype=pl.String)


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _as_text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        return id_text(value)
    except InputError:
        return str(value)
