from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.data import Part
from twotower.data.splits import (
    GlobalTime,
    Random,
    Rolling,
    global_time,
    leave_last_two,
    random_parts,
)
from twotower.errors import InputError

LENGTHS = st.lists(st.integers(0, 9), max_size=20)


@given(LENGTHS)
def test_leave_last_two_holds_out_the_last_two(lengths: list[int]) -> None:
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = leave_last_two(indptr)
    assert len(parts) == sum(lengths)
    for user, length in enumerate(lengths):
        mine = parts[indptr[user] : indptr[user + 1]].tolist()
        if length < 3:
            assert mine == [Part.TRAIN] * length
        else:
            assert mine == [Part.TRAIN] * (length - 2) + [Part.VALIDATION, Part.TEST]


TIMES = st.lists(st.integers(0, 50), min_size=5, max_size=60)
SHARES = st.floats(0.05, 0.4)


@given(TIMES, SHARES, SHARES)
def test_global_time_never_trains_on_the_future(
    times: list[int], validation: float, test: float
) -> None:
    stamps = np.asarray(times, dtype=np.int64)
    try:
        parts = global_time(stamps, GlobalTime(validation=validation, test=test))
    except InputError:
        first = sorted(times)[int(np.floor(len(times) * (1 - validation - test) + 1e-9))]
        assert first == min(times)
        return
    for earlier, later in ((Part.TRAIN, Part.VALIDATION), (Part.VALIDATION, Part.TEST)):
        before, after = stamps[parts <= earlier], stamps[parts >= later]
        assert before.max() < after.min()


@given(st.permutations(range(40)), SHARES, SHARES)
def test_global_time_meets_the_shares(times: list[int], validation: float, test: float) -> None:
    parts = global_time(np.asarray(times), GlobalTime(validation=validation, test=test))
    held_out = int((parts == Part.TEST).sum())
    assert held_out == pytest.approx(40 * test, abs=1)
    assert int((parts != Part.TRAIN).sum()) == pytest.approx(40 * (validation + test), abs=1)


def test_global_time_keeps_one_moment_together() -> None:
    parts = global_time(np.array([1, 1, 1, 2, 2, 2, 2, 3, 3, 3]), GlobalTime())
    assert parts.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


def test_global_time_trains_on_the_first_moment_before_it_validates() -> None:
    """Two moments make two parts; the first is never given away to validation."""
    assert global_time(np.array([1, 1, 2, 2]), GlobalTime()).tolist() == [0, 0, 2, 2]


def test_global_time_takes_moments() -> None:
    split = GlobalTime(validation_from=10, test_from=20)
    assert global_time(np.array([9, 10, 19, 20, 5]), split).tolist() == [0, 1, 1, 2, 0]


@given(LENGTHS, st.integers(0, 3))
def test_a_random_split_leaves_everybody_something_to_train_on(
    lengths: list[int], seed: int
) -> None:
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    parts = random_parts(indptr, Random(seed=seed))
    assert len(parts) == sum(lengths)
    for user, length in enumerate(lengths):
        mine = parts[indptr[user] : indptr[user + 1]]
        assert (mine == Part.TRAIN).any() or length == 0
    free = sum(max(length - 1, 0) for length in lengths)
    for part in (Part.VALIDATION, Part.TEST):
        held_out = int((parts == part).sum())
        if free >= 0.2 * sum(lengths) + 2:
            assert held_out == pytest.approx(max(0.1 * sum(lengths), 1), abs=0.5)


def test_global_time_needs_something_to_train_on() -> None:
    with pytest.raises(InputError, match=r"no interaction lies before 5 ms.*later validation_from"):
        global_time(np.array([5, 6]), GlobalTime(validation_from=5, test_from=6))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation_from": 5}, "go together, got 5 and None"),
        ({"validation_from": 5, "test_from": 4}, "must not lie after test_from, got 5 and 4"),
        ({"validation": 0.5, "test": 0.5}, "leave something to train on, got 0.5 and 0.5"),
        ({"test": 0}, "greater than 0"),
        ({"tests": 0.1}, "unknown key"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GlobalTime(**values)


@given(TIMES, st.integers(1, 4))
def test_windows_of_rolling_follow_one_another(times: list[int], folds: int) -> None:
    stamps = np.asarray(times, dtype=np.int64)
    cuts = [Rolling(folds=folds, fold=1 + fold, test=0.2).cuts(stamps) for fold in range(folds)]
    for (_, end), (later, _) in pairwise(cuts):
        assert end == later.test_from
    assert cuts[-1][1] is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 2, "fold": 3}, "fold must be at most folds 2, got 3"),
        ({"folds": 9}, "leave something to train on"),
        ({"fold": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_folds_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Rolling(**values)  # type: ignore[arg-type]
