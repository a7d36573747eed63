"""Whole histories as examples: what is predicted from what."""

from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Histories
from twotower.training.negatives import Candidates, Uniform
from twotower.training.sequences import SequenceExamples

TRAIN = Histories.from_lists([[0, 1, 2], [], [3], [1, 4, 0, 2], [2, 3], [4, 4]])
NEGATIVES = Candidates(sampled=Uniform(count=3)).fit(TRAIN, 5)


def examples(batch_size: int = 2, seed: int = 0, length: int = 50) -> SequenceExamples:
    return SequenceExamples(TRAIN, NEGATIVES, batch_size, seed, length=length)


def predictions(source: SequenceExamples, epoch: int) -> list[tuple[int, tuple[int, ...], int]]:
    """(user, items read, item predicted) of every example."""
    found = []
    for step in range(source.steps):
        batch = source.batch(epoch, step)
        rows, width = batch.histories.shape
        for user, place, item in zip(batch.users, batch.positions, batch.positives, strict=True):
            row, column = divmod(int(place), width)
            read = batch.histories[row, : column + 1] - 1
            assert row < rows
            found.append((int(user), tuple(read.tolist()), int(item)))
    return sorted(found)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_each_item_but_the_first_is_predicted_from_those_before_it(batch_size: int) -> None:
    expected = [
        (0, (0,), 1),
        (0, (0, 1), 2),
        (3, (1,), 4),
        (3, (1, 4), 0),
        (3, (1, 4, 0), 2),
        (4, (2,), 3),
        (5, (4,), 4),
    ]
    source = examples(batch_size)
    assert source.size == 4
    assert source.steps == -(-4 // batch_size)
    for epoch in range(3):
        assert predictions(source, epoch) == expected


def test_only_the_newest_items_are_read() -> None:
    found = predictions(examples(length=2), 0)
    assert [one for one in found if one[0] == 3] == [(3, (4,), 0), (3, (4, 0), 2)]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_is_a_function_of_its_position() -> None:
    source, fresh = examples(), examples()
    first = source.batch(4, 1)
    for epoch, step in ((0, 0), (4, 0), (7, 1)):
        source.batch(epoch, step)
    assert same(source.batch(4, 1), first)
    assert same(fresh.batch(4, 1), first)
    assert not all(
        same(examples(seed=1).batch(4, step), source.batch(4, step)) for step in range(2)
    )


def test_batches_have_the_documented_types() -> None:
    batch = examples().batch(0, 0)
    for part in (batch.users, batch.positives, batch.histories, batch.lengths, batch.positions):
        assert part.dtype == torch.int64
    assert batch.log_q.dtype == batch.shared_log_q.dtype == torch.float32
    assert batch.features.shape == (len(batch.users), 0)
    assert len(batch.lengths) == len(batch.histories)


def test_candidates_are_the_distinct_positives_and_a_draw() -> None:
    positives = np.array([4, 2, 2, 0])
    drawn = NEGATIVES.sample(np.zeros(4, np.int64), positives, np.random.default_rng(0), 0)
    assert drawn.shared[:3].tolist() == [0, 2, 4]
    assert len(drawn.shared) == 3 + 3
    assert not drawn.in_batch


def test_log_q_of_candidates_is_that_of_their_expected_number() -> None:
    """Known answer: how often each item came in many draws."""
    rng = np.random.default_rng(0)
    shares = np.bincount(TRAIN.items, minlength=5) / len(TRAIN.items)
    counts, log_q = np.zeros(5), np.zeros(5)
    for _ in range(4000):
        positives = rng.choice(5, size=6, p=shares)
        drawn = NEGATIVES.sample(np.zeros(6, np.int64), positives, rng, 0)
        counts += np.bincount(drawn.shared, minlength=5)
        log_q[drawn.shared] = drawn.shared_log_q
    np.testing.assert_allclose(np.exp(log_q) * 6, counts / 4000, rtol=0.05)


LONG = Histories.from_lists([list(range(23)), [3, 1], [], [7], [9, 8, 7, 6, 5, 4], [2, 0, 2, 0, 2]])
PREDICTED = sorted(
    (user, place, int(LONG.row(user)[place]))
    for user in range(len(LONG))
    for place in range(1, int(LONG.lengths[user]))
)


def whole(positions: int = 8, length: int = 4, seed: int = 0) -> SequenceExamples:
    negatives = Candidates(sampled=Uniform(count=3)).fit(LONG, 23)
    return SequenceExamples(LONG, negatives, 1, seed, length=length, batch_positions=positions)


@pytest.mark.parametrize("length", [1, 2, 4, 22, 50])
@pytest.mark.parametrize("positions", [1, 4, 8, 1000])
def test_windows_predict_every_item_but_the_first_once_an_epoch(
    positions: int, length: int
) -> None:
    source = whole(positions, length)
    assert source.size == len(PREDICTED)
    for epoch in range(4):
        found = predictions(source, epoch)
        assert sorted((user, item) for user, _, item in found) == sorted(
            (user, item) for user, _, item in PREDICTED
        )
        for user, read, item in found:
            history = LONG.row(user).tolist()
            assert 1 <= len(read) <= length
            assert [*read, item] in [
                history[end - len(read) : end + 1] for end in range(len(read), len(history))
            ]


def test_windows_are_cut_at_other_places_in_every_epoch() -> None:
    source = whole()
    reads = {tuple(read for _, read, _ in predictions(source, epoch)) for epoch in range(6)}
    assert len(reads) > 1
    assert predictions(source, 2) == predictions(whole(), 2)


def test_without_an_order_it_is_drawn_anew_in_every_epoch() -> None:
    negatives = Candidates(sampled=Uniform(count=3)).fit(LONG, 23)

    def drawn(seed: int = 0) -> SequenceExamples:
        return SequenceExamples(
            LONG, negatives, 1, seed, length=50, batch_positions=60, in_order=False
        )

    source, orders = drawn(), set()
    for epoch in (0, 1, 2, 1):
        found = predictions(source, epoch)
        assert len(found) == len(PREDICTED)
        longest = {user: (*read, item) for user, read, item in found}  # sorted: the last is whole
        by_length = sorted(found, key=lambda one: len(one[1]))
        whole_orders = {user: (*read, item) for user, read, item in by_length}
        for user, order in whole_orders.items():
            assert sorted(order) == sorted(LONG.row(user).tolist())
        assert longest.keys() == whole_orders.keys() == {0, 1, 4, 5}
        orders.add(whole_orders[0])
        assert found == predictions(drawn(), epoch)
    assert len(orders) == 3


def test_batches_of_positions_are_of_like_size() -> None:
    source = whole(positions=8)
    sizes = [len(source.batch(1, step).positives) for step in range(source.steps)]
    assert source.steps == len(PREDICTED) // 8
    assert sum(sizes) == len(PREDICTED)
    assert all(abs(size - len(PREDICTED) / source.steps) <= 4 for size in sizes)


def test_a_log_with_nothing_to_predict_has_no_batches() -> None:
    single = Histories.from_lists([[1], [], [2]])
    negatives = Candidates(sampled=Uniform(count=3)).fit(single, 3)
    source = SequenceExamples(single, negatives, 1, 0, length=4, batch_positions=8)
    assert (source.size, source.steps) == (0, 0)
