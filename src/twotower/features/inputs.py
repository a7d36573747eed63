"""`UserInputs`: user-tower input arrays for training, evaluation and serving."""

from typing import NamedTuple

import numpy as np

from twotower.data import Queries
from twotower.errors import InputError
from twotower.features.user import UserFeatures
from twotower.types import FloatArray, OffsetArray


class UserInputs(NamedTuple):
    """A batch of user-tower inputs.

    Attributes
    ----------
    users
        ``(B,)`` int64 user index + 1; 0 for a user that training never saw.
    items
        ``(B, length)`` int64 item index + 1, oldest first, 0 behind the last.
    lengths
        ``(B,)`` int64 items held in ``items``, from 0 to ``length``.
    features
        ``(B, 8)`` float32 user features of the whole history, not only of its last items.
    """

    users: OffsetArray
    items: OffsetArray
    lengths: OffsetArray
    features: FloatArray


def user_inputs(queries: Queries, user_features: UserFeatures, length: int) -> UserInputs:
    """Turn queries into arrays that keep the newest ``length`` items of each history."""
    if length < 1:
        raise InputError(f"length must be at least 1, got {length}")
    items, lengths = queries.histories.padded(length)
    return UserInputs(
        queries.users.astype(np.int64) + 1,
        items.astype(np.int64),
        lengths,
        user_features.transform(queries.histories),
    )
