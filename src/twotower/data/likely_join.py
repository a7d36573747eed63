"""Join detection: two tables of a folder that together have the columns of a log."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from twotower.data import columns
from twotower.data.columns import folded
from twotower.data.readers.files import stem_of
from twotower.data.readers.mapping import (
    LOG_NAMES,
    ColumnMapping,
    Columns,
    first_usual,
    folded_names,
)
from twotower.data.readers.options import ReadOptions
from twotower.data.readers.tables import column_names, read_table, table_suffix
from twotower.errors import InputError

_MOST: Final = 50
"""Maximum number of tables examined."""
_NO_KEYS: Final = frozenset(folded(name) for names in LOG_NAMES.values() for name in names) | {"id"}
"""Log columns and row ids, which are not join keys."""


class LikelyJoin(NamedTuple):
    """A log and the table to join it with."""

    log: Path
    other: Path
    key: str
    """Key column, as for `ReadOptions.join`."""

    @property
    def option(self) -> str:
        """The join as a ``--join`` value."""
        return f"{self.other.name}={self.key}"

    @property
    def error(self) -> InputError:
        """The error that explains why the log cannot be read, and the join as the fix."""
        log, other, key = self
        return InputError(
            f"{log.parent} has no table with a user column and an item column; {log.name} and "
            f"{other.name} have them between them, and share {key.partition(':')[0]!r}",
            f"name the log and the join: prepare({str(log)!r}, "
            f"options=ReadOptions(join={{{other.name!r}: {key!r}}}))",
            cli_fix=f"name the log and the join: "
            f"{shlex.join(['twotower', 'prepare', str(log), '--join', self.option])}",
        )


class _Table(NamedTuple):
    file: Path
    names: list[str]
    has: frozenset[str]
    """Which of user, item and time it has."""


def likely_join(
    folder: Path, mapping: ColumnMapping, options: ReadOptions, log: Path | None = None
) -> LikelyJoin | None:
    """The only possible join of two tables of a folder, one with users and one with items.

    A key is a column of both tables that is unique in the first rows of one of them, or
    ``order_id`` in one and ``id`` in ``orders.csv``. Among several joins, the only one with a time
    is chosen; None if that is not unique. ``log`` says which table is the log; by default the one
    with the items is preferred.
    """
    files = sorted(file for file in folder.iterdir() if table_suffix(file) and file.is_file())
    found = [table for file in files[:_MOST] if (table := _table(file, mapping, options))]
    pairs = [
        (first, other)
        for first in found
        for other in found
        if (first.has | other.has) >= {columns.USER_ID, columns.ITEM_ID}
        and columns.ITEM_ID not in other.has
        and columns.USER_ID not in first.has
    ]
    joins = []
    for with_item, with_user in pairs:
        for one, other in ((with_item, with_user), (with_user, with_item)):
            if log is not None and one.file != log:
                continue
            keys = [key for key in _keys(one, other) if _is_unique(other, key, options)]
            if len(keys) == 1:
                joins.append((LikelyJoin(one.file, other.file, keys[0]), one.has | other.has))
                break
    timed = [join for join, has in joins if columns.TIMESTAMP in has]
    chosen = timed or [join for join, _ in joins]
    return chosen[0] if len(chosen) == 1 else None


def _table(file: Path, mapping: ColumnMapping, options: ReadOptions) -> _Table | None:
    try:
        names = column_names(file, options)
    except InputError:
        return None
    by_folded = folded_names(name for name in names if name not in options.ignore)
    said = {
        columns.USER_ID: mapping.user, columns.ITEM_ID: mapping.item,
        columns.TIMESTAMP: mapping.time,
    }  # fmt: skip
    has = {
        column
        for column, name in said.items()
        if (name in names if isinstance(name, str) else first_usual(LOG_NAMES[column], by_folded))
    }
    return _Table(file, names, frozenset(has))


def _keys(log: _Table, other: _Table) -> Iterator[str]:
    for name in log.names:
        if folded(name) in _NO_KEYS:
            continue
        if name in other.names:
            yield name
        elif folded(name).endswith("id") and "id" in other.names:
            subject = folded(name).removesuffix("id")
            if subject and folded(stem_of(other.file)) in (subject, f"{subject}s"):
                yield f"{name}:id"


def _is_unique(table: _Table, key: str, options: ReadOptions) -> bool:
    """Whether a key is unique in the first rows of a table."""
    name = key.rpartition(":")[2]
    try:
        found = Columns({"key": name}, table.names)
        chunk = next(iter(read_table(table.file, found, options)), None)
    except InputError:
        return False
    return chunk is not None and chunk.height > 1 and chunk.rows["key"].is_unique().all()
