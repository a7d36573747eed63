"""Users table: descriptive columns, one row per user of the data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from twotower.data import columns
from twotower.data.attributes import Place, described_rows
from twotower.data.readers.mapping import LOG_NAMES, first_usual, folded_names
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.tables import column_names
from twotower.data.rejects import RejectLog
from twotower.errors import InputError


def users_column(file: Path, options: ReadOptions | None, log_column: str) -> str:
    """The id column of a users table: named as in the log, by a common name, or ``id``.

    Raises
    ------
    InputError
        If no column has such a name.
    """
    present = column_names(file, options or ReadOptions())
    usual = [log_column, *LOG_NAMES[columns.USER_ID], "id", "#id"]
    key = first_usual(usual, folded_names(present))
    if key is None:
        raise InputError(
            f"cannot determine the id column of {file}, "
            f"it has {', '.join(map(repr, present[:20]))}",
            f"name it as in the log ({log_column})",
        )
    return key


def read_users(
    file: Path, options: ReadOptions | None, column: str, ids: Sequence[str], rejects: RejectLog
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The rows of a data set's users, in ``ids`` order, and a summary of the file.

    The table has ``user_id`` and all columns of ``file`` except its id ``column``; null for users
    that it lacks. If a user has several rows, the first is kept; unreadable rows are added to
    ``rejects``.
    """
    options = options or ReadOptions()
    taken = (column, columns.USER_ID)
    others = [name for name in column_names(file, options) if name not in taken]
    found = described_rows(Place(file, options), column, ids, others, rejects)
    users = pl.Series(columns.USER_ID, ids, dtype=pl.String)
    rejected = rejects.counts([file])
    return pl.DataFrame([users, *found.rows]), {
        "file": file.name,
        "read": found.read + sum(rejected.values()),
        "rejected": rejected,
        "examples": rejects.examples([file]),
        "without_id": found.without_id,
        "repeated": found.repeated,
        "of_the_log": found.known,
        "missing": len(ids) - found.known,
        "columns": others,
    }
