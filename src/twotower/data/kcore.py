"""k-core of an interaction log: users and items that all keep at least k interactions."""

from typing import NamedTuple

import numpy as np

from twotower.errors import InputError
from twotower.types import Array, BoolArray


class KCore(NamedTuple):
    """Result of `k_core`."""

    kept: BoolArray
    """``(events,)`` bool."""
    rounds: int
    """Number of passes that removed something."""


def k_core(users: Array, items: Array, k: int) -> KCore:
    """The largest part of a log where every user and every item has ``k`` interactions or more.

    ``users`` and ``items`` are ``(events,)`` non-negative integers; a pair that repeats counts each
    time. A ``k`` of 0 or 1 keeps everything. Users and items below ``k`` are removed until none is:
    the fixed point does not depend on the order of removal, since a removal only ever lowers other
    counts (Seidman 1983).

    Examples
    --------
    >>> k_core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), k=2).kept
    array([ True,  True,  True,  True, False])
    """
    if k < 0:
        raise InputError(f"k must be 0 or more, got {k}")
    kept = np.ones(len(users), dtype=bool)
    places = np.arange(len(users))
    rounds = 0
    while len(places):
        enough = np.bincount(users)[users] >= k
        enough &= np.bincount(items)[items] >= k
        if enough.all():
            break
        kept[places[~enough]] = False
        places, users, items = places[enough], users[enough], items[enough]
        rounds += 1
    return KCore(kept, rounds)


def smaller_cores(users: Array, items: Array, k: int) -> dict[int, int]:
    """Smaller ``k`` → number of interactions left, largest ``k`` first; 0 leaves all.

    Cores that leave less than a tenth more than the previous one (at first, ``k``) are skipped.

    Examples
    --------
    >>> smaller_cores(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), k=5)
    {2: 4, 0: 5}
    """
    everything, counts = len(users), []
    for smaller in range(2, k + 1):  # each lies within the one before it
        kept = k_core(users, items, smaller).kept
        users, items = users[kept], items[kept]
        counts.append((smaller, len(users)))
    left: dict[int, int] = {}
    most = len(users)
    for smaller, count in reversed(counts[:-1]):
        if count and count >= 1.1 * most:
            left[smaller] = most = count
    return left | {0: everything}
