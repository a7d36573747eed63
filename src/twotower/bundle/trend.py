"""Trend: how much each item is in demand at a moment, from events before that moment."""

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
"""Half-lives that are tried, as shares of the time that most of a log is from."""


@dataclass(frozen=True)
class Trend:
    r"""Popularity that fades: an event counts half as much after every half-life.

    With the events of item ``c`` at times :math:`t_1 < t_2 < \dots`, the trend at time ``t`` is

    .. math:: \log\Bigl(1 + \sum_{t_k < t} 2^{-(t - t_k) / h}\Bigr)

    Nothing at or after ``t`` counts, so an item that was launched later has a trend of zero.
    Popularity of that kind is a far stronger baseline than that of the whole log: see Ji et al.,
    "A Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020.
    """

    items: IndexArray
    """``(events,)`` int32, ascending."""
    times: OffsetArray
    """``(events,)`` int64 seconds since 1970, ascending within an item."""
    sums: FloatArray
    """``(events,)`` float32, what the item's events up to this one count at its time."""
    half_life: float
    """Seconds; 0 where there are no events with times."""
    after_log: bool = False
    """Whether all requests come after the log, as in a split by time: those that do not say when
    they are made are at its end then, and not at the newest event of their history."""

    def __post_init__(self) -> None:
        if len(self.items) and not self.half_life > 0:
            raise InputError(f"half_life must be above 0, got {self.half_life}")
        if (np.diff(self._keys) < 0).any():
            raise InputError("events must be ordered by item, and by time within an item")

    @classmethod
    def none(cls) -> Self:
        """Of a log without times: zero for every item at any time."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float32), 0.0)

    @classmethod
    def fit(cls, log: Histories, half_life: float) -> Self:
        """Of a log's events, each by its weight; `none` where they have no times."""
        if log.timestamps is None or not half_life > 0:
            return cls.none()
        order = np.lexsort((log.timestamps, log.items))
        items, times = log.items[order], log.timestamps[order] // _MILLISECONDS
        weights = np.ones(len(items)) if log.weights is None else log.weights[order]
        sums = weights.astype(np.float64)
        # After the step of a width each sum is over twice that many of the item's last events.
        width, longest = 1, int(np.bincount(items).max(initial=0))
        while width < longest:
            same = np.flatnonzero(items[width:] == items[:-width]) + width
            faded = np.exp2((times[same - width] - times[same]) / half_life)
            sums[same] += faded * sums[same - width]  # the right side is copied first
            width *= 2
        return cls(items, times, sums.astype(np.float32), half_life)

    def at(self, moment: int, items: Array) -> FloatArray:
        """``(items,)`` float32 trend at a moment, in seconds since 1970.

        After the last event it is that of the end of the log: of what came later nothing is known.
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
        """For each query when it is made, as far as is known; None for the end of the log.

        Where queries have no times, that is the newest event of the history, or the end of the log
        where all come after it.
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
        """Item and time as a single number, so that one search finds an item's last event."""
        if not len(self.items):
            return self.times
        return self.items.astype(np.int64) * self._span + (self.times - self._origin)


def half_lives(log: Histories) -> tuple[float, ...]:
    """Half-lives to choose from, in seconds: shares of the time that most of the log is from.

    Empty where the log has no times, or the same one almost throughout.
    """
    if log.timestamps is None or not len(log.timestamps):
        return ()
    first, last = np.quantile(log.timestamps, (0.05, 0.95)) / _MILLISECONDS
    return tuple(float(last - first) * share for share in _SHARES if last - first >= 1)
