"""How many writes the processes of one service have committed, in memory that all of them see."""

import threading
from collections.abc import MutableSequence


class Writes:
    """The count as one process sees it, and adds to it.

    Each process counts in a place of its own, which nobody else writes: nothing is locked between
    processes, so that one that is killed at any moment holds up nobody.

    Parameters
    ----------
    counts
        ``(processes,)`` unsigned 64-bit, shared.
    number
        This process's place in it.
    """

    def __init__(self, counts: MutableSequence[int], number: int) -> None:
        self._counts = counts
        self._number = number
        self._adding = threading.Lock()

    def add(self) -> None:
        """Say that something was committed: before it is acknowledged."""
        with self._adding:
            self._counts[self._number] += 1

    @property
    def total(self) -> int:
        """Writes of all processes so far. It never falls, also when a process is replaced."""
        return sum(self._counts[:])
