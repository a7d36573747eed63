"""`Histories`: items of each user in time order, as compressed sparse rows."""

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
    """``(events,)`` float32, or None where the log has no ratings."""
    timestamps: OffsetArray | None = None
    """``(events,)`` int64 milliseconds since 1970, or None where the log has only an order."""
    weights: FloatArray | None = None
    """``(events,)`` float32 what each event is worth, above 0, or None where all are alike."""
    kinds: Array | None = None
    """``(events,)`` uint8 codes of `EventRules.kinds`, or None."""
    rules: EventRules | None = None
    """What the kinds mean, where there are some."""
    contexts: IndexArray | None = None
    """``(events,)`` int32 row of `Dataset.context_table` of each event, or None where no column of
    the log is declared."""

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
        return self.indptr[1:] - self.indptr[:-1]  # np.diff takes 3 times as long for a few

    @property
    def rows(self) -> OffsetArray:
        """``(events,)`` the row that each event belongs to."""
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
        """Build from ``(events,)`` ascending rows and their items, without ratings or times."""
        return cls(offsets(np.bincount(users, minlength=count)), items)

    def keep(self, mask: BoolArray) -> Self:
        """The same rows with only the events where ``mask`` (events,) is true."""
        return self._with(offsets(mask)[self.indptr], mask)

    def select(self, rows: Array) -> Self:
        """The given rows, in the given order (repeats allowed)."""
        lengths = self.lengths[rows]
        indptr = offsets(lengths)
        position = np.arange(indptr[-1], dtype=np.int64)
        position += np.repeat(self.indptr[:-1][rows] - indptr[:-1], lengths)
        return self._with(indptr, position)

    def _with(self, indptr: OffsetArray, events: Array) -> Self:
        """Rows that ``indptr`` bounds of the chosen events, by a mask or by their places."""

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
        """``(events,)`` which events are of a target kind; None where all are."""
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
        """``(rows,)`` the context of the first event of each row, none of which may be empty."""
        return None if self.contexts is None else self.contexts[self.indptr[:-1]]

    @property
    def learned(self) -> FloatArray | None:
        """``(events,)`` float32 weight of predicting each event, 0 for one that is an input alone.

        None where all weigh 1.
        """
        if self.rules is None or self.kinds is None or self.weights is None:
            return self.weights
        return self.rules.learned(self.kinds, self.weights)

    def last(self, n: int | Array) -> Self:
        """The newest ``n`` events of every row; an array ``(rows,)`` has a count for each."""
        if isinstance(n, int) and len(self.items) <= n:  # no row can be longer
            return self
        from_end = np.repeat(self.indptr[1:], self.lengths) - np.arange(len(self.items))
        return self.keep(from_end <= (n if isinstance(n, int) else np.repeat(n, self.lengths)))

    def padded(self, length: int) -> tuple[IndexArray, OffsetArray]:
        """The newest ``length`` items of each row, left-aligned, and how many there are.

        Returns
        -------
        items
            ``(rows, length)`` int32 **item index + 1**, oldest first, 0 behind the last.
        lengths
            ``(rows,)`` int64, at most ``length``.
        """
        recent = self.last(length)
        lengths = recent.lengths
        items = np.zeros((len(self), length), dtype=np.int32)
        items[np.arange(length) < lengths[:, None]] = recent.items + 1
        return items, lengths


def offsets(lengths: Array | Sequence[int]) -> OffsetArray:
    """``(rows + 1,)`` int64 where each row begins, and the end, from the length of each."""
    found = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=found[1:])
    return found


def joined(first: Histories, second: Histories | None) -> Histories:
    """The items of both row by row, without ratings, times and weights."""
    if second is None:
        return Histories(first.indptr, first.items)
    items = np.concatenate([first.items, second.items])
    order = np.argsort(np.concatenate([first.rows, second.rows]), kind="stable")
    return Histories(first.indptr + second.indptr, items[order])


@dataclass(frozen=True, slots=True)
class Queries:
    """A batch of requests: user indices and histories."""

    users: IndexArray
    """``(queries,)`` int32 user index, or -1 for a user that training never saw."""
    histories: Histories
    """One row per query, chosen by the caller: at test time train + validation, never the
    target."""
    times: OffsetArray | None = None
    """``(queries,)`` int64 when each request is made, in milliseconds since 1970, or None where
    that is not known. In service it is now; to tell it in an evaluation is to tell when the
    target came: see `Dataset.held_out`."""
    contexts: IndexArray | None = None
    """``(queries,)`` int32 row of `Dataset.request_contexts` of each request, -1 where nothing is
    known of its context; None where no column of the log is declared."""

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
    """What the sizes of a model and its training follow from."""

    predictions: int
    """Items that come after another one in a training history: the examples of an epoch."""
    mean_length: float
    """Mean length of the training histories with a prediction."""
    events_per_item: float
    """Mean number of training events of the items that have one."""
    in_order: bool = True
    """Whether held-out events come after those of training: see `Dataset.in_order`."""

    @property
    def users(self) -> int:
        """Training histories with a prediction."""
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
