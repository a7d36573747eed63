"""One face for every file format: column names, and chunks of the columns wanted."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from twotower.data import columns
from twotower.data.readers.amazon import META_COLUMNS, meta_row
from twotower.data.readers.chunk import Chunk
from twotower.data.readers.delimited import delimited_columns, read_delimited
from twotower.data.readers.jsonl import jsonl_keys, read_jsonl
from twotower.data.readers.parquet import parquet_columns, read_parquet
from twotower.errors import InputError

_JSONL: Final = (".jsonl", ".ndjson")
_DELIMITED: Final = (".csv", ".tsv", ".inter", ".item")
SUFFIXES: Final = (*_JSONL, *_DELIMITED, ".parquet")
"""Endings of files that can be read; all but Parquet may be gzipped too."""


def table_suffix(path: Path) -> str | None:
    """The suffix that says how to read a file, or None where it is of no known kind."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def column_names(path: Path) -> list[str]:
    """Names of the columns of a table, or of the keys of its first JSON lines."""
    suffix = _known_suffix(path)
    if suffix in _JSONL:
        return jsonl_keys(path)
    return parquet_columns(path) if suffix == ".parquet" else delimited_columns(path)


def read_table(path: Path, wanted: Mapping[str, str]) -> Iterator[Chunk]:
    """Chunks of a table, its columns renamed to the canonical names that ``wanted`` maps from."""
    suffix = _known_suffix(path)
    if suffix == ".parquet":
        return read_parquet(path, wanted)
    if suffix in _DELIMITED:
        return read_delimited(path, wanted)
    keys = tuple(wanted.values())

    def pick(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(map(row.get, keys))

    return read_jsonl(path, tuple(wanted), pick)


def read_catalogue_table(path: Path, wanted: Mapping[str, str]) -> Iterator[Chunk]:
    """As `read_table`; products of Amazon Reviews 2023 are flattened by `meta_row`."""
    if _known_suffix(path) not in _JSONL or wanted[columns.ITEM_ID] != "parent_asin":
        return read_table(path, wanted)
    released = wanted.get(columns.RELEASED)
    if released is None:
        return read_jsonl(path, META_COLUMNS, meta_row)

    def with_release(row: dict[str, Any]) -> tuple[Any, ...]:
        return (*meta_row(row), row.get(released))

    return read_jsonl(path, (*META_COLUMNS, columns.RELEASED), with_release)


def _known_suffix(path: Path) -> str:
    suffix = table_suffix(path)
    if suffix is None:
        raise InputError(
            f"{path} is of no kind that can be read", f"give a file ending in {', '.join(SUFFIXES)}"
        )
    return suffix
