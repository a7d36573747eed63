"""Tables that grow at the end while others read them."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twotower.types import Array


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

        They are copied when it grows first, or now where there shall be ``room`` behind them. The
        room is of a quarter of the rows; until it is used it is no memory of the machine.
        """
        table = cls(rows, len(rows))
        return table._with_room(len(rows)) if room else table

    @property
    def rows(self) -> Array:
        """``(used, …)``, a view."""
        return self.buffer[: self.used]

    def with_rows(self, more: Array) -> Self:
        """The same rows and ``more`` behind them."""
        used = self.used + len(more)
        table = self if used <= len(self.buffer) else self._with_room(used)
        table.buffer[self.used : used] = more
        return type(self)(table.buffer, used)

    def _with_room(self, used: int) -> Self:
        """The same rows where there is room for ``used``, and for a quarter of them behind."""
        buffer = np.empty((used + used // 4 + 64, *self.buffer.shape[1:]), self.buffer.dtype)
        buffer[: self.used] = self.rows
        return type(self)(buffer, self.used)
