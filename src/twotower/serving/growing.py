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
    def of(cls, rows: Array) -> Self:
        """A table of these rows; they are not copied before it grows."""
        return cls(rows, len(rows))

    @property
    def rows(self) -> Array:
        """``(used, …)``, a view."""
        return self.buffer[: self.used]

    def with_rows(self, more: Array) -> Self:
        """The same rows and ``more`` behind them."""
        used = self.used + len(more)
        buffer = self.buffer
        if used > len(buffer):
            grown = (max(used, len(buffer) + len(buffer) // 4 + 64), *buffer.shape[1:])
            buffer = np.empty(grown, dtype=self.buffer.dtype)
            buffer[: self.used] = self.rows
        buffer[self.used : used] = more
        return type(self)(buffer, used)
