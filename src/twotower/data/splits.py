"""Which interaction is for training, which for validation, which for test."""

from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from twotower.data.dataset import Part
from twotower.errors import InputError
from twotower.types import OffsetArray

PartArray: TypeAlias = NDArray[np.uint8]
"""A `Part` for each interaction."""

_HELD_OUT = 2


class LeaveLastTwo(BaseModel):
    """Each user's last interaction is for test, the one before it for validation.

    Users with fewer than three interactions stay in train.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["leave-last-two"] = "leave-last-two"


class GlobalTime(BaseModel):
    """Two moments part the log: train lies before validation, validation before test.

    Attributes
    ----------
    validation, test
        Share of the interactions, the newest for test. Interactions of one moment are not
        parted, so that the shares are met as nearly as that allows.
    validation_from, test_from
        The two moments instead, in milliseconds since 1970; both or neither.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["global-time"] = "global-time"
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    validation_from: int | None = None
    test_from: int | None = None

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
        if self.validation + self.test >= 1:
            raise ValueError(
                "validation and test must leave something to train on, got "
                f"{self.validation} and {self.test}"
            )
        return self


class Given(BaseModel):
    """The files say it: one file a part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["given"] = "given"


Split: TypeAlias = Annotated[LeaveLastTwo | GlobalTime | Given, Field(discriminator="kind")]


def leave_last_two(indptr: OffsetArray) -> PartArray:
    """Parts of histories in time order, see `LeaveLastTwo`.

    Parameters
    ----------
    indptr
        ``(users + 1,)`` where each user's interactions begin.

    Examples
    --------
    >>> leave_last_two(np.array([0, 4, 6])).tolist()
    [0, 0, 1, 2, 0, 0]
    """
    parts = np.full(indptr[-1], Part.TRAIN, dtype=np.uint8)
    ends = indptr[1:][np.diff(indptr) > _HELD_OUT]
    parts[ends - 2] = Part.VALIDATION
    parts[ends - 1] = Part.TEST
    return parts


def global_time(timestamps: OffsetArray, split: GlobalTime) -> PartArray:
    """Parts by two moments, see `GlobalTime`.

    Parameters
    ----------
    timestamps
        ``(events,)`` int64 milliseconds, in any order.
    split
        The shares or the moments.

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
    parts: PartArray = (timestamps >= cuts[0]).astype(np.uint8)
    parts += timestamps >= cuts[1]
    if not (parts == Part.TRAIN).any():
        raise InputError(
            f"no interaction lies before {int(cuts[0])} ms, where validation begins: "
            "there is nothing to train on",
            "choose a later validation_from, or smaller shares",
        )
    return parts
