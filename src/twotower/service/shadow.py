"""Shadow traffic: another bundle also answers requests, after their responses, unseen by users.

It shows how much two bundles differ, and that the other one works, before any user sees it.
"""

import logging
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Self

from twotower.bundle.contents import BundleContents
from twotower.inference.answers import Answer
from twotower.service.snapshot import Snapshot
from twotower.service.state.distinct import DistinctItems
from twotower.service.state.shadow import ListCounts, ShadowCounts, time_bucket

logger = logging.getLogger(__name__)

_RESTS: Final = 4
"""Rest after each piece of work, in multiples of its duration."""
_LOGGED_EVERY_S: Final = 60.0
_LONG_S: Final = 10.0
"""Seconds after which an unanswered request to the other bundle is logged."""


class Listed(NamedTuple):
    """The list that a bundle answered with."""

    model_version: str
    contents: BundleContents
    item_ids: Sequence[str]
    """Items of the list, best first."""
    seconds: float
    """Time taken to compute it."""

    @classmethod
    def of(cls, snapshot: Snapshot, answer: Answer, seconds: float) -> Self:
        """The list of an answer."""
        items = [item.item_id for item in answer.items]
        return cls(snapshot.manifest.model_version, snapshot.pipeline.contents, items, seconds)


class Alike(NamedTuple):
    """How far two lists agree."""

    overlap: float
    """Share of the longer list's items that the other one has too; 1 if both are empty."""
    same_first: bool
    """Whether both begin with the same item."""
    untrained: Mapping[str, int]
    """By arm, number of list items without an event in the training log of their bundle."""


class SpareThread:
    """A thread for optional work: one piece at a time, for at most a fifth of the time.

    It is a daemon thread: the process does not wait for it on exit. Only one thread may offer work.

    Attributes
    ----------
    idle
        Set while there is no work.
    """

    def __init__(self, name: str) -> None:
        self.idle = threading.Event()
        self.idle.set()
        self._name = name
        self._began = -math.inf
        self._rests_until = -math.inf
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def busy_s(self) -> float:
        """How long the current piece of work has taken so far; 0 if idle."""
        return 0.0 if self.idle.is_set() else time.monotonic() - self._began

    def offer(self, work: Callable[[], None]) -> bool:
        """Start a piece of work; False if the thread is busy or resting."""
        now = time.monotonic()
        if not self.idle.is_set() or now < self._rests_until:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._began = now
        self.idle.clear()
        self._work.put(work)
        return True

    def close(self) -> None:
        """End after the current piece of work."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            began = time.monotonic()
            work()
            ended = time.monotonic()
            self._rests_until = ended + _RESTS * (ended - began)
            self.idle.set()


class Shadow:
    """Compares the lists of a shadow bundle with those that were shown, and counts.

    Counts are kept in memory until `take`. If the shadow bundle fails or hangs, requests are not
    affected.

    Attributes
    ----------
    thread
        Thread in which the shadow bundle answers. Each shadow has its own, so one that hangs does
        not block the next.
    """

    def __init__(self) -> None:
        self.thread = SpareThread("twotower-shadow")
        self._lock = threading.Lock()
        self._left = ShadowCounts()
        self._newest = _Newest()
        self._logged = -math.inf

    def compare(self, shown: Listed, unseen: Listed) -> Alike:
        """Count a request that both bundles answered."""
        untrained = {"a": _untrained(shown), "b": _untrained(unseen)}
        a, b = shown.item_ids, unseen.item_ids
        alike = Alike(_overlap(a, b), list(a[:1]) == list(b[:1]), untrained)
        with self._lock:
            newest = self._newest
            newest.numbers["shadowed"] += 1
            newest.numbers["overlap"] += alike.overlap
            newest.numbers["same_first"] += alike.same_first
            newest.lists["a"].add(shown, untrained["a"])
            newest.lists["b"].add(unseen, untrained["b"])
        return alike

    def drop(self) -> None:
        """Count a request that was skipped for lack of time."""
        with self._lock:
            self._newest.numbers["dropped"] += 1
        if (seconds := self.thread.busy_s) > _LONG_S and self._may_log():
            logger.error("the shadow bundle has not answered a request for %.0f s", seconds)

    def fail(self, error: Exception) -> None:
        """Count a request that the other bundle failed at."""
        with self._lock:
            self._newest.numbers["failed"] += 1
        if self._may_log():
            logger.error("the shadow bundle failed at a request", exc_info=error)

    def take(self) -> ShadowCounts:
        """Return and reset all counts."""
        with self._lock:
            left, newest = self._left, self._newest
            self._left, self._newest = ShadowCounts(), _Newest()
        return left + newest.counts()

    def put_back(self, counts: ShadowCounts) -> None:
        """Add back counts that were taken but could not be written."""
        with self._lock:
            self._left = self._left + counts

    def _may_log(self) -> bool:
        """Whether nothing was logged in the last minute: limits errors to one a minute."""
        now = time.monotonic()
        if now - self._logged < _LOGGED_EVERY_S:
            return False
        self._logged = now
        return True


class _Tally:
    """Counts of the newest lists of one bundle."""

    def __init__(self) -> None:
        self._places = self._untrained = 0
        self._seconds = 0.0
        self._times: Counter[int] = Counter()
        self._items: set[str] = set()

    def add(self, listed: Listed, untrained: int) -> None:
        self._places += len(listed.item_ids)
        self._untrained += untrained
        self._seconds += listed.seconds
        self._times[time_bucket(listed.seconds)] += 1
        self._items.update(listed.item_ids)

    def counts(self) -> ListCounts:
        items = DistinctItems.of(self._items)
        return ListCounts(self._places, self._untrained, self._seconds, self._times, items)


class _Newest:
    """Counts since the last `Shadow.take`."""

    def __init__(self) -> None:
        self.numbers: defaultdict[str, Any] = defaultdict(int)
        self.lists = {"a": _Tally(), "b": _Tally()}

    def counts(self) -> ShadowCounts:
        a, b = self.lists["a"].counts(), self.lists["b"].counts()
        return ShadowCounts(**self.numbers, a=a, b=b)


def _untrained(listed: Listed) -> int:
    """Number of list items without an event in the bundle's log: catalogue-only or added later."""
    counts = listed.contents.event_counts
    rows = map(listed.contents.items.find, listed.item_ids)
    return sum(row is None or not counts[row] for row in rows)


def shadow_report(counts: ShadowCounts) -> dict[str, Any]:
    """Metrics of a shadow, see `twotower.service.live.report`; rates without data are None."""
    return {
        "shadowed": counts.shadowed,
        "dropped": counts.dropped,
        "failed": counts.failed,
        "overlap": _rate(counts.overlap, counts.shadowed),
        "same_first": _rate(counts.same_first, counts.shadowed),
        "a": _list_report(counts.a),
        "b": _list_report(counts.b),
    }


def _list_report(of: ListCounts) -> dict[str, Any]:
    mean, p99 = _rate(of.seconds, of.times.total()), of.percentile_s(0.99)
    return {
        "mean_ms": None if mean is None else 1000 * mean,
        "p99_ms": None if p99 is None else 1000 * p99,
        "untrained_share": _rate(of.untrained, of.places),
        "items": of.items.count,
    }


def _rate(count: float, of: int) -> float | None:
    return count / of if of else None


def _overlap(a: Sequence[str], b: Sequence[str]) -> float:
    longest = max(len(a), len(b))
    return len({*a} & {*b}) / longest if longest else 1.0
