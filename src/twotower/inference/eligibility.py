"""Which items somebody may get, without a mask of all items for each request."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twotower.types import Array, BoolArray, IndexArray, OffsetArray


@dataclass(frozen=True, slots=True)
class OpenItems:
    """The items of a mask that many requests share, but for those that one user has seen.

    Attributes
    ----------
    mask
        ``(items,)`` which may be recommended to anybody. Read only.
    count
        How many those are.
    seen
        ``(n,)`` int64 what this user must not get, in rising order; None for nothing.
    """

    mask: BoolArray
    count: int
    seen: OffsetArray | None = None

    @classmethod
    def of(cls, mask: BoolArray) -> Self:
        """Those of a mask, for somebody who has seen nothing."""
        return cls(mask, int(np.count_nonzero(mask)))

    def without(self, seen: IndexArray) -> Self:
        """The same for somebody who has seen these."""
        if not len(seen):
            return self
        return type(self)(self.mask, self.count, np.sort(seen.astype(np.int64)))

    def __len__(self) -> int:
        """How many items there are, open or not."""
        return len(self.mask)

    @property
    def at_least(self) -> int:
        """There are not fewer than these: what was seen may be closed anyway, or come twice."""
        return self.count if self.seen is None else self.count - len(self.seen)

    def have(self, items: Array) -> BoolArray:
        """``(n,)`` which of ``(n,)`` int64 items are open."""
        have: BoolArray = self.mask.take(items)
        if self.seen is not None:
            have &= self.seen.take(self.seen.searchsorted(items), mode="clip") != items
        return have

    def rows(self, first: int = 0) -> OffsetArray:
        """All that are open, from the row ``first`` on, in their order."""
        rows: OffsetArray = np.flatnonzero(self.mask[first:]) + first
        return rows if self.seen is None else rows[self.have(rows)]
