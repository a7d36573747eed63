"""Source recognition: find a log and, if present, a catalogue in a file or folder."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import polars as pl

from twotower.data import columns
from twotower.data.dataset import Part
from twotower.data.readers.amazon import amazon_columns
from twotower.data.readers.chunk import Chunk
from twotower.data.readers.discovery import FoundLog, Resolve
from twotower.data.readers.files import find_catalogue, find_logs, tables_beside
from twotower.data.readers.jsonl import lists_of_objects
from twotower.data.readers.lists import looks_like_lists
from twotower.data.readers.mapping import ColumnMapping, Columns
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.tables import (
    column_names,
    file_format,
    is_amazon,
    read_amazon,
    read_table,
    sampled_values,
    table_suffix,
)
from twotower.data.readers.times import TimeReader, joined
from twotower.data.readers.values import IDS, IdReader, RatingReader, typed
from twotower.data.schema import Column, unknown_column
from twotower.errors import InputError

_OPTIONAL: Final[Mapping[str, float | None]] = {columns.RATING: None, columns.QUANTITY: 1.0}
"""Columns that some files of a log may lack → the value to fill in."""


@dataclass(frozen=True)
class LogFile:
    """One file of interactions."""

    path: Path
    """The file."""
    found: Columns
    """Its columns."""
    part: Part | None = None
    """Split part, if the files give the split."""
    options: ReadOptions = field(default_factory=ReadOptions)
    """Read options of the file."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Constant columns: Hive values of its folder names, and the event kind."""
    lacks: frozenset[str] = frozenset()
    """Canonical columns that only other files of the log have, filled in here: rating null,
    quantity 1."""
    url: str | None = None
    """URL it was copied from, for machines without the copy."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Canonical column → the file's column."""
        return self.found.canonical

    def chunks(self) -> Generator[Chunk, None, None]:
        """Yield canonical columns, ids as text and numbers as float64 (`readers.values.typed`).

        A column whose key first appears in the middle of a JSON file is present from then on.
        """
        ids = {name: IdReader(partial(self._again, name), self.options.missing_ids) for name in IDS}
        ratings = RatingReader(partial(self._again, columns.RATING), self.options.decimal_comma)
        time = self.columns.get(columns.TIMESTAMP)
        times = None if time is None else TimeReader(self.path, time, self.options)
        parts = [name for name in columns.TIME_PARTS if name in self.columns]
        for chunk in self._tables():
            if parts:
                whole = joined([chunk.rows[name] for name in (columns.TIMESTAMP, *parts)])
                rows = chunk.rows.drop(parts).with_columns(whole.alias(columns.TIMESTAMP))
                chunk = replace(chunk, rows=rows)
            chunk = typed(chunk, ids, ratings, times, self.options)
            lacking = {name: pl.lit(_OPTIONAL[name], pl.Float64) for name in self.lacks}
            yield replace(chunk, rows=chunk.rows.with_columns(**lacking)) if lacking else chunk

    def sampled(self, names: Sequence[str]) -> dict[str, list[str]]:
        """First values of some columns; see `sampled_values`."""
        present = [name for name in self.found.present if name not in self.keys]
        return sampled_values(self.path, names, present, self.options)

    def _again(self, name: str) -> Iterable[pl.Series]:
        if self.columns[name] in self.keys:
            return iter([pl.Series([self.keys[self.columns[name]]])])
        found = Columns({name: self.columns[name]}, self.found.present)
        return (chunk.rows[name] for chunk in read_table(self.path, found, self.options))

    def _tables(self) -> Iterator[Chunk]:
        """Chunks of the file, with the constant columns of ``keys``."""
        if not self.keys:
            yield from read_table(self.path, self.found, self.options)
            return
        named = {name: key for name, key in self.columns.items() if key in self.keys}
        in_file = {name: key for name, key in self.columns.items() if name not in named}
        present = [name for name in self.found.present if name not in self.keys]
        for chunk in read_table(self.path, Columns(in_file, present), self.options):
            values = [pl.lit(self.keys[key], pl.String).alias(name) for name, key in named.items()]
            yield replace(chunk, rows=chunk.rows.with_columns(values))


@dataclass(frozen=True)
class CatalogueFile:
    """The item catalogue file."""

    path: Path
    found: Columns
    options: ReadOptions = field(default_factory=ReadOptions)
    amazon: bool = False

    @property
    def columns(self) -> Mapping[str, str]:
        """Canonical column → the file's column."""
        return self.found.canonical

    def chunks(self) -> Generator[Chunk, None, None]:
        """Yield canonical columns with the file's types."""
        read = read_amazon if self.amazon else read_table
        yield from read(self.path, self.found, self.options)

    def id_reader(self) -> IdReader:
        """Reader of its item ids, which are normalised like those of a log."""
        return IdReader(
            lambda: (chunk.rows[columns.ITEM_ID] for chunk in self.chunks()),
            self.options.missing_ids,
        )


@dataclass(frozen=True)
class Source:
    """A log in one or several files, with an optional catalogue."""

    kind: str
    """``amazon-2023-raw``, ``amazon-2023-benchmark``, ``recbole`` or ``table``."""
    logs: tuple[LogFile, ...]
    """Files of one log, with the same canonical columns; train first."""
    catalogue: CatalogueFile | None
    """The item catalogue, or None if there is only the log."""
    context: frozenset[str] = frozenset()
    """Canonical names of the log's declared context columns."""

    @property
    def columns(self) -> frozenset[str]:
        """Canonical columns of the log, except declared context columns."""
        of_files = frozenset(name for log in self.logs for name in log.columns)
        return of_files - {*columns.TIME_PARTS, *self.context}

    @property
    def has_parts(self) -> bool:
        """Whether the files give the split."""
        return self.logs[0].part is not None


def read_source(
    path: Path,
    mapping: ColumnMapping | None = None,
    catalogue: Path | None = None,
    options: ReadOptions | None = None,
    catalogue_options: ReadOptions | None = None,
) -> Source:
    """Recognise the log and catalogue of a folder or file; usually only file heads are read.

    ``path`` is a folder with one log (``reviews.jsonl``, ``x.inter``, or one file per split part:
    ``x.train.csv``, ``x.test.csv``), a log file, or a common prefix of such names
    (``last_out/Video_Games``). If no catalogue is given, it is searched beside the log. Without
    ``catalogue_options``, it is read with `ReadOptions.for_catalogue`.

    Raises
    ------
    InputError
        If there is no log or more than one, or a column cannot be determined.
    """
    mapping, options = mapping or ColumnMapping(), options or ReadOptions()
    found = find_logs(Path(path), log_by_columns(mapping, options))
    if catalogue is not None and not Path(catalogue).is_file():
        raise InputError(f"catalogue {catalogue} does not exist", "give the path of a file")
    items = find_catalogue(found.logs[0].path) if catalogue is None else Path(catalogue)
    return source_of(found.logs, mapping, items, options, catalogue_options)


def log_by_columns(mapping: ColumnMapping, options: ReadOptions) -> Resolve:
    """Return a function that recognises a log: a table with a user and an item column."""

    def resolve(path: Path, keys: Mapping[str, str]) -> Mapping[str, str] | None:
        try:
            present = [*column_names(path, options), *keys]
            return (
                mapping.with_lists(present, options.explode)
                .log_columns(path, present, ignore=options.ignore)
                .canonical
            )
        except InputError:
            return None

    return resolve


def source_of(
    files: Sequence[FoundLog],
    mapping: ColumnMapping,
    catalogue: Path | None,
    options: ReadOptions,
    catalogue_options: ReadOptions | None,
    *,
    kinds: bool = False,
    context: Mapping[str, Column] = MappingProxyType({}),
) -> Source:
    """The source made of given files; see `read_source`. No catalogue is searched for.

    ``kinds`` requires and reads the event column. ``context`` holds the declared log columns;
    those derived from the time need not be in the file.

    Raises
    ------
    InputError
        If a column cannot be determined.
    """
    catalogue_options = catalogue_options or options.for_catalogue()
    if catalogue is None:
        _check_catalogue_is_there(mapping, files[0].path, catalogue_options)
    present = [] if catalogue is None else column_names(catalogue, catalogue_options)
    found = [_log_columns(file, mapping, options, present, kinds, context) for file in files]
    logs = tuple(
        LogFile(file.path, of_file, file.part, options, file.keys, url=file.url)
        for file, of_file in zip(files, found, strict=True)
    )
    _check_columns(logs)
    every = frozenset(name for log in logs for name in log.columns)
    logs = tuple(replace(log, lacks=every - set(log.columns)) for log in logs)
    items = None
    if catalogue is not None:
        item = logs[0].columns[columns.ITEM_ID]
        items = _catalogue(catalogue, mapping, catalogue_options, present, item)
    declared = frozenset(map(columns.of_context, context))
    return Source(_kind(logs[0]), logs, items, declared)


def _log_columns(
    file: FoundLog,
    mapping: ColumnMapping,
    options: ReadOptions,
    catalogue: Sequence[str],
    kinds: bool,
    context: Mapping[str, Column],
) -> Columns:
    path, keys = file.path, [*file.keys]

    def columns_of(present: Sequence[str]) -> Columns:
        found = mapping.log_columns(
            path,
            present,
            ignore=options.ignore,
            events=options.events is not None or kinds,
            needs_order=file.part is None,
            catalogue=catalogue,
        )
        for name, column in context.items():
            if name not in found.keys:
                if column.is_of_time:
                    continue
                raise unknown_column(name, path, present)
            found.canonical[columns.of_context(name)] = name
        return found

    present = column_names(path, options)
    keys = [key for key in keys if key not in present]
    try:
        return columns_of([*present, *keys])
    except InputError:
        more = _later_keys(path, options, present)
        if more is not None:
            return columns_of([*more, *keys])
        if file_format(path, options) == "json":
            lists = lists_of_objects(path, options)
        else:
            lists = columns_of_lists(path, present, present, options)
        if not lists:
            raise
        raise InputError(
            f"the items of {path} are in lists at {lists[0]!r}",
            f"pass ReadOptions(explode=({lists[0]!r},)): each becomes a row",
            cli_fix=f"pass --explode {lists[0]}: each becomes a row",
        ) from None


def columns_of_lists(
    path: Path, names: Sequence[str], present: Sequence[str], options: ReadOptions
) -> list[str]:
    """The columns among ``names`` whose cells look like lists of ids."""
    if options.explode:
        return []
    values = sampled_values(path, names, present, options)
    return [name for name, texts in values.items() if looks_like_lists(texts)]


def _catalogue(
    path: Path, mapping: ColumnMapping, options: ReadOptions, present: Sequence[str], item: str
) -> CatalogueFile:
    def columns_of(present: Sequence[str]) -> Columns:
        return mapping.catalogue_columns(path, present, ignore=options.ignore, log_item=item)

    try:
        found = columns_of(present)
    except InputError:
        more = _later_keys(path, options, present)
        if more is None:
            raise
        found = columns_of(more)
    amazon = is_amazon(path, found, options)
    return CatalogueFile(path, amazon_columns(found) if amazon else found, options, amazon)


def _later_keys(path: Path, options: ReadOptions, present: Sequence[str]) -> list[str] | None:
    """All keys of a JSON file if there are more than ``present``, else None."""
    if file_format(path, options) != "json":
        return None
    found = column_names(path, options, all_keys=True)
    return found if len(found) > len(present) else None


def _check_catalogue_is_there(mapping: ColumnMapping, log: Path, options: ReadOptions) -> None:
    named = mapping.names_catalogue
    if not named:
        return
    beside = []
    for file in tables_beside(log):
        try:
            if set(named.values()) <= set(column_names(file, options)):
                beside.append(file)
        except InputError:
            continue
    listed = ", ".join(f"{field}={name}" for field, name in named.items())
    which = " or ".join(map(str, beside[:3])) or "FILE"
    raise InputError(
        f"columns of a catalogue were named ({listed}), and none is beside {log}",
        f"give it: catalogue={which}",
        cli_fix=f"pass --catalogue {which}",
    )


def _check_columns(logs: tuple[LogFile, ...]) -> None:
    first = logs[0]
    for log in logs[1:]:
        if not set(log.columns) ^ set(first.columns) <= _OPTIONAL.keys():
            raise InputError(
                f"{log.path} has {sorted(log.columns)}, {first.path} has {sorted(first.columns)}",
                "give every part the same columns",
            )


def _kind(log: LogFile) -> str:
    suffix = table_suffix(log.path)
    if suffix == ".inter":
        return "recbole"
    if log.columns[columns.ITEM_ID] == "parent_asin" and suffix in (".jsonl", ".csv"):
        return "amazon-2023-raw" if suffix == ".jsonl" else "amazon-2023-benchmark"
    return "table"
