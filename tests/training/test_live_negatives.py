"""Negatives that the model has a part in: the queue, the hard ones, the curriculum."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from twotower.data import Histories
from twotower.errors import InputError
from twotower.factors.scorer import FactorScorer
from twotower.models.base import Batch, Embeddings, RetrievalModule
from twotower.training.examples import Examples
from twotower.training.negatives import Curriculum, Hard, InBatch, Queue, Stage, Uniform
from twotower.training.negatives.hard import HardMiner
from twotower.training.negatives.queue import VectorQueue

DIM, ITEMS = 3, 12


class Tables(RetrievalModule):
    """A model of two given tables, which counts how often it was asked for all its items."""

    def __init__(self, users: Any, items: Any) -> None:
        super().__init__()
        self.users, self.items = torch.tensor(users), torch.tensor(items)
        self.scorers = 0

    def forward(self, batch: Batch) -> Embeddings:
        assert not self.training
        rows = self.items[batch.negatives.clamp(min=0)]
        shared = self.items[batch.shared]
        positive = self.items[batch.positives]
        zero = torch.zeros(())
        return Embeddings.of(batch, self.users[batch.users], positive, rows, shared, zero)

    def scorer(self) -> FactorScorer:
        self.scorers += 1
        users = self.users.numpy()
        return FactorScorer(self.items.numpy(), lambda queries: users[queries.users])


def a_batch(train: Histories, config: Any, size: int = 64) -> Batch:
    return Examples(train, config.fit(train, ITEMS), size, 0).batch(0, 0)


LOGS = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=8), min_size=1, max_size=6)


@settings(max_examples=60)
@given(
    LOGS,
    st.integers(0, 2**32),
    st.sampled_from([None, 0.0, 0.3]),
    st.sampled_from([4, ITEMS, 50]),
    st.integers(1, 6),
)
def test_a_hard_negative_is_never_a_positive_nor_near_one(
    rows: Any, seed: int, margin: float | None, pool: int, count: int
) -> None:
    train = Histories.from_lists(rows)
    if not len(train.items):
        return
    rng = np.random.default_rng(seed)
    users, items = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (len(rows), ITEMS))
    config = Hard(count=count, pool=pool, margin=margin)
    batch = a_batch(train, config)
    module = Tables(users, items)
    mined = config.live(train, ITEMS, DIM, 0).before(batch, module, 0, 0)
    assert mined.negatives.shape == mined.negative_log_q.shape
    assert mined.negatives.shape[1] == min(count, pool, ITEMS)
    scores = users @ items.T
    for user, positive, found in zip(
        batch.users.tolist(), batch.positives.tolist(), mined.negatives.tolist(), strict=True
    ):
        real = [item for item in found if item >= 0]
        assert len(set(real)) == len(real)
        assert not set(real) & set(rows[user])
        assert found == real + [-1] * (len(found) - len(real))
        if margin is not None:
            assert (scores[user, real] <= scores[user, positive] - margin + 1e-5).all()
        if pool >= ITEMS:  # all that is allowed, hardest first
            highest = np.inf if margin is None else scores[user, positive] - margin
            allowed = [
                item
                for item in np.argsort(-scores[user], kind="stable")
                if item not in rows[user] and scores[user, item] <= highest
            ]
            assert real == allowed[: len(found)]


def test_a_larger_pool_is_harder() -> None:
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (40, 400))
    train = Histories.from_lists([[user] for user in range(40)])
    hardness = []
    for pool in (5, 50, 400):
        config = Hard(count=2, pool=pool)
        batch = Examples(train, config.fit(train, 400), 64, 0).batch(0, 0)
        mined = config.live(train, 400, DIM, 0).before(batch, Tables(users, items), 0, 0)
        rows = batch.users.numpy()[:, None]
        hardness.append((users[rows] * items[mined.negatives.numpy()]).sum(-1).mean())
    assert hardness[0] < hardness[1] < hardness[2]


def test_mining_is_a_function_of_position_and_leaves_the_mode_alone() -> None:
    rng = np.random.default_rng(0)
    module = Tables(rng.normal(size=(5, DIM)), rng.normal(size=(ITEMS, DIM)))
    train = Histories.from_lists([[user, user + 1] for user in range(5)])
    config = Hard(count=2, pool=5, refresh_steps=2)
    batch = a_batch(train, config)
    one, other = (config.live(train, ITEMS, DIM, 3) for _ in range(2))
    module.train()
    found = [[live.before(batch, module, 1, step) for step in range(4)] for live in (one, other)]
    assert module.training
    assert module.scorers == 4  # at steps 0 and 2 of each
    for a, b in zip(*found, strict=True):
        assert torch.equal(a.negatives, b.negatives)
    assert not torch.equal(found[0][0].negatives, found[0][1].negatives)


def test_items_are_as_of_the_last_refresh() -> None:
    rng = np.random.default_rng(0)
    module = Tables(rng.normal(size=(5, DIM)), rng.normal(size=(ITEMS, DIM)))
    train = Histories.from_lists([[user] for user in range(5)])
    config = Hard(count=1, pool=ITEMS, refresh_steps=10)
    live = config.live(train, ITEMS, DIM, 0)
    assert isinstance(live, HardMiner)
    batch = a_batch(train, config)
    live.before(batch, module, 0, 0)
    old = live.item_vectors.clone()
    module.items = module.items + 1
    live.before(batch, module, 0, 9)
    assert torch.equal(live.item_vectors, old)
    live.before(batch, module, 0, 10)
    assert torch.equal(live.item_vectors, old + 1)
    assert live.state_dict().keys() == {"item_vectors"}


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_hard_negative_counts_as_often_as_the_pool_has_it(in_batch: bool) -> None:
    train = Histories.from_lists([[0, 1], [0], [2]])
    config = Hard(count=2, pool=6, in_batch=in_batch)
    batch = a_batch(train, config, size=4)
    module = Tables(np.eye(3, dtype=np.float32), np.ones((ITEMS, DIM), np.float32))
    mined = config.live(train, ITEMS, DIM, 0).before(batch, module, 0, 0)
    often = np.log(6 / 12 / 4)  # in half of the pools; the batch has 4 examples
    np.testing.assert_allclose(mined.negative_log_q, np.full((4, 2), often), rtol=1e-6)
    shares = np.log(np.bincount(train.items) / 4)[batch.positives.numpy()]
    np.testing.assert_allclose(batch.log_q, shares if in_batch else np.full(4, often), rtol=1e-6)
    assert mined.in_batch == in_batch


def pushed(ids: list[int]) -> Embeddings:
    """A batch whose positives are the items, with vectors and log-q that name them."""
    positives = torch.tensor(ids)
    vectors = positives[:, None].float().repeat(1, DIM).requires_grad_()
    none = torch.zeros(len(ids), 0)
    batch = Batch(
        positives, positives, positives / 10, none.long(), none.long(), positives, none,
        in_batch=True,
    )  # fmt: skip
    nothing = torch.zeros(0, DIM)
    return Embeddings.of(batch, vectors, vectors, none[..., None], nothing, torch.zeros(()))


def test_a_queue_holds_the_newest_items_of_earlier_batches() -> None:
    queue = VectorQueue(5, DIM)
    seen = [
        queue.after(pushed(ids), 0) for ids in ([1, 2], [3, 4], [5, 6], list(range(10, 17)), [1])
    ]
    assert [one.shared_ids.tolist() for one in seen] == [
        [], [1, 2], [1, 2, 3, 4], [2, 3, 4, 5, 6], [12, 13, 14, 15, 16]
    ]  # fmt: skip
    for one in seen:
        assert not one.shared.requires_grad
        torch.testing.assert_close(one.shared, one.shared_ids[:, None].float().repeat(1, DIM))
        torch.testing.assert_close(one.shared_log_q, one.shared_ids / 10)


def test_a_queue_goes_on_from_its_state() -> None:
    one, other = VectorQueue(5, DIM), VectorQueue(5, DIM)
    one.after(pushed([1, 2, 3]), 0)
    other.load_state_dict(one.state_dict())
    for queue in (one, other):
        queue.after(pushed([4]), 0)
    found, again = (queue.after(pushed([5]), 0) for queue in (one, other))
    assert found.shared_ids.tolist() == [1, 2, 3, 4]
    for a, b in zip(found, again, strict=True):
        assert not isinstance(a, Tensor) or torch.equal(a, b)


def test_a_curriculum_goes_through_its_stages() -> None:
    train = Histories.from_lists([[0, 1], [2, 3], [4, 5]])
    config = Curriculum(
        stages=[
            Stage(from_epoch=0, negatives=Uniform(count=3)),
            Stage(from_epoch=2, negatives=InBatch()),
            Stage(from_epoch=3, negatives=Hard(count=2, pool=ITEMS)),
        ]
    )
    assert [config.stage(epoch) for epoch in range(6)] == [0, 0, 1, 2, 2, 2]
    examples = Examples(train, config.fit(train, ITEMS), 4, 0)
    live = config.live(train, ITEMS, DIM, 0)
    rng = np.random.default_rng(0)
    module = Tables(rng.normal(size=(3, DIM)), rng.normal(size=(ITEMS, DIM)))
    found = [live.before(examples.batch(epoch, 0), module, epoch, 0) for epoch in (0, 1, 2, 3)]
    assert [one.negatives.shape[1] for one in found] == [3, 3, 0, 2]
    assert [one.in_batch for one in found] == [False, False, True, False]
    assert module.scorers == 1


@pytest.mark.parametrize("starts", [[1], [0, 3, 3], [0, 2, 1]])
def test_a_curriculum_out_of_order_is_refused(starts: list[int]) -> None:
    with pytest.raises(
        InputError,
        match=rf"stages must begin at epoch 0 and go up, got from_epoch \[{starts[0]}.*\]; sort",
    ):
        Curriculum(stages=[Stage(from_epoch=at, negatives=InBatch()) for at in starts])


def test_a_queue_is_drawn_as_the_batch_is() -> None:
    train = Histories.from_lists([[0, 1], [0, 1], [0]])
    queue, batch = (a_batch(train, config, 4) for config in (Queue(size=7), InBatch()))
    for a, b in zip(queue, batch, strict=True):
        assert np.array_equal(a, b)
