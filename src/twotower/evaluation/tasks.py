"""What a protocol asks: who, with which history, for which items, and what is no candidate.

One rule holds for all: no candidate is an item that the user had before, whether the model is
told of it or not. Two protocols that differ in what a model is told then rank a target among
the same items, and their difference is what the model makes of what it is told.

A log that keeps repeats asks for items that the user had before. If the rest of the history were
taken out there, the target would be given away as the only item of the history that is left, so
that nothing is taken out (`Dataset.has_repeats`).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twotower.data import Dataset, Histories, Part, Queries
from twotower.data.holdouts import of_new_items, of_new_users, parts_before_hold_out
from twotower.data.split_choice import empty_parts
from twotower.errors import InputError
from twotower.types import Array, BoolArray, OffsetArray


@dataclass(frozen=True, slots=True)
class Questions:
    """Queries, their answers, and what is no answer; one row each per query.

    Attributes
    ----------
    queries
        What the model is told.
    targets
        The items to find.
    seen
        What the user had before, told or not: no candidates. Empty for a log with repeats.
    """

    queries: Queries
    targets: Histories
    seen: Histories


class Ask(Protocol):
    """Makes the questions of a part of a data set; equal ones share a pass over the scores."""

    def __call__(self, dataset: Dataset, part: Part) -> Questions:
        """`InputError` where the data set has nobody to ask for."""
        ...


@dataclass(frozen=True)
class Everyone:
    """Every user with a held-out interaction, with all that came before it."""

    def __call__(self, dataset: Dataset, part: Part) -> Questions:
        """As `Dataset.held_out`."""
        queries, targets = dataset.held_out(part)
        if not len(queries):
            why, fix = empty_parts(dataset)
            raise InputError(
                f"data set {dataset.name!r} has nothing held out for {part.name.lower()}: {why}",
                f"prepare it again: {fix}",
            )
        return Questions(queries, targets, _had(dataset, part).select(queries.users))


@dataclass(frozen=True)
class CutHistory:
    """The same users without their accounts, told of their newest items only.

    Attributes
    ----------
    newest
        Items told; None for all.
    least
        Users with fewer items in their history are not asked. With the greatest size of a
        table here, every row of it is about the same users.
    """

    newest: int | None
    least: int = 0

    def __call__(self, dataset: Dataset, part: Part) -> Questions:
        """The queries of `Everyone`, anonymous and cut."""
        whole = Everyone()(dataset, part)
        told = whole.queries.histories
        rows = np.flatnonzero(told.lengths >= self.least)
        if not len(rows):
            raise InputError(
                f"no user of {dataset.name!r} has {self.least} items before the held-out one, "
                f"the longest history has {int(told.lengths.max(initial=0))}",
                "ask for a protocol of all users",
            )
        told = told.select(rows)
        if self.newest is not None:
            told = told.last(self.newest)
        return Questions(
            Queries.anonymous(told), whole.targets.select(rows), whole.seen.select(rows)
        )


@dataclass(frozen=True)
class NewUsers:
    """Users who were held out of training, known by their history alone.

    New items are neither told of nor asked for, as with the users who were not held out, so
    that the two can be compared.
    """

    def __call__(self, dataset: Dataset, part: Part) -> Questions:
        """One anonymous query per held-out user."""
        new = of_new_users(dataset)
        if not new.any():
            raise _no_hold_out(dataset, "users")
        old_item, parts = ~of_new_items(dataset), parts_before_hold_out(dataset)
        log = dataset.interactions
        targets = log.keep(new & old_item & (parts == part))
        users = _with(targets, dataset, "a new user")
        told = log.keep(new & old_item & (parts < part)).select(users)
        seen = _had(dataset, part).select(users)
        return Questions(Queries.anonymous(told), targets.select(users), seen)


@dataclass(frozen=True)
class KnownUsers:
    """Known users with histories as long as those of `NewUsers`, as account holders.

    Attributes
    ----------
    per_user
        How many are drawn, from a fixed seed, for each new user among those of equal history
        length (of the nearest length, where no known user has it). More narrow the interval.
    """

    per_user: int = 4

    def __call__(self, dataset: Dataset, part: Part) -> Questions:
        """A part of the queries of `Everyone`, with the lengths of the new users' histories."""
        everyone = Everyone()(dataset, part)
        wanted = NewUsers()(dataset, part).queries.histories.lengths
        rows = _of_lengths(everyone.queries.histories.lengths, wanted, self.per_user)
        return Questions(
            everyone.queries.select(rows), everyone.targets.select(rows), everyone.seen.select(rows)
        )


@dataclass(frozen=True)
class NewItems:
    """Known users whose held-out item is one that was held out of training."""

    def __call__(self, dataset: Dataset, part: Part) -> Questions:
        """One query per known user who went on to a new item, which is all that is asked for."""
        new = of_new_items(dataset)
        if not new.any():
            raise _no_hold_out(dataset, "items")
        known_user, parts = ~of_new_users(dataset), parts_before_hold_out(dataset)
        log = dataset.interactions
        targets = log.keep(new & known_user & (parts == part))
        users = _with(targets, dataset, "a known user of a new item")
        earlier = dataset.part(*(p for p in Part if p < part))
        queries = Queries(users.astype(np.int32), earlier.select(users))
        return Questions(queries, targets.select(users), _had(dataset, part).select(users))


def _had(dataset: Dataset, part: Part) -> Histories:
    """What is no candidate, one row per user: every interaction before ``part``, held out of
    training or not; nothing where the log has repeats.
    """
    before: BoolArray = parts_before_hold_out(dataset) < part
    if dataset.has_repeats:
        before = np.zeros_like(before)
    return dataset.interactions.keep(before)


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
    rows: Array = np.sort(np.concatenate(drawn))
    return rows


def _no_hold_out(dataset: Dataset, what: str) -> InputError:
    return InputError(
        f"no {what} of {dataset.name!r} were held out of training",
        "make a data set with 'twotower hold-out', and train on it",
    )
