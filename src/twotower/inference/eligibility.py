"""Eligibility masks: which items may be recommended to a user."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twotower.types import Array, BoolArray, IndexArray, OffsetArray


@dataclass(frozen=True, slots=True)
class EligibilityMask:
    """A mask over items that many requests share, minus the items that one user has seen.

    A request needs no full mask of its own: it only keeps the few items that its user has seen.
    """

    mask: BoolArray
    """``(items,)`` items that are eligible for any user. Read only."""
    count: int
    """Number of eligible items in ``mask``."""
    seen: OffsetArray | None = None
    """``(n,)`` int64 items excluded for this user, ascending; None for none."""

    @classmethod
    def of(cls, mask: BoolArray) -> Self:
        """From a boolean mask, for a user who has seen nothing."""
        return cls(mask, int(np.count_nonzero(mask)))

    def without(self, seen: IndexArray) -> Self:
        """The same for a user who has seen these items."""
        if not len(seen):
            return self
        return type(self)(self.mask, self.count, np.sort(seen.astype(np.int64)))

    def __len__(self) -> int:
        """Number of items, eligible or not."""
        return len(self.mask)

    @property
    def min_count(self) -> int:
        """Lower bound of the number of eligible items: seen ones may be ineligible or repeated."""
        return self.count if self.seen is None else self.count - len(self.seen)

    def contains(self, items: Array) -> BoolArray:
        """``(n,)`` which of ``(n,)`` int64 items are eligible."""
        allowed: BoolArray = self.mask.take(items)
        if self.seen is not None:
            allowed &= self.seen.take(self.seen.searchsorted(items), mode="clip") != items
        return allowed

    def rows(self, first: int = 0) -> OffsetArray:
        """All eligible rows from ``first`` on, ascending."""
        rows: OffsetArray = np.flatnonzero(self.mask[first:]) + first
        return rows if self.seen is None else rows[self.contains(rows)]
