"""Where targets stand: what ranking hands to the metrics."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twotower.errors import InputError
from twotower.types import Array, DoubleArray, OffsetArray


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where each target stands in its query's ranking.

    Attributes
    ----------
    ranks
        ``(pairs,)`` float64, 1 is best. Where scores tie, the rank is the expectation under
        random tie-breaking and may be fractional.
    indptr
        ``(queries + 1,)`` int64; the targets of query ``q`` are
        ``ranks[indptr[q]:indptr[q + 1]]``, at least one.
    """

    ranks: DoubleArray
    indptr: OffsetArray

    def __post_init__(self) -> None:
        if len(self.indptr) == 0 or int(self.indptr[-1]) != len(self.ranks):
            raise InputError(
                f"indptr must end at the number of ranks {len(self.ranks)}, "
                f"got {self.indptr[-1:].tolist()}"
            )
        empty = np.flatnonzero(np.diff(self.indptr) < 1)
        if len(empty):
            raise InputError(f"every query needs a target, query {empty[0]} has none")

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @classmethod
    def single(cls, ranks: Array) -> Self:
        """One target per query."""
        return cls(np.asarray(ranks, dtype=np.float64), np.arange(len(ranks) + 1, dtype=np.int64))
