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
