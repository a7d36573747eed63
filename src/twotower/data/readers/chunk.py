"""`Chunk`: consecutive rows of a source file, with the rejected ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from twotower.data import columns

CHUNK_ROWS: Final = 50_000
"""Rows read at a time: enough for vectorised checks, few enough to fit in memory easily."""

EXCERPT: Final = 200
"""Maximum number of characters kept of a rejected row."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A rejected row."""

    line: int
    """1-based line in the source file; row number for Parquet, object number for JSON whose
    objects are not one per line."""
    reason: str
    """``column: what``, or the problem of the whole line; rejects are counted by it."""
    value: str
    """The offending value."""
    row: str
    """The beginning of the row as written in the file."""


@dataclass(frozen=True, slots=True)
class Check:
    """A row check: rows for which ``failing`` is true are rejected."""

    column: str
    what: str
    """The column and its problem; together they form `Reject.reason`."""
    failing: pl.Expr
    """True for the rows to reject."""
    shown: str | None = None
    """The column whose value is reported, if not ``column``."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of a source file."""

    rows: pl.DataFrame
    """Canonical columns of `twotower.data.columns`, and `LINE` (int64, ascending)."""
    rejects: Sequence[Reject]
    """Rows of this chunk rejected so far."""
    row_text: Callable[[int], str]
    """Returns the text of a row, given its line."""
    fraction: float
    """Fraction of the file read by the end of the chunk, 0 to 1."""

    @property
    def height(self) -> int:
        """Number of rows in the chunk, accepted and rejected."""
        return self.rows.height + len(self.rejects)


def set_aside(chunk: Chunk, checks: Sequence[Check]) -> Chunk:
    """Reject rows that fail a check; the reason is the first check that fails."""
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
