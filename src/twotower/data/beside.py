"""Catalogue and users table detection by id overlap with a log."""

import math
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import polars as pl

from twotower.data import columns
from twotower.data.columns import folded
from twotower.data.declaration import Declaration
from twotower.data.readers.files import stem_of, tables_beside
from twotower.data.readers.joins import key_text
from twotower.data.readers.mapping import Columns
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.tables import column_names, read_table, sampled_values
from twotower.data.users import users_column
from twotower.errors import InputError

LISTED: Final = 0.9
"""Minimum share of sampled log ids that a table must contain."""
REPEATED: Final = 0.01
"""Maximum share of a table's rows with repeated ids."""
MOST_LOGS: Final = 8
"""Maximum number of log files sampled, spread over all."""
MOST_TABLES: Final = 50
"""Maximum number of tables examined."""


def catalogue_by_ids(logs: Sequence[Path], declaration: Declaration) -> Path | None:
    """The table beside a log that lists its items, one row each; None if there is none.

    It must contain nearly all of a sample of the log's item ids. Its id column has the name of the
    log's, or a common name if the file is named after the item: ``id`` of ``RAW_recipes.csv`` for
    ``recipe_id``. Among several tables, those with titles and then with most other catalogue
    columns are preferred.
    """
    item, ids = _sampled_ids(logs, declaration, columns.ITEM_ID)
    options, found = declaration.catalogue_options, list[tuple[tuple[bool, int], Path]]()
    for file in _others(logs) if ids else ():
        try:
            names = column_names(file, options)
            read = declaration.columns.catalogue_columns(file, names, log_item=item).canonical
            key = read[columns.ITEM_ID]
            is_of_items = folded(key) == folded(item) or _named_after(file, item)
            if is_of_items and _lists(file, key, names, options, ids):
                found.append(((columns.TITLE in read, len(read)), file))
        except InputError:
            continue  # a table that cannot be read is no catalogue
    return max(found, key=lambda entry: entry[0])[1] if found else None


def users_by_ids(logs: Sequence[Path], declaration: Declaration) -> Path | None:
    """The table beside a log that lists its users in a column named as in the log, or None."""
    user, ids = _sampled_ids(logs, declaration, columns.USER_ID)
    options = declaration.read_users or ReadOptions()
    for file in _others(logs) if ids else ():
        try:
            names = column_names(file, options)
            key = users_column(file, options, user)
            if folded(key) == folded(user) and _lists(file, key, names, options, ids):
                return file
        except InputError:
            continue
    return None


def _sampled_ids(logs: Sequence[Path], declaration: Declaration, name: str) -> tuple[str, set[str]]:
    """A log's user or item column and a sample of its ids; both empty if there is no column."""
    ids: set[str] = set()
    try:
        present = column_names(logs[0], declaration.read)
        column = declaration.columns.log_columns(logs[0], present).canonical[name]
        for log in logs[:: math.ceil(len(logs) / MOST_LOGS)]:
            present = column_names(log, declaration.read)
            ids.update(sampled_values(log, [column], present, declaration.read).get(column, ()))
    except InputError:
        return "", set()  # reading the log reports what it lacks
    return column, set(key_text(pl.Series([*ids], dtype=pl.String), declaration.read).drop_nulls())


def _others(logs: Sequence[Path]) -> list[Path]:
    """Tables beside a log that are not part of it."""
    others = (file for file in tables_beside(logs[0]) if file not in logs)
    return list(islice(others, MOST_TABLES))


def _named_after(file: Path, item: str) -> bool:
    """Whether a file is named after the log's item column: ``recipe`` for ``recipe_id``."""
    what = folded(item).removesuffix("id")
    return len(what) > 2 and what != "item" and what in folded(stem_of(file))


def _lists(
    file: Path, key: str, names: Sequence[str], options: ReadOptions, ids: Collection[str]
) -> bool:
    """Whether a table has about one row per id, and contains nearly all of ``ids``."""
    if len(names) == 1:
        return False  # it says nothing of them
    wanted, most = set(ids), (1 - LISTED) * len(ids)
    rows, had = 0, set[str]()
    # Under a private name to avoid type conversion.
    for chunk in read_table(file, Columns({"key": key}, names), options):
        keys = key_text(chunk.rows["key"], options).drop_nulls().to_list()
        rows += len(keys)
        had.update(keys)
        wanted.difference_update(keys)
        if len(had) < (1 - REPEATED) * rows:
            return False
        if len(wanted) <= most:
            return True
    return False
