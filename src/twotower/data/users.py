"""Table of users: descriptive columns, one row per user of the data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from twotower.data import columns
from twotower.data.readers.mapping import LOG_NAMES, Columns, folded
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.tables import column_names, read_table
from twotower.data.readers.values import IdReader
from twotower.errors import InputError


def users_column(file: Path, options: ReadOptions | None, log_column: str) -> str:
    """The id column of a table of users: named as in the log, by a usual name, or ``id``.

    Raises
    ------
    InputError
        Where no column has such a name.
    """
    present = column_names(file, options or ReadOptions())
    usual = [log_column, *LOG_NAMES[columns.USER_ID], "id", "#id"]
    by_folded = {folded(name): name for name in reversed(present)}
    key = next((by_folded[folded(name)] for name in usual if folded(name) in by_folded), None)
    if key is None:
        raise InputError(
            f"cannot determine the id column of {file}, "
            f"it has {', '.join(map(repr, present[:20]))}",
            f"name it as in the log ({log_column})",
        )
    return key


def read_users(
    file: Path, options: ReadOptions | None, column: str, ids: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The rows of the users of a data set, in their order, and a summary of the file.

    Parameters
    ----------
    file
        A table with an id column.
    options
        How it is read.
    column
        Its id column: `users_column`.
    ids
        Ids of the users.

    Returns
    -------
    table
        ``user_id`` and the other columns; null for a user that the file lacks. Of users who have
        several rows the first is kept.
    summary
        File, rows read, repeated and without an id, users of the log that are in it, columns.
    """
    options = options or ReadOptions()
    present = column_names(file, options)
    key = column
    others = [name for name in present if name != key and name != columns.USER_ID]
    # Under names of their own: a column of ids or numbers is typed by its canonical name.
    found = Columns({columns.USER_ID: key, **{f"of {name}": name for name in others}}, present)

    def tables() -> Any:
        return read_table(file, found, options)

    reader = IdReader(
        lambda: (chunk.rows[columns.USER_ID] for chunk in tables()), options.missing_ids
    )
    chunks = [
        chunk.rows.with_columns(reader.text(chunk.rows[columns.USER_ID]).alias(columns.USER_ID))
        for chunk in tables()
    ]
    rows = pl.concat(chunks, how="vertical_relaxed") if chunks else pl.DataFrame()
    named = rows.select(columns.USER_ID, *(pl.col(f"of {name}").alias(name) for name in others))
    usable = named.filter(pl.col(columns.USER_ID).is_not_null() & (pl.col(columns.USER_ID) != ""))
    once = usable.unique(columns.USER_ID, keep="first", maintain_order=True)
    table = pl.DataFrame({columns.USER_ID: ids}, schema={columns.USER_ID: pl.String}).join(
        once, columns.USER_ID, how="left", maintain_order="left"
    )
    known = int(pl.Series(ids, dtype=pl.String).is_in(once[columns.USER_ID].to_list()).sum())
    return table, {
        "file": file.name,
        "read": rows.height,
        "without_id": rows.height - usable.height,
        "repeated": usable.height - once.height,
        "of_the_log": known,
        "missing": len(ids) - known,
        "columns": others,
    }
