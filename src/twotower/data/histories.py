"""`Histories`: user histories in time order, as compressed sparse rows (CSR)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from twotower.data.events import EventRules
from twotower.errors import InputError
from twotower.types import Array, BoolArray, FloatArray, IndexArray, OffsetArray


@dataclass(frozen=True, slots=True)
class Histories:
    """One row of items per user, oldest first."""

    indptr: OffsetArray
    """``(rows + 1,)`` int64; row ``r`` is ``items[indptr[r]:indptr[r + 1]]``."""
    items: IndexArray
    """``(events,)`` int32 item indices."""
    ratings: FloatArray | None = None
    """``(events,)`` float32, or None if the log has no ratings."""
    timestamps: OffsetArray | None = None
    """``(events,)`` int64 milliseconds since 1970, or None if the log has no times."""
    weights: FloatArray | None = None
    """``(events,)`` float32 positive event weights, or None if all are 1."""
    kinds: Array | None = None
    """``(events,)`` uint8 codes of `EventRules.kinds`, or None."""
    rules: EventRules | None = None
    """Meaning of the kinds, if there are any."""
    contexts: IndexArray | None = None
    """``(events,)`` int32 row of `Dataset.context_table` of each event, or None without declared
    context columns."""

    def __post_init__(self) -> None:
        if len(self.indptr) == 0 or int(self.indptr[-1]) != len(self.items):
            raise InputError(
                f"indptr must end at the number of events {len(self.items)}, "
                f"got {self.indptr[-1:].tolist()}"
            )

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def lengths(self) -> OffsetArray:
        """``(rows,)`` number of events of each row."""
        return self.indptr[1:] - self.indptr[:-1]  # np.diff takes 3 times as long for short arrays

    @property
    def rows(self) -> OffsetArray:
        """``(events,)`` row of each event."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def row(self, row: int) -> IndexArray:
        """Items of one row, oldest first."""
        return self.items[self.indptr[row] : self.indptr[row + 1]]

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> Self:
        """Build from Python lists of item indices, without ratings or times."""
        flat = [item for items in lists for item in items]
        return cls(offsets([len(items) for items in lists]), np.asarray(flat, dtype=np.int32))

    @classmethod
    def of_users(cls, users: Array, items: IndexArray, count: int) -> Self:
        """Build from ``(events,)`` ascending user rows and items, without ratings or times."""
        return cls(offsets(np.bincount(users, minlength=count)), items)

    def keep(self, mask: BoolArray) -> Self:
        """The same rows with only the events where ``mask`` ``(events,)`` is true."""
        return self._with(offsets(mask)[self.indptr], mask)

    def select(self, rows: Array) -> Self:
        """The given rows, in the given order (repeats allowed)."""
        lengths = self.lengths[rows]
        indptr = offsets(lengths)
        position = np.arange(indptr[-1], dtype=np.int64)
        position += np.repeat(self.indptr[:-1][rows] - indptr[:-1], lengths)
        return self._with(indptr, position)

    def _with(self, indptr: OffsetArray, events: Array) -> Self:
        """The chosen ``events`` (a mask or positions), with row bounds ``indptr``."""

        def cut(array: Any) -> Any:
            return None if array is None else array[events]

        return type(self)(
            indptr,
            self.items[events],
            cut(self.ratings),
            cut(self.timestamps),
            cut(self.weights),
            cut(self.kinds),
            self.rules,
            cut(self.contexts),
        )

    @property
    def to_find(self) -> BoolArray | None:
        """``(events,)`` mask of events of a target kind; None if all are."""
        if self.rules is None or self.kinds is None or not self.rules.target:
            return None
        return self.rules.of_target(self.kinds)

    @property
    def seen(self) -> Self:
        """The events after which an item is not recommended again."""
        if self.rules is None or self.kinds is None or self.rules.seen is None:
            return self
        return self.keep(self.rules.of_seen(self.kinds))

    @property
    def first_contexts(self) -> IndexArray | None:
        """``(rows,)`` context of the first event of each row; no row may be empty."""
        return None if self.contexts is None else self.contexts[self.indptr[:-1]]

    @property
    def learned(self) -> FloatArray | None:
        """``(events,)`` float32 training weight of each event as a target; 0 for inputs only.

        None if all are 1.
        """
        if self.rules is None or self.kinds is None or self.weights is None:
            return self.weights
        return self.rules.learned(self.kinds, self.weights)

    def last(self, n: int | Array) -> Self:
        """The newest ``n`` events of every row; ``n`` may be an array ``(rows,)`` of counts."""
        if isinstance(n, int) and len(self.items) <= n:  # no row can be longer
            return self
        from_end = np.repeat(self.indptr[1:], self.lengths) - np.arange(len(self.items))
        return self.keep(from_end <= (n if isinstance(n, int) else np.repeat(n, self.lengths)))

    def padded(self, length: int) -> tuple[IndexArray, OffsetArray]:
        """The newest ``length`` items of each row, left-aligned, and how many there are.

        Returns
        -------
        items
            ``(rows, length)`` int32 **item index + 1**, oldest first, padded with 0 at the end.
        lengths
            ``(rows,)`` int64, at most ``length``.
        """
        recent = self.last(length)
        lengths = recent.lengths
        items = np.zeros((len(self), length), dtype=np.int32)
        items[np.arange(length) < lengths[:, None]] = recent.items + 1
        return items, lengths


def offsets(lengths: Array | Sequence[int]) -> OffsetArray:
    """``(rows + 1,)`` int64 row boundaries (``indptr``) from row lengths."""
    found = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=found[1:])
    return found


def joined(first: Histories, second: Histories | None) -> Histories:
    """Items of both concatenated row by row, without ratings, times and weights."""
    if second is None:
        return Histories(first.indptr, first.items)
    items = np.concatenate([first.items, second.items])
    order = np.argsort(np.concatenate([first.rows, second.rows]), kind="stable")
    return Histories(first.indptr + second.indptr, items[order])


@dataclass(frozen=True, slots=True)
class Queries:
    """A batch of requests: user indices and histories."""

    users: IndexArray
    """``(queries,)`` int32 user index, or -1 for a user unknown to training."""
    histories: Histories
    """One row per query, chosen by the caller: at test time train + validation, never the
    target."""
    times: OffsetArray | None = None
    """``(queries,)`` int64 request times in milliseconds since 1970, or None if unknown. In
    service the time is now; in an evaluation it reveals the time of the target: see
    `Dataset.held_out`."""
    contexts: IndexArray | None = None
    """``(queries,)`` int32 row of `Dataset.request_contexts` of each request, -1 if its context is
    unknown; None without declared context columns."""

    def __post_init__(self) -> None:
        if len(self.users) != len(self.histories):
            raise InputError(
                f"users and histories must have one row per query, "
                f"got {len(self.users)} and {len(self.histories)}"
            )

    def __len__(self) -> int:
        return len(self.users)

    def select(self, rows: Array) -> Self:
        """The given queries, in the given order."""
        times = None if self.times is None else self.times[rows]
        contexts = None if self.contexts is None else self.contexts[rows]
        return type(self)(self.users[rows], self.histories.select(rows), times, contexts)

    @classmethod
    def anonymous(cls, histories: Histories, contexts: IndexArray | None = None) -> Self:
        """Requests of anonymous users."""
        users = np.full(len(histories), -1, dtype=np.int32)
        return cls(users, histories, contexts=contexts)


class LogFacts(NamedTuple):
    """Log statistics from which model and training sizes are derived."""

    predictions: int
    """Training examples per epoch: items preceded by another one in a training history."""
    mean_length: float
    """Mean length of training histories with at least two events."""
    events_per_item: float
    """Mean number of training events per item, over items that have any."""
    in_order: bool = True
    """Whether held-out events come after training events: see `Dataset.in_order`."""

    @property
    def users(self) -> int:
        """Number of training histories with at least two events."""
        return round(self.predictions / (self.mean_length - 1)) if self.predictions else 0

    @classmethod
    def of(cls, train: Histories, *, in_order: bool = True) -> Self:
        """Count the training part."""
        lengths = train.lengths[train.lengths >= 2]
        return cls(
            int((lengths - 1).sum()),
            float(np.mean(lengths)) if len(lengths) else 0.0,
            len(train.items) / max(len(np.unique(train.items)), 1),
            in_order,
        )
