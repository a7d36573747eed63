"""Parquet reader in batches of rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
import polars as pl
import pyarrow as pa

from twotower.data import columns
from twotower.data.readers.chunk import CHUNK_ROWS, Chunk
from twotower.data.time_zones import known_zone
from twotower.errors import InputError

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def parquet_columns(path: Path) -> list[str]:
    """Column names of the schema."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def read_parquet(path: Path, wanted: Mapping[str, str]) -> Iterator[Chunk]:
    """Yield chunks of columns with the file's types; ``wanted`` as in `read_delimited`."""
    sources = list(dict.fromkeys(wanted.values()))
    for first, batch, total in _batches(path, sources):
        table = {name: _series(path, name, batch.column(name)) for name in sources}
        rows = pl.DataFrame([table[source].alias(name) for name, source in wanted.items()])
        lines = pl.int_range(first, first + batch.num_rows, dtype=pl.Int64, eager=True)
        rows = rows.with_columns(lines.alias(columns.LINE))
        yield Chunk(rows, (), _RowText(rows), (first - 1 + batch.num_rows) / total)


def read_parquet_rows(path: Path, sources: Sequence[str]) -> Iterator[tuple[int, list[Any], float]]:
    """Yield the number of the first row, rows as dicts, and the fraction of the file read."""
    for first, batch, total in _batches(path, sources):
        yield first, batch.to_pylist(), (first - 1 + batch.num_rows) / total


def parquet_is_nested(path: Path, names: Sequence[str]) -> bool:
    """Whether any of the named columns is a list or a struct."""
    with _opened(path) as file:
        schema = file.schema_arrow
        found = [schema.field(name).type for name in names if schema.get_field_index(name) >= 0]
    return any(pa.types.is_nested(kind) for kind in found)


def _batches(path: Path, sources: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch, int]]:
    with _opened(path) as file:
        total = max(file.metadata.num_rows, 1)
        first = 1
        for batch in file.iter_batches(CHUNK_ROWS, columns=list(sources)):
            yield first, batch, total
            first += batch.num_rows


def _series(path: Path, name: str, values: pa.Array) -> pl.Series:
    """A column as a polars series; timestamps in a zone unknown to polars become UTC."""
    kind = values.type
    try:
        if getattr(kind, "extension_name", None) == "arrow.uuid":
            return pl.Series(
                [value and str(value) for value in values.to_pylist()], dtype=pl.String
            )
        if pa.types.is_decimal(kind) and kind.bit_width > 128:
            values = values.cast(pa.string())  # polars panics on them
            kind = values.type
        if isinstance(kind, pa.BaseExtensionType):
            values = values.storage
            kind = values.type
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            values = values.cast(pa.timestamp(kind.unit, known_zone(kind.tz) or "UTC"))
        elif pa.types.is_fixed_size_binary(kind):
            values = values.cast(pa.binary())
        elif pa.types.is_null(kind):
            return pl.repeat(None, len(values), dtype=pl.String, eager=True)
        return cast(pl.Series, pl.from_arrow(values))
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        pa.ArrowException,
        TypeError,
        ValueError,
    ) as error:
        raise InputError(
            f"column {name!r} of {path} cannot be read: it is of type {values.type} "
            f"({str(error).splitlines()[0]})",
            "save it as text, numbers or timestamps",
        ) from error


class _RowText:
    """Text of rows as JSON, since Parquet rows have no text of their own."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows = rows

    def __call__(self, line: int) -> str:
        row = self._rows.row(line - self._rows.item(0, columns.LINE), named=True)
        del row[columns.LINE]
        return orjson.dumps(row, default=_text).decode()


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


@contextmanager
def _opened(path: Path) -> Iterator["pq.ParquetFile"]:
    import pyarrow.parquet as pq  # takes 0.1 s, so only for Parquet

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable Parquet file ({why})") from error
