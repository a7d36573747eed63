"""Evaluation tasks: queries, targets and excluded items of each protocol.

Items that the user had before are never candidates, whether the model gets them as history or
not. Protocols that differ only in the history given to a model thus rank a target among the same
candidates, and their difference is the value of the history.

In a log with repeats (`Dataset.has_repeats`), targets may be items that the user had before.
Masking the rest of the history would leak such a target, so nothing is masked there.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twotower.data import Dataset, Histories, Part, Queries
from twotower.data.histories import joined
from twotower.data.holdouts import of_new_items, of_new_users, parts_before_hold_out
from twotower.data.split_choice import empty_parts
from twotower.errors import InputError
from twotower.types import Array, BoolArray, OffsetArray


@dataclass(frozen=True, slots=True)
class TaskData:
    """Queries, targets and seen items, one row each per query."""

    queries: Queries
    """The model's input."""
    targets: Histories
    """The held-out items."""
    seen: Histories
    """Items masked as candidates: all that the user had before; for a log with repeats, only
    returned items."""


class Task(Protocol):
    """Makes the queries of a part of a data set; equal tasks share a pass over the scores."""

    def __call__(self, dataset: Dataset, part: Part) -> TaskData:
        """Raise `InputError` if the data set has no such query."""


@dataclass(frozen=True)
class AllUsers:
    """Every user with a held-out interaction, with the full history before it."""

    timed: bool = False
    """Whether the model is given the time of the target."""

    def __call__(self, dataset: Dataset, part: Part) -> TaskData:
        """As `Dataset.held_out`."""
        queries, targets = dataset.held_out(part, self.timed)
        if not len(queries):
            why, fix = empty_parts(dataset)
            raise InputError(
                f"data set {dataset.name!r} has nothing held out for {part.name.lower()}: {why}",
                f"prepare it again: {fix}",
            )
        if self.timed and queries.times is None:
            raise InputError(
                f"the log of {dataset.name!r} has no times to tell a model",
                f"ask for {'full'!r}, or prepare a log with a time column",
            )
        return TaskData(queries, targets, _had(dataset, part).select(queries.users))


@dataclass(frozen=True)
class CutHistory:
    """The same users as anonymous ones, with their newest items only."""

    newest: int | None
    """Number of items the model gets; None for all."""
    least: int = 0
    """Users with shorter histories are left out. Set to the largest size of a table, it makes every
    row cover the same users."""

    def __call__(self, dataset: Dataset, part: Part) -> TaskData:
        """The queries of `AllUsers`, anonymous and truncated."""
        whole = AllUsers()(dataset, part)
        history, contexts = whole.queries.histories, whole.queries.contexts
        rows = np.flatnonzero(history.lengths >= self.least)
        if not len(rows):
            raise InputError(
                f"no user of {dataset.name!r} has {self.least} items before the held-out one, "
                f"the longest history has {int(history.lengths.max(initial=0))}",
                "ask for a protocol of all users",
            )
        history = history.select(rows)
        if self.newest is not None:
            history = history.last(self.newest)
        own = None if contexts is None else contexts[rows]
        return TaskData(
            Queries.anonymous(history, own), whole.targets.select(rows), whole.seen.select(rows)
        )


@dataclass(frozen=True)
class NewUsers:
    """Users who were held out of training, known by their history alone.

    New items are in neither histories nor targets, as with users who were not held out, so that
    the two can be compared.
    """

    def __call__(self, dataset: Dataset, part: Part) -> TaskData:
        """One anonymous query per held-out user."""
        new = of_new_users(dataset)
        if not new.any():
            raise _no_hold_out(dataset, "users")
        old_item, parts = ~of_new_items(dataset), parts_before_hold_out(dataset)
        log = dataset.interactions
        targets = log.keep(new & old_item & (parts == part) & _to_find(log))
        users = _with(targets, dataset, "a new user")
        history = log.keep(new & old_item & (parts < part)).select(users)
        seen = _had(dataset, part).select(users)
        targets = targets.select(users)
        contexts = dataset.contexts_of(targets, timed=False)
        return TaskData(Queries.anonymous(history, contexts), targets, seen)


@dataclass(frozen=True)
class KnownUsers:
    """Known users with histories as long as those of `NewUsers`, as account holders."""

    per_user: int = 4
    """How many are drawn, from a fixed seed, for each new user among those of equal history length
    (of the nearest length, where no known user has it). More narrow the interval."""

    def __call__(self, dataset: Dataset, part: Part) -> TaskData:
        """A part of the queries of `AllUsers`, with the lengths of the new users' histories."""
        whole = AllUsers()(dataset, part)
        wanted = NewUsers()(dataset, part).queries.histories.lengths
        rows = _of_lengths(whole.queries.histories.lengths, wanted, self.per_user)
        return TaskData(
            whole.queries.select(rows), whole.targets.select(rows), whole.seen.select(rows)
        )


@dataclass(frozen=True)
class NewItems:
    """Known users whose held-out item was held out of training."""

    def __call__(self, dataset: Dataset, part: Part) -> TaskData:
        """One query per known user who went on to a new item, the only target."""
        new = of_new_items(dataset)
        if not new.any():
            raise _no_hold_out(dataset, "items")
        known_user, parts = ~of_new_users(dataset), parts_before_hold_out(dataset)
        log = dataset.interactions
        targets = log.keep(new & known_user & (parts == part) & _to_find(log))
        users = _with(targets, dataset, "a known user of a new item")
        earlier = dataset.part(*(p for p in Part if p < part))
        targets = targets.select(users)
        contexts = dataset.contexts_of(targets, timed=False)
        queries = Queries(users.astype(np.int32), earlier.select(users), contexts=contexts)
        return TaskData(queries, targets, _had(dataset, part).select(users))


def _to_find(log: Histories) -> BoolArray:
    """``(events,)`` mask of interactions that may be targets."""
    return np.ones(len(log.items), dtype=np.bool_) if log.to_find is None else log.to_find


def _had(dataset: Dataset, part: Part) -> Histories:
    """Items masked as candidates, one row per user: returned items and, unless the log has repeats,
    all interactions before ``part``, held out of training or not.
    """
    before: BoolArray = parts_before_hold_out(dataset) < part
    if dataset.has_repeats:
        before = np.zeros_like(before)
    return joined(dataset.interactions.keep(before).seen, dataset.returned)


def _with(targets: Histories, dataset: Dataset, who: str) -> OffsetArray:
    users = np.flatnonzero(targets.lengths)
    if not len(users):
        raise InputError(
            f"{dataset.name!r} has no held-out interaction of {who}", "hold out a larger share"
        )
    return users


def _of_lengths(lengths: OffsetArray, wanted: OffsetArray, per_row: int) -> Array:
    """Rows with the given lengths, ``per_row`` for each of ``wanted``, ascending."""
    if not len(lengths):
        raise InputError("there is no known user to compare with", "hold out fewer users")
    rng = np.random.default_rng(0)
    known = np.unique(lengths)
    drawn = []
    for length, count in zip(*np.unique(wanted, return_counts=True), strict=True):
        nearest = known[np.abs(known - length).argmin()]
        among = np.flatnonzero(lengths == nearest)
        size = per_row * int(count)
        drawn.append(rng.choice(among, size, replace=size > len(among)))
    return np.sort(np.concatenate(drawn))


def _no_hold_out(dataset: Dataset, what: str) -> InputError:
    return InputError(
        f"no {what} of {dataset.name!r} were held out of training",
        "make a data set with 'twotower hold-out', and train on it",
    )
