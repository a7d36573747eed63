"""Table reader for every file format: column names, and chunks of chosen columns."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from twotower.data import columns
from twotower.data.readers.amazon import MAIN_CATEGORY, META_KEYS, meta_reader
from twotower.data.readers.chunk import Chunk
from twotower.data.readers.delimited import delimited_columns, read_delimited
from twotower.data.readers.joins import Join, joined_file, joins_of, read_joined
from twotower.data.readers.jsonl import (
    BLOCK_LINE,
    jsonl_keys,
    read_jsonl,
    rows_of_objects,
    values_of,
)
from twotower.data.readers.lists import exploded
from twotower.data.readers.mapping import Columns
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.parquet import (
    parquet_columns,
    parquet_is_nested,
    read_parquet,
    read_parquet_rows,
)
from twotower.data.readers.text import LineFile
from twotower.errors import InputError

_JSONL: Final = (".jsonl", ".ndjson", ".json")
_DELIMITED: Final = (
    ".csv", ".tsv", ".inter", ".item", ".txt", ".dat", ".data", ".tab", ".psv", ".rating",
)  # fmt: skip
_LOOKED_AT: Final = 2000
"""Approximate number of values sampled to guess what a column holds."""
SUFFIXES: Final = (*_JSONL, *_DELIMITED, ".parquet", ".pq")
"""Suffixes of readable files."""
COMPRESSIONS: Final = (".gz", ".bz2", ".zst", ".zstd", ".xz", ".zip")
"""Additional suffixes of compressed files; Parquet is not compressed as a whole."""


def table_suffix(path: Path) -> str | None:
    """The suffix of a readable table, or None if it is unknown."""
    name = uncompressed_name(path)
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def uncompressed_name(path: Path) -> str:
    """The file's name in lower case, without its compression suffix."""
    name = path.name.lower()
    return next((name.removesuffix(end) for end in COMPRESSIONS if name.endswith(end)), name)


def file_format(path: Path, options: ReadOptions) -> Literal["csv", "json", "parquet"]:
    """Format of a file, from the options, its first bytes, or its suffix.

    Raises
    ------
    InputError
        If it cannot be read, or is known not to be a table.
    """
    if options.format is not None:
        return options.format
    if path.is_dir():
        raise InputError(f"{path} cannot be read: it is a folder", "give the path of a file")
    with _opened(path) as file:
        magic = file.read(4)
    suffix = table_suffix(path)
    if magic == b"PAR1" or suffix in (".parquet", ".pq"):
        return "parquet"
    with LineFile(path, options) as lines:
        first = next((line.strip() for line in lines if line.strip()), b"")
    if first.startswith(b"{") or BLOCK_LINE.match(first):
        return "json"
    if suffix in _JSONL and first.startswith((b"[[", b"[ [")):
        raise InputError(
            f"{path} is a list of lists",
            "write one object a line: pandas does with to_json(orient='records', lines=True)",
        )
    if first.startswith(b"[") and (suffix in _JSONL or first[1:].lstrip()[:1] in (b"{", b"")):
        return "json"
    is_table = b"{" not in first and any(mark in first for mark in (b",", b";", b"\t", b"|"))
    return "json" if suffix in _JSONL and not is_table else "csv"


def column_names(
    path: Path, options: ReadOptions | None = None, *, all_keys: bool = False
) -> list[str]:
    """Column names of a table; for JSON, the keys of its first objects, or of all (``all_keys``).

    Columns of joined tables follow.
    """
    options = options or ReadOptions()
    own = _own_columns(path, options, all_keys)
    return [*own, *(name for join in _joins(path, own, options) for name in join.brings)]


def joined_columns(path: Path, options: ReadOptions) -> list[str]:
    """Columns that a table gets from joined tables."""
    own = _own_columns(path, options) if options.join else []
    return [name for join in _joins(path, own, options) for name in join.brings]


def joined_files(path: Path, options: ReadOptions) -> list[Path]:
    """The files of the tables that a table is joined with."""
    return [joined_file(path, name, uncompressed_name) for name in options.join or ()]


def _joins(path: Path, own: Sequence[str], options: ReadOptions) -> list[Join]:
    return joins_of(path, own, options, _own_columns, uncompressed_name) if options.join else []


def _own_columns(path: Path, options: ReadOptions, all_keys: bool = False) -> list[str]:
    kind = file_format(path, options)
    if kind == "json":
        return jsonl_keys(path, options, None) if all_keys else jsonl_keys(path, options)
    found = parquet_columns(path) if kind == "parquet" else delimited_columns(path, options)
    absent = [name for name in options.explode or () if name not in found]
    if absent:
        raise InputError(
            f"{path} has no column {absent[0]!r} of lists", f"it has {', '.join(map(repr, found))}"
        )
    return found


def read_table(path: Path, found: Columns, options: ReadOptions) -> Iterator[Chunk]:
    """Yield chunks of a table, with columns renamed to the canonical names of ``found``."""
    if options.join:
        joins = _joins(path, _own_columns(path, options), options)
        return read_joined(joins, path, found, options, _read_own)
    return _read_own(path, found, options)


def _read_own(path: Path, found: Columns, options: ReadOptions) -> Iterator[Chunk]:
    kind = file_format(path, options)
    if kind == "json":
        return read_jsonl(path, options, found, lambda: values_of(tuple(found.canonical.values())))
    chunks = (
        read_parquet(path, found.canonical)
        if kind == "parquet"
        else read_delimited(path, found.canonical, options)
    )
    lists = [name for name, column in found.canonical.items() if column in (options.explode or ())]
    return exploded(chunks, lists) if lists else chunks


def sampled_values(
    path: Path, names: Sequence[str], present: Sequence[str], options: ReadOptions
) -> dict[str, list[str]]:
    """Stripped non-empty text values of columns, sampled evenly from the first chunk, in order.

    Columns with duplicate names are left out, since they cannot be addressed.
    """
    counts = Counter(present)
    names = [name for name in names if counts[name] == 1]
    if not names:
        return {}
    # Under non-canonical names to avoid type conversion.
    found = Columns({f"value of {name}": name for name in names}, present)
    chunk = next(iter(read_table(path, found, options)), None)
    if chunk is None:
        return {name: [] for name in names}
    values = {}
    for name in names:
        column = chunk.rows[f"value of {name}"].drop_nulls()
        step = max(len(column) // _LOOKED_AT, 1)
        texts = (str(value).strip() for value in column.gather_every(step))
        values[name] = [text for text in texts if text]
    return values


def is_amazon(path: Path, found: Columns, options: ReadOptions) -> bool:
    """Whether a catalogue is from Amazon Reviews 2023: nested columns and a ``parent_asin``."""
    if found.canonical[columns.ITEM_ID] != META_KEYS[columns.ITEM_ID]:
        return False
    kind = file_format(path, options)
    nested = kind == "parquet" and parquet_is_nested(path, ("categories", "images"))
    return kind == "json" or nested


def read_amazon(path: Path, found: Columns, options: ReadOptions) -> Iterator[Chunk]:
    """Yield chunks of an Amazon Reviews 2023 catalogue, in any format."""
    take = meta_reader(found.canonical)
    if file_format(path, options) == "json":
        return read_jsonl(path, options, found, lambda: take)
    selected = [
        name for name in found.present if name in {*found.canonical.values(), MAIN_CATEGORY}
    ]
    return (
        rows_of_objects(rows, first, tuple(found.canonical), take, fraction)
        for first, rows, fraction in read_parquet_rows(path, selected)
    )


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {why}") from error
