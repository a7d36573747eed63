"""Codes of the time between events, as user tower inputs."""

from typing import Final

import numpy as np

from twotower.data import Histories, Queries
from twotower.types import Array, OffsetArray

UNKNOWN: Final = 0
"""Code of a gap with an unknown start or end."""
GAP_CODES: Final = 32
"""Codes there are: unknown, under a second, and each doubling from there, up to 34 years."""
_SECOND: Final = 1000


def gap_codes(milliseconds: Array) -> OffsetArray:
    """Codes of gaps of any shape: 1 + the whole part of log2(1 + seconds).

    A gap below zero, as between clocks that differ, counts as none.

    >>> gap_codes(np.array([0, 1000, 60_000, 86_400_000])).tolist()
    [1, 2, 6, 17]
    """
    seconds = np.maximum(milliseconds, 0) // _SECOND
    codes: OffsetArray = 1 + np.log2(1 + seconds).astype(np.int64)
    return codes.clip(max=GAP_CODES - 1)


def has_times(histories: Histories) -> bool:
    """Whether there are times, and not the same one throughout."""
    times = histories.timestamps
    return times is not None and len(times) > 0 and bool(times.min() < times.max())


def query_gaps(queries: Queries, width: int) -> OffsetArray:
    """``(queries, width)`` codes of the gap behind each event of `Histories.padded`.

    After the newest event it is the gap to the request, `UNKNOWN` if the queries have no times;
    after an earlier event, the gap to the next event. Histories without timestamps are `UNKNOWN`
    throughout, as is the padding.
    """
    recent = queries.histories.last(width)
    codes = np.full((len(queries), width), UNKNOWN, dtype=np.int64)
    if recent.timestamps is None or not len(recent.items):
        return codes
    inside = np.arange(width) < recent.lengths[:, None]
    codes[inside] = _gaps_behind(recent, queries.times)
    return codes


def _gaps_behind(histories: Histories, until: OffsetArray | None) -> OffsetArray:
    """``(events,)`` codes; the newest event of each row ends ``until`` ``(rows,)``."""
    times = histories.timestamps
    assert times is not None  # the caller has asked
    codes = np.full(len(times), UNKNOWN, dtype=np.int64)
    codes[:-1] = gap_codes(times[1:] - times[:-1])
    filled = np.flatnonzero(histories.lengths)
    newest = histories.indptr[1:][filled] - 1
    codes[newest] = UNKNOWN if until is None else gap_codes(until[filled] - times[newest])
    return codes
