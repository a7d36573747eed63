"""The log, read chunk by chunk into arrays of integer codes: no text is held but ids."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

import numpy as np

from twotower.data import columns
from twotower.data.readers import Source
from twotower.data.rejects import RejectLog
from twotower.data.validation import Rules, validate_log
from twotower.data.vocabulary import Vocabulary
from twotower.errors import InputError
from twotower.types import Array, BoolArray, DoubleArray, FloatArray, IndexArray, OffsetArray

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes of the log read so far, and of all of it."""


@dataclass(frozen=True)
class EventLog:
    """Interactions as arrays, in the order of the files.

    Attributes
    ----------
    users, items
        ``(events,)`` int32 codes.
    ratings
        ``(events,)`` float32, or None.
    timestamps
        ``(events,)`` int64 milliseconds, or None.
    order
        ``(events,)`` float64 position among the user's interactions, or None.
    parts
        ``(events,)`` uint8 `Part` that the files give, or None.
    """

    users: IndexArray
    items: IndexArray
    ratings: FloatArray | None
    timestamps: OffsetArray | None
    order: DoubleArray | None
    parts: Array | None

    def __len__(self) -> int:
        return len(self.users)

    def replace(self, **arrays: Array) -> "EventLog":
        """The same log with other arrays in the place of some."""
        return replace(self, **arrays)

    def select(self, which: BoolArray | OffsetArray) -> "EventLog":
        """The interactions that a mask or places choose."""
        chosen: dict[str, Array] = {}
        for field in fields(self):
            array = getattr(self, field.name)
            if array is not None:
                chosen[field.name] = array[which]
        return self.replace(**chosen)

    def by_user_and_time(self) -> "EventLog":
        """Sorted by user, then time or order; equal times stay in the order of the files."""
        when = self.timestamps if self.timestamps is not None else self.order
        keys = (self.users,) if when is None else (when, self.users)
        return self.select(np.lexsort(keys))

    def by_user(self) -> "EventLog":
        """Sorted by user; a user's interactions stay in the order of the files."""
        return self.select(np.argsort(self.users, kind="stable"))

    def first_of_pairs(self) -> BoolArray:
        """``(events,)`` true where the user has not had the item before in this order."""
        pairs = self.users.astype(np.int64) * (int(self.items.max(initial=0)) + 1) + self.items
        first = np.zeros(len(pairs), dtype=bool)
        first[np.unique(pairs, return_index=True)[1]] = True
        return first


def read_log(
    source: Source,
    rules: Rules,
    rejects: RejectLog,
    catalogue: Vocabulary | None,
    progress: Progress | None = None,
) -> tuple[EventLog, Vocabulary, Vocabulary, int]:
    """Read and validate every file of a log.

    Returns
    -------
    log
        What can be used.
    users, items
        The ids of the codes; ``items`` is ``catalogue`` where there is one.
    read
        Rows of the files, good and bad.

    Raises
    ------
    InputError
        Where nothing can be used.
    """
    users = Vocabulary()
    items = Vocabulary() if catalogue is None else catalogue
    sizes = [file.path.stat().st_size for file in source.logs]
    arrays: dict[str, list[Array]] = {name: [] for name in (*source.columns, "part")}
    read = done = 0
    for file, size in zip(source.logs, sizes, strict=True):
        for chunk in file.chunks():
            read += chunk.height
            checked = validate_log(chunk, rules, catalogue)
            rejects.add(file.path, checked.rejects)
            rows = checked.rows
            for name in source.columns - {columns.USER_ID, columns.ITEM_ID}:
                dtype = np.float32 if name == columns.RATING else None
                arrays[name].append(rows[name].to_numpy().astype(dtype, copy=True))
            arrays[columns.USER_ID].append(users.add(rows[columns.USER_ID]))
            arrays[columns.ITEM_ID].append(items.add(rows[columns.ITEM_ID]))
            arrays["part"].append(np.full(rows.height, file.part or 0, dtype=np.uint8))
            if progress is not None:
                progress(done + int(size * chunk.fraction), sum(sizes))
        done += size
    if not len(users):
        raise InputError(*_nothing(source, rejects, read))
    joined = {name: np.concatenate(arrays.pop(name)) for name in list(arrays)}
    log = EventLog(
        joined[columns.USER_ID],
        joined[columns.ITEM_ID],
        joined.get(columns.RATING),
        joined.get(columns.TIMESTAMP),
        joined.get(columns.ORDER),
        joined["part"] if source.has_parts else None,
    )
    return log, users, items, read


def _nothing(source: Source, rejects: RejectLog, read: int) -> tuple[str, str]:
    paths = [file.path for file in source.logs]
    named = ", ".join(map(str, paths))
    counts = rejects.counts(paths)
    if not counts:
        return f"{named} has no interactions", "give a log with rows"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return (
        f"{named} has no usable interaction: {read:,} read, all rejected ({reasons})",
        f"the first is {rejects.first}",
    )
