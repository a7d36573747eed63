"""Trend: time-decayed popularity of each item at a moment, from the events before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.types import Array, FloatArray, IndexArray, OffsetArray

_MILLISECONDS: Final = 1000
_SHARES: Final = (1 / 16, 1 / 4, 1 / 64)
"""Candidate half-lives, as shares of the time span of most of the log."""


@dataclass(frozen=True)
class Trend:
    r"""Time-decayed popularity: an event's weight halves with every half-life.

    With the events of item ``c`` at times :math:`t_1 < t_2 < \dots`, the trend at time ``t`` is

    .. math:: \log\Bigl(1 + \sum_{t_k < t} 2^{-(t - t_k) / h}\Bigr)

    Nothing at or after ``t`` counts, so an item launched later has a trend of zero.
    This is a far stronger baseline than popularity over the whole log: see Ji et al.,
    "A Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020.
    """

    items: IndexArray
    """``(events,)`` int32, ascending."""
    times: OffsetArray
    """``(events,)`` int64 seconds since 1970, ascending within an item."""
    sums: FloatArray
    """``(events,)`` float32, decayed sum of the item's events up to and including this one."""
    half_life: float
    """Seconds; 0 if there are no events with times."""
    after_log: bool = False
    """Whether all requests come after the log, as in a temporal split: a request without a time is
    then placed at the end of the log instead of at the newest event of its history."""

    def __post_init__(self) -> None:
        if len(self.items) and not self.half_life > 0:
            raise InputError(f"half_life must be above 0, got {self.half_life}")
        if (np.diff(self._keys) < 0).any():
            raise InputError("events must be ordered by item, and by time within an item")

    @classmethod
    def none(cls) -> Self:
        """The trend of a log without times: zero for every item at any time."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float32), 0.0)

    @classmethod
    def fit(cls, log: Histories, half_life: float) -> Self:
        """Fit to a log's events, weighted if it has weights; `none` if they have no times."""
        if log.timestamps is None or not half_life > 0:
            return cls.none()
        order = np.lexsort((log.timestamps, log.items))
        items, times = log.items[order], log.timestamps[order] // _MILLISECONDS
        weights = np.ones(len(items)) if log.weights is None else log.weights[order]
        sums = weights.astype(np.float64)
        # After each step a sum covers the item's last 2 * width events.
        width, longest = 1, int(np.bincount(items).max(initial=0))
        while width < longest:
            same = np.flatnonzero(items[width:] == items[:-width]) + width
            faded = np.exp2((times[same - width] - times[same]) / half_life)
            sums[same] += faded * sums[same - width]  # the right side is copied first
            width *= 2
        return cls(items, times, sums.astype(np.float32), half_life)

    def at(self, moment: int, items: Array) -> FloatArray:
        """``(items,)`` float32 trend at a moment, in seconds since 1970.

        After the last event it stays at its value at the end of the log.
        """
        if not len(self.items):
            return np.zeros(len(items), dtype=np.float32)
        moment = min(moment, self._origin + self._span)
        until = max(moment - self._origin, 0)
        place = np.searchsorted(self._keys, items.astype(np.int64) * self._span + until) - 1
        found = (place >= 0) & (self.items[place] == items)
        passed = np.maximum(moment - self.times[place], 0)
        faded = self.sums[place] * np.exp2(-passed / self.half_life)
        return np.log1p(np.where(found, faded, 0)).astype(np.float32)

    def at_end(self, num_items: int) -> FloatArray:
        """``(num_items,)`` float32 trend after the last event."""
        return self.at(self._origin + self._span, np.arange(num_items))

    def moments(self, queries: Queries) -> Sequence[int | None]:
        """The time of each query, in seconds since 1970; None for the end of the log.

        A query without a time is placed at the newest event of its history, or at the end of the
        log with ``after_log``.
        """
        made: list[int | None] = [None] * len(queries)
        if len(self.items) and queries.times is not None:
            made = (queries.times // _MILLISECONDS).tolist()
        elif len(self.items) and self.after_log:
            made = [self._origin + self._span] * len(queries)
        elif len(self.items) and queries.histories.timestamps is not None:
            filled = np.flatnonzero(queries.histories.lengths)
            newest = queries.histories.indptr[1:][filled] - 1
            seconds = queries.histories.timestamps[newest] // _MILLISECONDS
            for row, second in zip(filled.tolist(), seconds.tolist(), strict=True):
                made[row] = second
        return made

    @cached_property
    def _origin(self) -> int:
        return int(self.times.min()) if len(self.times) else 0

    @cached_property
    def _span(self) -> int:
        return int(self.times.max()) - self._origin + 1 if len(self.times) else 0

    @cached_property
    def _keys(self) -> OffsetArray:
        """Item and time as a single key, so that one search finds an item's last event."""
        if not len(self.items):
            return self.times
        return self.items.astype(np.int64) * self._span + (self.times - self._origin)


def half_lives(log: Histories) -> tuple[float, ...]:
    """Candidate half-lives in seconds: shares of the time span of most of the log.

    Empty if the log has no times, or nearly all of its events share one.
    """
    if log.timestamps is None or not len(log.timestamps):
        return ()
    first, last = np.quantile(log.timestamps, (0.05, 0.95)) / _MILLISECONDS
    return tuple(float(last - first) * share for share in _SHARES if last - first >= 1)
