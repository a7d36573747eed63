from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.features import UserFeatures, user_inputs


@pytest.fixture
def features(make_catalogue: Callable[..., pl.DataFrame]) -> UserFeatures:
    return UserFeatures.fit(Histories.from_lists([[0, 1, 2], [2]]), make_catalogue(6))


def test_indices_are_shifted_by_one_and_the_newest_items_kept(features: UserFeatures) -> None:
    histories = Histories.from_lists([[0, 1, 2, 3], [5], []])
    out = user_inputs(Queries(np.array([7, -1, 0], dtype=np.int32), histories), features, 3)
    np.testing.assert_array_equal(out.users, [8, 0, 1])
    np.testing.assert_array_equal(out.items, [[2, 3, 4], [6, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(out.lengths, [3, 1, 0])
    assert [array.dtype for array in out] == [np.int64, np.int64, np.int64, np.float32]
    # Of the whole history, not of what the encoder keeps.
    np.testing.assert_array_equal(out.features, features.transform(histories))


def test_a_length_that_keeps_nothing_is_refused(features: UserFeatures) -> None:
    with pytest.raises(InputError, match=r"^length must be at least 1, got 0$"):
        user_inputs(Queries.anonymous(Histories.from_lists([[1]])), features, 0)
