"""Train, validation and test splits."""

from typing import Annotated, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from twotower.config import Config
from twotower.data.dataset import Part
from twotower.errors import InputError
from twotower.types import BoolArray, OffsetArray

PartArray: TypeAlias = NDArray[np.uint8]
"""The `Part` of each interaction."""

HELD_OUT: Final = 2
"""Number of interactions per user held out by `LeaveLastTwo`."""


def _check_shares(validation: float, test: float) -> None:
    if validation + test >= 1:
        raise ValueError(
            f"validation and test must leave something to train on, got {validation} and {test}"
        )


class LeaveLastTwo(Config):
    """Each user's last interaction is for test, the one before it for validation.

    Users with fewer than three interactions stay in train.
    """

    kind: Literal["leave-last-two"] = "leave-last-two"


class GlobalTime(Config):
    """Two cut-off times divide the log into train, validation and test."""

    kind: Literal["global-time"] = "global-time"
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of the interactions, the newest for test. Shares are approximate, because
    interactions with the same time stay together."""
    validation_from: int | None = None
    test_from: int | None = None
    """Cut-off times to use instead, in milliseconds since 1970; both or neither."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError(
                "validation_from and test_from go together, got "
                f"{self.validation_from} and {self.test_from}"
            )
        if self.validation_from is not None and self.validation_from > (self.test_from or 0):
            raise ValueError(
                f"validation_from must not lie after test_from, got {self.validation_from} "
                f"and {self.test_from}"
            )
        _check_shares(self.validation, self.test)
        return self


class Rolling(Config):
    """One fold of a cross-validation over time; each fold is a `GlobalTime` split.

    The newest interactions are divided into ``folds`` windows of equal shares. Fold ``n`` is tested
    on window ``n``; later interactions are left out of its data set. Prepare one data set per fold
    and average the results.
    """

    kind: Literal["rolling"] = "rolling"
    folds: int = Field(default=3, ge=1)
    """Number of windows."""
    fold: int | None = Field(default=None, ge=1)
    """Window of this data set, from 1 (the oldest); None for the newest."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of all interactions in each window."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of all interactions held out for validation, just before the window."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.fold is not None and self.fold > self.folds:
            raise ValueError(f"fold must be at most folds {self.folds}, got {self.fold}")
        _check_shares(self.validation, self.folds * self.test)
        return self

    @property
    def number(self) -> int:
        """The fold, from 1."""
        return self.folds if self.fold is None else self.fold

    def cuts(self, timestamps: OffsetArray) -> tuple[GlobalTime, int | None]:
        """The fold's cut-off times, and the end of its window; None if it is the newest.

        Examples
        --------
        >>> half = Rolling(folds=2, fold=1, test=0.2, validation=0.2)
        >>> split, end = half.cuts(np.arange(10))
        >>> split.validation_from, split.test_from, end
        (4, 6, 8)
        >>> Rolling(folds=2, test=0.2, validation=0.2).cuts(np.arange(10))[1] is None
        True
        """
        ordered, later = np.sort(timestamps), self.folds - self.number
        newest = np.asarray([later, later + 1, later + 1]) * self.test + [0, 0, self.validation]
        places = np.floor(len(ordered) * (1 - newest) + 1e-9).astype(np.int64)
        end, test, validation = ordered[np.minimum(places, len(ordered) - 1)].tolist()
        cut = GlobalTime(validation_from=validation, test_from=test)
        return cut, end if later else None


class FileOrder(Config):
    """Like `LeaveLastTwo`, with each user's interactions in the row order of the files.

    For logs without times whose rows are known to be in order.
    """

    kind: Literal["file-order"] = "file-order"


class Random(Config):
    """Interactions are held out at random, for logs whose order is unknown.

    At least one interaction of every user stays in train, so no query has an unknown user.
    """

    kind: Literal["random"] = "random"
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of the interactions."""
    seed: int = Field(default=0, ge=0)
    """Random seed: the same log, settings and seed hold out the same interactions."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        _check_shares(self.validation, self.test)
        return self


class Given(Config):
    """The split of the files: one file per part."""

    kind: Literal["given"] = "given"
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Without a validation file, validation is taken from the training file: the newest
    interaction of every user with three or more; for a log without times, this share of the
    interactions at random. 0 takes none."""
    seed: int = Field(default=0, ge=0)
    """Random seed for a log without times."""


Split: TypeAlias = Annotated[
    LeaveLastTwo | GlobalTime | Rolling | FileOrder | Random | Given, Field(discriminator="kind")
]
KINDS: Final = ("leave-last-two", "global-time", "rolling", "file-order", "random", "given")
"""Names of the splits, on the command line and in ``dataset.toml`` too."""


def split_parts(
    split: Split,
    indptr: OffsetArray,
    *,
    timestamps: OffsetArray | None = None,
    given: PartArray | None = None,
    ordered: bool = True,
    to_find: BoolArray | None = None,
) -> PartArray:
    """``(events,)`` the `Part` of each interaction; histories are in the split's order.

    ``split`` is the result of `choose_split`; for `Rolling`, the fold's `GlobalTime`. ``indptr``
    ``(users + 1,)`` marks where each user's interactions begin. `GlobalTime` needs ``timestamps``
    ``(events,)`` in milliseconds; `Given` needs ``given`` ``(events,)``, the parts of the files,
    and ``ordered``, whether the order of the histories is meaningful. ``to_find`` ``(events,)`` is
    a mask of the possible targets (events of a target kind); None allows all. With a split by
    user order, later events of the user get the part of the target before them, but are not
    targets.

    Raises
    ------
    InputError
        If nothing is left to train on.
    """
    if isinstance(split, Given) and given is not None:
        parts = given
        if split.validation and not (parts == Part.VALIDATION).any():
            parts = _with_validation(parts, indptr, split, ordered, to_find)
    elif isinstance(split, GlobalTime) and timestamps is not None:
        parts = global_time(timestamps, split)
    elif isinstance(split, Random):
        parts = random_parts(indptr, split, to_find)
    else:
        parts = leave_last_two(indptr, to_find)
    if not (parts == Part.TRAIN).any():
        raise InputError(
            "no interaction is left in the training part", "check the training file or the split"
        )
    return parts


def leave_last_two(indptr: OffsetArray, to_find: BoolArray | None = None) -> PartArray:
    """Parts of histories in time order; see `LeaveLastTwo`.

    With the mask ``to_find`` ``(events,)``, the last two events among those are held out, for
    users with an event before them. Events that follow a held-out one get its part, so no later
    event is trained on.

    Examples
    --------
    >>> leave_last_two(np.array([0, 4, 6])).tolist()
    [0, 0, 1, 2, 0, 0]
    >>> buys = np.array([False, True, False, True, False])
    >>> leave_last_two(np.array([0, 5]), buys).tolist()
    [0, 1, 1, 2, 2]
    """
    if to_find is not None:
        return _last_two_targets(indptr, to_find)
    parts = np.full(indptr[-1], Part.TRAIN, dtype=np.uint8)
    ends = indptr[1:][np.diff(indptr) > HELD_OUT]
    parts[ends - 2] = Part.VALIDATION
    parts[ends - 1] = Part.TEST
    return parts


def _last_two_targets(indptr: OffsetArray, to_find: BoolArray) -> PartArray:
    parts = np.full(indptr[-1], Part.TRAIN, dtype=np.uint8)
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    counted = np.append(0, np.cumsum(to_find))
    left = counted[indptr[1:]][rows] - counted[:-1]  # targets from each interaction on
    targets = np.flatnonzero(to_find)
    second = np.full(len(indptr) - 1, -1, dtype=np.int64)  # position of the second-to-last target
    second[rows[targets[left[targets] == 2]]] = targets[left[targets] == 2]
    enough = (second > indptr[:-1])[rows]
    places = np.arange(len(parts))
    parts[enough & (places >= second[rows])] = Part.VALIDATION
    last = (left == 0) | ((left == 1) & to_find)
    parts[enough & (places > second[rows]) & last] = Part.TEST
    return parts


def global_time(timestamps: OffsetArray, split: GlobalTime) -> PartArray:
    """Parts of ``(events,)`` int64 milliseconds, in any order; see `GlobalTime`.

    Raises
    ------
    InputError
        If nothing is left to train on.

    Examples
    --------
    >>> global_time(np.array([5, 1, 2, 3, 4]), GlobalTime(validation=0.2, test=0.2)).tolist()
    [2, 0, 0, 0, 1]
    """
    if split.validation_from is not None and split.test_from is not None:
        cuts = np.asarray([split.validation_from, split.test_from])
    else:
        ordered = np.sort(timestamps)
        shares = np.asarray([split.validation + split.test, split.test])
        places = np.floor(len(ordered) * (1 - shares) + 1e-9).astype(np.int64)
        cuts = ordered[np.minimum(places, len(ordered) - 1)]
        earlier = ordered[: np.searchsorted(ordered, cuts[1])]
        if cuts[0] == cuts[1] and len(earlier) and earlier[-1] > ordered[0]:
            cuts[0] = earlier[-1]  # one time covers both shares: validate on the time before
    parts: PartArray = (timestamps >= cuts[0]).astype(np.uint8)
    parts += timestamps >= cuts[1]
    if not (parts == Part.TRAIN).any():
        raise InputError(
            f"no interaction lies before {int(cuts[0])} ms, where validation begins: "
            "there is nothing to train on",
            "choose a later validation_from, or smaller shares",
            cli_fix="choose smaller shares with --validation and --test",
        )
    return parts


def random_parts(indptr: OffsetArray, split: Random, to_find: BoolArray | None = None) -> PartArray:
    """Random parts; see `Random`.

    If users have too few interactions for the shares, both are scaled down equally.

    Examples
    --------
    >>> parts = random_parts(np.array([0, 4, 5, 10]), Random(validation=0.2, test=0.3))
    >>> np.bincount(parts).tolist(), int(parts[4])
    ([5, 2, 3], 0)
    """
    parts = np.full(indptr[-1], Part.TRAIN, dtype=np.uint8)
    free = _drawn(indptr, np.arange(indptr[-1]), split.seed)
    if to_find is not None:
        free = free[to_find[free]]
    if not len(free):
        return parts
    whole = len(parts) if to_find is None else int(to_find.sum())
    target = np.array([split.test, split.validation]) * whole
    target *= min(1.0, len(free) / target.sum())
    counts = np.maximum(np.floor(target + 0.5).astype(np.int64), 1)
    parts[free[: counts[0]]] = Part.TEST
    parts[free[counts[0] : counts.sum()]] = Part.VALIDATION
    return parts


def _with_validation(
    given: PartArray,
    indptr: OffsetArray,
    split: Given,
    ordered: bool,
    to_find: BoolArray | None,
) -> PartArray:
    """The given parts, with validation taken from the training part; see `Given`."""
    parts = given.copy()
    training = np.flatnonzero(given == Part.TRAIN)
    ends = np.searchsorted(training, indptr)  # where each user's training interactions begin
    if ordered and to_find is not None:
        held_out = _last_two_targets(ends, to_find[training]) == Part.TEST
        parts[training[held_out]] = Part.VALIDATION
    elif ordered:
        lasts = ends[1:][np.diff(ends) > HELD_OUT] - 1
        parts[training[lasts]] = Part.VALIDATION
    else:
        free = _drawn(ends, training, split.seed)
        if to_find is not None:
            free = free[to_find[free]]
        parts[free[: max(1, round(split.validation * len(training)))]] = Part.VALIDATION
    return parts


def _drawn(indptr: OffsetArray, places: OffsetArray, seed: int) -> OffsetArray:
    """``places`` in random order, leaving out one random place per user.

    ``indptr`` marks where each user's places begin.
    """
    draw = np.random.default_rng(seed).random(len(places))
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    by_user = np.lexsort((draw, users))
    others = np.ones(len(places), dtype=np.bool_)
    others[by_user[indptr[:-1][np.diff(indptr) > 0]]] = False
    order = np.argsort(draw, kind="stable")
    chosen: OffsetArray = places[order[others[order]]]
    return chosen
