"""Distinct item count in bounded memory (KMV sketch), mergeable across processes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

KEPT: Final = 4096
"""Number of hashes kept; with fewer items the count is exact."""
_HASHES: Final = 2.0**64
_STORED: Final = np.dtype("<u8")


@dataclass(frozen=True, eq=False, slots=True)
class DistinctItems:
    """A sketch of a set of items: the smallest hashes of their ids.

    The smallest hashes of two sketches together are those of the union, so sketches can be added.
    From `KEPT` items on, the count is an estimate with a standard error of 1.6% (Bar-Yossef et
    al., "Counting distinct elements in a data stream", RANDOM 2002; Beyer et al., "On synopses
    for distinct-value estimation under multiset operations", SIGMOD 2007).

    Examples
    --------
    >>> (DistinctItems.of(["a", "b"]) + DistinctItems.of(["b", "c"])).count
    3
    """

    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    """``(up to KEPT,)`` uint64, ascending."""

    @classmethod
    def of(cls, item_ids: Iterable[str]) -> Self:
        """The sketch of some items."""
        digests = b"".join(
            blake2b(item_id.encode(), digest_size=8).digest() for item_id in item_ids
        )
        return cls(np.unique(np.frombuffer(digests, dtype=_STORED).astype(np.uint64))[:KEPT])

    @classmethod
    def of_bytes(cls, stored: bytes) -> Self:
        """The inverse of `to_bytes`."""
        return cls(np.frombuffer(stored, dtype=_STORED).astype(np.uint64))

    def to_bytes(self) -> bytes:
        """Bytes to store, at most 32 KB."""
        return self.hashes.astype(_STORED).tobytes()

    def __add__(self, other: Self) -> Self:
        return type(self)(np.union1d(self.hashes, other.hashes)[:KEPT])

    @property
    def count(self) -> int:
        """Number of distinct items, exact or estimated."""
        if len(self.hashes) < KEPT:
            return len(self.hashes)
        return round((KEPT - 1) / (float(self.hashes[-1]) / _HASHES))
