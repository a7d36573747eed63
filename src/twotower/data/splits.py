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
"""A `Part` for each interaction."""

HELD_OUT: Final = 2
"""Interactions of a user that `LeaveLastTwo` holds out."""


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
    """Two moments divide the log: train lies before validation, validation before test."""

    kind: Literal["global-time"] = "global-time"
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of the interactions, the newest for test. Interactions of one moment stay
    together, so that the shares are approximate."""
    validation_from: int | None = None
    test_from: int | None = None
    """The two moments instead, in milliseconds since 1970; both or neither."""

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
    """Cross-validation over time: one fold of several, each a `GlobalTime` split of its own moment.

    The newest interactions are divided into ``folds`` windows of equal shares. Fold ``n`` is tested
    on window ``n`` and knows nothing of what came later, which is left out of its data set. Prepare
    one data set for each fold, and average what is measured.
    """

    kind: Literal["rolling"] = "rolling"
    folds: int = Field(default=3, ge=1)
    """How many windows there are."""
    fold: int | None = Field(default=None, ge=1)
    """Which of them is this data set's, from 1, the oldest; None for the newest."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of all interactions in each window."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of all interactions before the window that are for validation."""

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
        """The fold's two moments, and the one from which on it knows nothing; None for no such.

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
    """As `LeaveLastTwo`, where a user's interactions are in the order of the files' rows.

    For logs without times of which the rows are known to be in order.
    """

    kind: Literal["file-order"] = "file-order"


class Random(Config):
    """Interactions are drawn at random, for logs of which the order is not known.

    One interaction of every user stays in train, so that no query is of an unknown user.
    """

    kind: Literal["random"] = "random"
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of the interactions."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draw: the same log, settings and seed hold the same ones out."""

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        _check_shares(self.validation, self.test)
        return self


class Given(Config):
    """The split of the files: one file per part."""

    kind: Literal["given"] = "given"
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Where there is no validation file, validation is drawn from the training file: the newest
    interaction of every user with three or more, or of a log without times this share of the
    interactions, at random. 0 draws none."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draw, of a log without times."""


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
    """``(events,)`` the `Part` of each interaction of histories in the split's order.

    ``split`` is the result of `choose_split`, of `Rolling` the fold's `GlobalTime`. ``indptr``
    ``(users + 1,)`` says where each user's interactions begin. `GlobalTime` needs ``timestamps``
    ``(events,)`` in milliseconds, `Given` the parts ``(events,)`` of the files and whether the
    order of the histories is meaningful. Only interactions ``to_find`` ``(events,)`` are held out,
    those of a target kind, or None for all. What comes after one in the user's history is in its
    part too, as no target.

    Raises
    ------
    InputError
        Where nothing is left to train on.
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
    """Parts of histories in time order, see `LeaveLastTwo`.

    Of interactions ``(events,)`` ``to_find`` the last two are held out, of users with an
    interaction before them; from each on, what follows is of its part, so that nothing is trained
    on that came later.

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
    second = np.full(len(indptr) - 1, -1, dtype=np.int64)  # place of the last target but one
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
        Where nothing is left to train on.

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
            cuts[0] = earlier[-1]  # one moment holds both shares: validation is the one before
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
    """Parts at random, see `Random`.

    Where users have so few interactions that the shares cannot be met, both are reduced alike.

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
    """The given parts, with validation out of the training part; see `Given`."""
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
    """``places`` in random order, without one random place of every user.

    ``indptr`` gives the start of each user's places.
    """
    draw = np.random.default_rng(seed).random(len(places))
    users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    by_user = np.lexsort((draw, users))
    others = np.ones(len(places), dtype=np.bool_)
    others[by_user[indptr[:-1][np.diff(indptr) > 0]]] = False
    order = np.argsort(draw, kind="stable")
    chosen: OffsetArray = places[order[others[order]]]
    return chosen
