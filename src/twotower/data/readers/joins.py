"""Joins: columns added to a table from other tables by a key that is unique in them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import polars as pl

from twotower.data import columns
from twotower.data.ids import Vocabulary
from twotower.data.readers.chunk import Check, Chunk, set_aside
from twotower.data.readers.mapping import Columns
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.values import WHOLE_FLOAT, id_text
from twotower.errors import InputError

Names: TypeAlias = Callable[[Path, ReadOptions], list[str]]
Read: TypeAlias = Callable[[Path, Columns, ReadOptions], Iterator[Chunk]]

UNMATCHED: Final = "unmatched"
"""First word of the reject reason for a key that the joined table lacks."""
_NEEDED: Final = frozenset(
    (columns.USER_ID, columns.ITEM_ID, columns.TIMESTAMP, *columns.TIME_PARTS, columns.ORDER)
)
"""Log columns without which a row is useless."""


class Join(NamedTuple):
    """One table to join with."""

    file: Path
    key: str
    """Key column in the left table, or one added by an earlier join."""
    other: str
    """Key column in ``file``."""
    brings: Mapping[str, str]
    """Column name after the join → column of ``file``."""


def joined_file(path: Path, name: str, stem_only: Callable[[Path], str]) -> Path:
    """Find the table of a join by name: beside ``path``, in a parent folder, or in the working
    directory. The compression suffix may be left out.

    Raises
    ------
    InputError
        If there is no such file.
    """
    for folder in (*path.parents, Path()):
        near = folder / name
        if near.is_file():
            return near
        if near.parent.is_dir():
            alike = (file for file in near.parent.glob(f"{near.name}.*") if file.is_file())
            found = next((file for file in alike if stem_only(file) == near.name.lower()), None)
            if found is not None:
                return found
    raise InputError(
        f"{name}, to be joined with {path}, does not exist", "give the name of a file beside it"
    )


def joins_of(
    path: Path,
    own: Sequence[str],
    options: ReadOptions,
    names: Names,
    stem_only: Callable[[Path], str],
) -> list[Join]:
    """The joins of a table, in order.

    A column whose name is already taken is prefixed with the file name: ``orders.created_at``.

    Raises
    ------
    InputError
        If a file or a key column does not exist, or the table would be joined with itself.
    """
    present = list(own)
    found = []
    for name, keys in (options.join or {}).items():
        file = joined_file(path, name, stem_only)
        if file.resolve() == path.resolve():
            raise InputError(
                f"{path} would be joined with itself", "give the path of the log, and join others"
            )
        key, _, other = keys.partition(":")
        other = other or key
        in_file = names(file, options.for_catalogue())
        for table, column, there in ((path, key, present), (file, other, in_file)):
            if column not in there:
                raise InputError(
                    f"{table} has no column {column!r} to join {file.name} by",
                    f"it has {', '.join(map(repr, there[:20]))}; name the key, or KEY:OTHER where "
                    f"{file.name} calls it otherwise",
                )
        stem = file.name.partition(".")[0]
        brings: dict[str, str] = {}
        for column in in_file:
            called = f"{stem}.{column}" if column in present else column
            if column != other and called not in present:
                brings[called] = column
                present.append(called)
        found.append(Join(file, key, other, brings))
    return found


def read_joined(
    joins: Sequence[Join], path: Path, found: Columns, options: ReadOptions, read: Read
) -> Iterator[Chunk]:
    """Yield chunks of a table with the columns joined from other tables.

    A row whose key is missing in another table is rejected if the user, the item or the time
    would come from that table; otherwise the joined columns are null.
    """
    brought = {column for join in joins for column in join.brings}
    joined = {name: column for name, column in found.canonical.items() if column in brought}
    wanted = set(joined.values())
    needed = {column for name, column in joined.items() if name in _NEEDED}
    steps: list[tuple[Join, list[str], bool]] = []
    for join in reversed(joins):
        takes = [column for column in join.brings if column in wanted]
        if takes:
            is_needed = not needed.isdisjoint(takes)
            steps.insert(0, (join, takes, is_needed))
            wanted.add(join.key)
            needed |= {join.key} if is_needed else set()
    # Under private names, since columns are typed by their canonical names.
    keys = {_held(column): column for column in wanted - brought}
    own = {name: column for name, column in found.canonical.items() if column not in brought}
    table = found.of_same_file({**own, **keys})
    for chunk in read(path, table, options):
        late = {name: column for name, column in table.canonical.items() if name not in keys}
        found.canonical.update(late)
        for join, takes, is_needed in steps:
            chunk = _with_columns(chunk, join, takes, is_needed, options, read)
        rows = chunk.rows.select(
            *late,
            *(pl.col(_held(column)).alias(name) for name, column in joined.items()),
            columns.LINE,
        )
        yield replace(chunk, rows=rows)


def _held(column: str) -> str:
    return f"column {column}"


def _with_columns(
    chunk: Chunk,
    join: Join,
    takes: Sequence[str],
    is_needed: bool,
    options: ReadOptions,
    read: Read,
) -> Chunk:
    lookup = _lookup(join.file, join.other, options.for_catalogue())
    brought = lookup.rows([join.brings[column] for column in takes], read)
    places = lookup.places(chunk.rows[_held(join.key)])
    rows = chunk.rows.with_columns(
        brought[join.brings[column]].gather(places).alias(_held(column)) for column in takes
    )
    chunk = replace(chunk, rows=rows)
    if not is_needed:
        return chunk
    unmatched = Check(
        join.key, f"{UNMATCHED} in {join.file.name}", pl.lit(places.is_null()), _held(join.key)
    )
    return set_aside(chunk, [unmatched])


class Lookup:
    """Rows of a table by key. Columns are read on first use and then cached."""

    def __init__(self, file: Path, key: str, options: ReadOptions) -> None:
        self._file = file
        self._key = key
        self._options = options
        self._places: Vocabulary | None = None
        self._columns: dict[str, pl.Series] = {}

    def rows(self, names: Sequence[str], read: Read) -> Mapping[str, pl.Series]:
        """Columns of the rows that have a key, in file order.

        Raises
        ------
        InputError
            If several rows have the same key, or rows cannot be decoded.
        """
        absent = [name for name in dict.fromkeys(names) if name not in self._columns]
        if not absent and self._places is not None:
            return self._columns
        canonical = {_held(name): name for name in {*absent, self._key}}
        found = Columns(canonical, canonical.values())
        parts = []
        for chunk in read(self._file, found, self._options):
            for reject in chunk.rejects:
                if reject.reason.startswith("bad "):
                    raise InputError(
                        f"{self._file}:{reject.line}: {reject.reason}, got {reject.value[:80]!r}",
                        "name its encoding, which is the log's: ReadOptions(encoding='latin-1')",
                        cli_fix="name its encoding, which is the log's: --encoding latin-1",
                    )
            keys = key_text(chunk.rows[_held(self._key)], self._options)
            parts.append(chunk.rows.with_columns(keys.alias("")).filter(pl.col("").is_not_null()))
        if parts:
            rows = pl.concat(parts, how="vertical_relaxed")
        else:
            rows = pl.DataFrame(schema=dict.fromkeys(("", *canonical), pl.String))
        if self._places is None:
            places = Vocabulary()
            places.add(rows[""])
            if len(places) < rows.height:
                raise self._repeated(rows[""])
            self._places = places
        self._columns |= {name: rows[_held(name)] for name in absent}
        return self._columns

    def places(self, keys: pl.Series) -> pl.Series:
        """The row number of each key; null for unknown keys."""
        known = self._places or Vocabulary()
        found = pl.Series(known.find(key_text(keys, self._options)))
        return found.set(found < 0, None)

    def _repeated(self, keys: pl.Series) -> InputError:
        counts = keys.value_counts(sort=True)
        value, count = counts.row(0)
        several = int((counts["count"] > 1).sum())
        return InputError(
            f"{self._file} has {count:,} rows with {self._key} {value!r}, and {several:,} such "
            "values: a table is joined by a key that each of its rows has alone",
            "name a column that is unique there; or take that file for the log, and join the other",
        )


def key_text(values: pl.Series, options: ReadOptions) -> pl.Series:
    """Keys as id text; ``7.0``, as written for integer columns with gaps, becomes ``7``."""
    return id_text(values, options.missing_ids).str.replace(WHOLE_FLOAT, "$1")


@lru_cache(8)
def _lookup(file: Path, key: str, options: ReadOptions) -> Lookup:
    return Lookup(file, key, options)


def forget_joined() -> None:
    """Free the cached tables of joins."""
    _lookup.cache_clear()
