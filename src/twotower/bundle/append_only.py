"""Append-only tables: rows are appended while other threads read the earlier ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from twotower.types import Array


def roomy(shape: Sequence[int], dtype: DTypeLike) -> Array:
    """An uninitialised array of this shape, with spare capacity behind it for appended rows.

    The spare capacity is about half the rows; it takes no physical memory until it is written.
    """
    return np.empty(_capacity(shape), dtype)[: shape[0]]


class _Buffer:
    """Memory shared by several values of `GrowingRows`; only the newest may append in place."""

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.writes = 0

    @classmethod
    def copied(cls, rows: Array, used: int) -> Self:
        """A copy of the rows, with capacity for ``used`` rows and about half as many more."""
        buffer = np.empty(_capacity((used, *rows.shape[1:])), rows.dtype)
        buffer[: len(rows)] = rows
        return cls(buffer)


@dataclass(frozen=True, slots=True)
class GrowingRows:
    """An immutable table that grows by appending, at an amortised cost of the new rows alone.

    `with_rows` returns a new table. It shares this table's memory if this is the newest table on
    it, and otherwise works on its own copy. So any table can be grown any number of times without
    seeing another's rows. Growing one table from two threads at once is not allowed.
    """

    memory: _Buffer
    """Buffer shared with the tables that this one was grown from."""
    used: int
    """Rows of the buffer that belong to this table."""
    writes: int = 0
    """The buffer's write count when this table was the newest."""

    @classmethod
    def of(cls, rows: Array, room: bool = False) -> Self:
        """A table of these rows.

        The rows are copied when the table first grows, or now if ``room`` (spare capacity) is
        requested. `roomy` rows whose spare capacity no other table has claimed are not copied.
        """
        if not room:
            return cls(_Buffer(rows), len(rows))
        behind, wanted = rows.base, (_capacity(rows.shape), rows.dtype)
        roomy_rows = behind is not None and (behind.shape, behind.dtype) == wanted
        if behind is not None and roomy_rows and behind.flags.writeable:
            taken = behind[:]
            behind.flags.writeable = False  # marks that its room is taken; `taken` may still write
            return cls(_Buffer(taken), len(rows))
        return cls(_Buffer.copied(rows, len(rows)), len(rows))

    @property
    def buffer(self) -> Array:
        """``(capacity, …)``, the rows and the spare capacity behind them."""
        return self.memory.rows

    @property
    def rows(self) -> Array:
        """``(used, …)``, a view."""
        return self.memory.rows[: self.used]

    def with_rows(self, more: Array, rows: Array | None = None) -> Self:
        """The same rows followed by ``more``, or with ``more`` written at the ``(n,)`` ``rows``.

        ``rows`` may be the next free ones, or existing ones: older tables on the same memory may
        see those change.
        """
        if rows is None:
            rows = np.arange(self.used, self.used + len(more))
        used = max(self.used, int(rows.max(initial=-1)) + 1)
        memory = self.memory
        if self.writes != memory.writes or used > len(memory.rows):
            memory = _Buffer.copied(self.rows, used)
        memory.rows[rows] = more
        memory.writes += 1
        return type(self)(memory, used, memory.writes)


def _capacity(shape: Sequence[int]) -> tuple[int, ...]:
    rows, *width = shape
    return (rows + rows // 2 + 64, *width)
