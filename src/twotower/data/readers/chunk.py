"""`Chunk`: rows of a source file as a reader delivers them, and the rejected lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from twotower.data import columns

CHUNK_ROWS: Final = 50_000
"""Rows read at a time: large enough for vectorised checks, small enough to forget."""

EXCERPT: Final = 200
"""Characters of a rejected row that are kept."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A rejected row."""

    line: int
    """Line of the source file, from 1; number of the row for Parquet, of the object for JSON
    where objects and lines differ."""
    reason: str
    """``column: what``, or the fault of the whole line; the key of the counts."""
    value: str
    """The value at fault."""
    row: str
    """The beginning of the row as the file has it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of rows: where ``failing`` is true, the row is rejected."""

    column: str
    what: str
    """The column at fault, and its fault: together they are the reason."""
    failing: pl.Expr
    """True where a row has it."""
    shown: str | None = None
    """The column whose value is reported, where it is not ``column``."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows of a source file."""

    rows: pl.DataFrame
    """Canonical columns of `twotower.data.columns`, and `LINE` (int64, ascending)."""
    rejects: Sequence[Reject]
    """Rows rejected so far."""
    row_text: Callable[[int], str]
    """Gives the text of a row, by its line."""
    fraction: float
    """How much of the file has been read by the end of the chunk, 0 to 1."""

    @property
    def height(self) -> int:
        """Rows that the chunk had in the file, good and bad."""
        return self.rows.height + len(self.rejects)


def set_aside(chunk: Chunk, checks: Sequence[Check]) -> Chunk:
    """Reject the rows that fail a check, each with the first check that it fails."""
    if not checks or chunk.rows.is_empty():
        return chunk
    first = pl.coalesce(
        pl.when(check.failing).then(pl.lit(number, pl.Int32)) for number, check in enumerate(checks)
    )
    failed = chunk.rows.select(first.alias("check"))["check"]
    if failed.null_count() == len(failed):
        return chunk
    bad = chunk.rows.filter(failed.is_not_null())
    rejects = list(chunk.rejects)
    for number, row in zip(failed.drop_nulls(), bad.iter_rows(named=True), strict=True):
        check, line = checks[number], row[columns.LINE]
        reason = f"{check.column}: {check.what}"
        text = chunk.row_text(line)[:EXCERPT]
        rejects.append(Reject(line, reason, _shown(row[check.shown or check.column]), text))
    return replace(chunk, rows=chunk.rows.filter(failed.is_null()), rejects=rejects)


def _shown(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)[:EXCERPT]
