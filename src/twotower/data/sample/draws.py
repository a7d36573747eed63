"""Random draws that give the same numbers on every platform and NumPy release."""

import numpy as np

from twotower.types import Array, OffsetArray


class Draws:
    """Integer draws from the raw stream of PCG64.

    NumPy promises that a bit generator's raw stream never changes, but not that the methods of
    `numpy.random.Generator` keep theirs, and floating-point functions differ in the last bit
    between platforms. So: raw 64-bit words, integer arithmetic, nothing else. The bias of
    ``word % bound`` is below 1e-8 for every bound used here.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def below(self, bound: int) -> int:
        """One integer in ``[0, bound)``."""
        return int(self._bits.random_raw()) % bound

    def between(self, low: int, high: int) -> int:
        """One integer in ``[low, high]``, both ends included."""
        return low + self.below(high - low + 1)

    def many_below(self, bound: int, size: int) -> OffsetArray:
        """``(size,)`` int64 in ``[0, bound)``."""
        words = np.asarray(self._bits.random_raw(size), dtype=np.uint64)
        return (words % np.uint64(bound)).astype(np.int64)

    def chance(self, per_mille: int) -> bool:
        """True in ``per_mille`` of 1,000 draws."""
        return self.below(1000) < per_mille

    def pick(self, weights: Array) -> int:
        """One index, drawn in proportion to ``weights`` (integers of at least 0)."""
        edges = np.cumsum(weights, dtype=np.int64)
        return int(np.searchsorted(edges, self.below(int(edges[-1])), side="right"))

    def shuffled(self, size: int) -> list[int]:
        """The integers ``0 … size - 1`` in random order (Fisher and Yates)."""
        order = list(range(size))
        for last in range(size - 1, 0, -1):
            swapped = self.below(last + 1)
            order[last], order[swapped] = order[swapped], order[last]
        return order
