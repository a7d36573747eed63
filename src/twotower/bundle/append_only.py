"""Tables that grow at the end while others read them."""

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


@dataclass(frozen=True, slots=True)
class GrowingRows:
    """Rows behind which more can be written, at an amortised cost of the new rows alone.

    A value: `with_rows` gives another one, which shares the memory. Only the newest value may
    grow: a second one grown from the same would overwrite the first one's new rows.

    Attributes
    ----------
    buffer
        ``(capacity, …)``.
    used
        Rows of it that belong to this value.
    """

    buffer: Array
    used: int

    @classmethod
    def of(cls, rows: Array, room: bool = False) -> Self:
        """A table of these rows.

        They are copied when it grows first, or now where there shall be ``room`` behind them;
        not if they are `roomy`, and then this table alone may grow there.
        """
        if not room:
            return cls(rows, len(rows))
        behind, wanted = rows.base, (_capacity(rows.shape), rows.dtype)
        if isinstance(behind, np.ndarray) and (behind.shape, behind.dtype) == wanted:
            return cls(behind, len(rows))
        return cls(rows, len(rows))._with_room(len(rows))

    @property
    def rows(self) -> Array:
        """``(used, …)``, a view."""
        return self.buffer[: self.used]

    def with_rows(self, more: Array, rows: Array | None = None) -> Self:
        """The same rows and ``more`` behind them.

        Parameters
        ----------
        rows
            ``(n,)`` where to write them instead: rows that no value in use reads any more, or such
            as are next behind the others.
        """
        if rows is None:
            rows = np.arange(self.used, self.used + len(more))
        used = max(self.used, int(rows.max(initial=-1)) + 1)
        table = self if used <= len(self.buffer) else self._with_room(used)
        table.buffer[rows] = more
        return type(self)(table.buffer, used)

    def _with_room(self, used: int) -> Self:
        """The same rows where there is room for ``used``, and for half of them behind."""
        buffer = np.empty(_capacity((used, *self.buffer.shape[1:])), self.buffer.dtype)
        buffer[: self.used] = self.rows
        return type(self)(buffer, self.used)


def _capacity(shape: Sequence[int]) -> tuple[int, ...]:
    rows, *width = shape
    return (rows + rows // 2 + 64, *width)
