from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twotower.data import Dataset, Histories
from twotower.features import UserFeatures
from twotower.models.base import no_context
from twotower.models.two_tower import HistoryContext
from twotower.training.examples import Examples
from twotower.training.negatives import InBatch, Uniform

TRAIN = Histories.from_lists([[0, 1, 2], [], [3], [1, 4, 0, 2]])
EVENTS = [(0, 0), (0, 1), (0, 2), (2, 3), (3, 1), (3, 4), (3, 0), (3, 2)]


def examples(batch_size: int = 3, seed: int = 0, **given: Any) -> Examples:
    negatives = Uniform(count=2).fit(TRAIN, 5)
    return Examples(TRAIN, negatives, batch_size, seed, **given)


def pairs(source: Examples, epoch: int) -> list[tuple[int, int]]:
    batches = [source.batch(epoch, step) for step in range(source.steps)]
    return [
        (int(user), int(item))
        for batch in batches
        for user, item in zip(batch.users, batch.positives, strict=True)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_an_epoch_holds_every_event_once(batch_size: int) -> None:
    source = examples(batch_size)
    assert source.size == 8
    assert source.steps == -(-8 // batch_size)
    for epoch in range(3):
        assert sorted(pairs(source, epoch)) == sorted(EVENTS)
    assert pairs(source, 0) != pairs(source, 1)


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_batch_is_a_function_of_its_position() -> None:
    source, fresh = examples(), examples()
    first = source.batch(4, 1)
    for epoch, step in ((0, 0), (4, 2), (7, 1)):
        source.batch(epoch, step)
    assert same(source.batch(4, 1), first)
    assert same(fresh.batch(4, 1), first)
    assert not same(examples(seed=1).batch(4, 1), first)


def test_batches_have_the_documented_types() -> None:
    batch = examples().batch(0, 0)
    for part in (batch.users, batch.positives, batch.negatives, batch.histories, batch.lengths):
        assert part.dtype == torch.int64
    assert batch.log_q.dtype == batch.features.dtype == torch.float32
    assert batch.negatives.shape == (3, 2)
    assert batch.histories.shape == batch.features.shape == (3, 0)


def test_log_q_is_the_log_share_of_the_positive() -> None:
    batch = Examples(TRAIN, InBatch().fit(TRAIN, 5), 8, 0).batch(0, 0)
    assert batch.in_batch
    counts = np.bincount(TRAIN.items)
    expected = np.log(counts[batch.positives.numpy()] / 8)
    np.testing.assert_allclose(batch.log_q.numpy(), expected, rtol=1e-6)


def test_users_sampling_draws_a_uniform_user_and_one_of_their_items() -> None:
    train = Histories.from_lists([[0] * 90 + [1] * 10, [], [2], [3, 4]] * 20)
    source = Examples(train, InBatch().fit(train, 5), 500, 0, sampling="users")
    found = [pair for epoch in range(10) for pair in pairs(source, epoch)]
    assert len(found) == 10 * source.size
    users = np.array([user % 4 for user, _ in found])
    np.testing.assert_allclose(np.bincount(users) / len(found), [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)
    items = np.bincount([item for _, item in found]) / len(found)
    np.testing.assert_allclose(items, np.array([0.9, 0.1, 1, 0.5, 0.5]) / 3, atol=0.02)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=6),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_a_context_is_what_came_strictly_before(rows: Any, length: int, random: Any) -> None:
    train = Histories.from_lists(rows)
    total = len(train.items)
    if total == 0:
        return
    running = np.arange(total, dtype=np.float32)[:, None]  # features that name their event
    context = HistoryContext(train, length, running, np.array([-1], np.float32))
    order = random.sample(range(total), total)
    histories, lengths, features = context(np.array(order))
    position = [(row, place) for row, items in enumerate(rows) for place in range(len(items))]
    for index, event in enumerate(order):
        row, place = position[event]
        before = rows[row][:place][-length:]
        assert lengths[index] == len(before)
        assert histories[index, : len(before)].tolist() == [item + 1 for item in before]
        assert (histories[index, len(before) :] == 0).all()
        # The features after the event before this one; those of nobody for the first.
        assert features[index, 0] == (event - 1 if place else -1)


def test_a_target_or_a_later_event_changes_no_context(blocks: Dataset) -> None:
    train = blocks.train
    events = np.flatnonzero(np.arange(len(train.items)) - np.repeat(train.indptr[:-1], 10) == 6)
    changed = train.items.copy()
    for later in range(4):  # the target, and the three after it
        changed[events + later] = (changed[events + later] + 2) % 40
    assert train.timestamps is not None
    assert train.ratings is not None
    other = replace(train, items=changed, ratings=train.ratings.copy())
    for later in range(4):
        other.ratings[events + later] = 1.0
    features = UserFeatures.fit(train, blocks.catalogue)
    found = [
        HistoryContext(log, 4, features.running(log), features.empty)(events)
        for log in (train, other)
    ]
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_no_context_is_of_no_width() -> None:
    histories, lengths, features = no_context(np.array([4, 2]))
    assert histories.shape == features.shape == (2, 0)
    assert lengths.tolist() == [0, 0]
