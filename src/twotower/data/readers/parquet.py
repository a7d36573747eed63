"""Parquet tables, a batch of rows at a time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from twotower.data import columns
from twotower.data.readers.chunk import CHUNK_ROWS, Chunk
from twotower.errors import InputError


def parquet_columns(path: Path) -> list[str]:
    """Column names of the schema."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


def read_parquet(path: Path, wanted: Mapping[str, str]) -> Iterator[Chunk]:
    """Yield chunks of columns as the file types them, renamed to canonical names.

    Parameters
    ----------
    path
        The file.
    wanted
        The file's column for each canonical name.
    """
    sources = list(dict.fromkeys(wanted.values()))
    with _opened(path) as file:
        total = max(file.metadata.num_rows, 1)
        first = 1
        for batch in file.iter_batches(CHUNK_ROWS, columns=sources):
            table = cast(pl.DataFrame, pl.from_arrow(batch))
            rows = table.select(pl.col(source).alias(name) for name, source in wanted.items())
            lines = pl.int_range(first, first + len(table), dtype=pl.Int64, eager=True)
            rows = rows.with_columns(lines.alias(columns.LINE))
            first += len(table)
            yield Chunk(rows, (), _RowText(rows), (first - 1) / total)


class _RowText:
    """Rows as JSON, since a Parquet file has no text of its own."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows = rows

    def __call__(self, line: int) -> str:
        row = self._rows.row(line - self._rows.item(0, columns.LINE), named=True)
        del row[columns.LINE]
        return orjson.dumps(row, default=str).decode()


@contextmanager
def _opened(path: Path) -> Iterator["pq.ParquetFile"]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({error})") from error
