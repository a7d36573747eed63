"""`read_source`: what a user points at, recognised as a log and perhaps a catalogue."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twotower.data import columns
from twotower.data.dataset import Part
from twotower.data.readers.chunk import Chunk
from twotower.data.readers.files import find_catalogue, find_logs
from twotower.data.readers.mapping import ColumnMapping
from twotower.data.readers.tables import (
    column_names,
    read_catalogue_table,
    read_table,
    table_suffix,
)
from twotower.data.readers.values import typed
from twotower.errors import InputError


@dataclass(frozen=True)
class LogFile:
    """One file of interactions.

    Attributes
    ----------
    path
        The file.
    columns
        Its column for each canonical column that it has.
    part
        Which part of the split it is, where files give the split.
    """

    path: Path
    columns: Mapping[str, str]
    part: Part | None = None

    def chunks(self) -> Iterator[Chunk]:
        """Canonical columns, ids as text and numbers as float64 (`readers.values.typed`)."""
        return (typed(chunk) for chunk in read_table(self.path, self.columns))


@dataclass(frozen=True)
class CatalogueFile:
    """The file of items."""

    path: Path
    columns: Mapping[str, str]

    def chunks(self) -> Iterator[Chunk]:
        """Canonical columns, as the file types them."""
        return read_catalogue_table(self.path, self.columns)


@dataclass(frozen=True)
class Source:
    """A log, in one file or in one a part, and perhaps a catalogue.

    Attributes
    ----------
    kind
        ``amazon-2023-raw``, ``amazon-2023-benchmark``, ``recbole`` or ``table``.
    logs
        Files of one log, with the same canonical columns; train first.
    catalogue
        The items, or None where the log is all there is.
    """

    kind: str
    logs: tuple[LogFile, ...]
    catalogue: CatalogueFile | None

    @property
    def columns(self) -> frozenset[str]:
        """Canonical columns of the log."""
        return frozenset(self.logs[0].columns)

    @property
    def has_parts(self) -> bool:
        """Whether the files give the split."""
        return self.logs[0].part is not None


def read_source(
    path: Path, mapping: ColumnMapping | None = None, catalogue: Path | None = None
) -> Source:
    """Recognise a folder or file. Nothing but column names is read yet.

    Parameters
    ----------
    path
        A folder with one log (``reviews.jsonl``, ``interactions.parquet``, ``x.inter``, or
        one file a part: ``x.train.csv``, ``x.test.csv``), a log file, or the common beginning
        of such names (``last_out/Video_Games``).
    mapping
        Names of the columns, where they are not the usual ones.
    catalogue
        The catalogue file, where it is not beside the log.

    Raises
    ------
    InputError
        Where no log is found, or more than one, or a column cannot be told.
    """
    mapping = mapping or ColumnMapping()
    logs = tuple(
        LogFile(log, mapping.log_columns(log, column_names(log)), part)
        for log, part in find_logs(Path(path))
    )
    _check_columns(logs)
    if catalogue is not None and not Path(catalogue).is_file():
        raise InputError(f"catalogue {catalogue} does not exist", "give the path of a file")
    items = find_catalogue(logs[0].path) if catalogue is None else Path(catalogue)
    found = None
    if items is not None:
        found = CatalogueFile(items, mapping.catalogue_columns(items, column_names(items)))
    return Source(_kind(logs[0]), logs, found)


def _check_columns(logs: tuple[LogFile, ...]) -> None:
    first = logs[0]
    for log in logs[1:]:
        if set(log.columns) != set(first.columns):
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
