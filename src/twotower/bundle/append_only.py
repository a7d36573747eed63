"""Append-only tables: rows are added at the end while others read the rows before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from twotower.types import Array


def roomy(shape: Sequence[int], dtype: DTypeLike) -> Array:
    """An array that is not filled yet, with room behind it for rows that may come.

    The room is of half the rows; until it is used it is no memory of the machine.
    """
    return np.empty(_capacity(shape), dtype)[: shape[0]]


class _Buffer:
    """Memory that several values of `GrowingRows` share, of which the newest may write."""

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.writes = 0

    @classmethod
    def copied(cls, rows: Array, used: int) -> Self:
        """The same rows where there is room for ``used``, and for half of them behind."""
        buffer = np.empty(_capacity((used, *rows.shape[1:])), rows.dtype)
        buffer[: len(rows)] = rows
        return cls(buffer)


@dataclass(frozen=True, slots=True)
class GrowingRows:
    """Rows behind which more can be written, at an amortised cost of the new rows alone.

    A value: `with_rows` gives another one, which shares the memory if this is the newest of those
    that share it, and else works on a copy of its own. So any value may grow, as often as wanted,
    and none sees the rows of another; only to grow one in two threads at a time is not allowed.
    """

    memory: _Buffer
    """What it shares with the values that it was grown from."""
    used: int
    """Rows of that which belong to this value."""
    writes: int = 0
    """How often that had been written to when this value was the newest."""

    @classmethod
    def of(cls, rows: Array, room: bool = False) -> Self:
        """A table of these rows.

        They are copied when it grows first, or now where there shall be ``room`` behind them. If
        they are `roomy` and no other table has taken their room, the table grows into that.
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
        """``(capacity, …)``, the rows and the room behind them."""
        return self.memory.rows

    @property
    def rows(self) -> Array:
        """``(used, …)``, a view."""
        return self.memory.rows[: self.used]

    def with_rows(self, more: Array, rows: Array | None = None) -> Self:
        """The same rows and ``more`` behind them.

        Or ``more`` at ``(n,)`` rows: such as are next behind the others, or rows that older values
        which share the memory may see change.
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
