import numpy as np
import pytest

from twotower.data import Histories
from twotower.data.histories import LogFacts
from twotower.models.history import TransformerConfig
from twotower.models.sequence_towers import SequenceConfig
from twotower.training.sizing import sized
from twotower.workflow.variants import VARIANTS


def log(users: int, length: int) -> Histories:
    indptr = np.arange(users + 1, dtype=np.int64) * length
    return Histories(indptr, np.arange(users * length, dtype=np.int32) % 2_000)


def test_facts_leave_out_histories_with_nothing_to_predict() -> None:
    assert LogFacts.of(Histories.from_lists([[1, 2, 3], [], [4], [5, 6, 7, 8, 9]])) == (
        6,
        4.0,
        9 / 9,
        True,
    )
    nothing = LogFacts.of(Histories.from_lists([[1], []]))
    assert nothing == (0, 0.0, 1.0, True)
    assert nothing.users == 0


@pytest.mark.parametrize(
    ("users", "length", "expected"),
    [
        (20_000, 7, (50, 1, 128, 1024)),  # short histories, as of a shop
        (6_000, 160, (200, 2, 128, 2048)),  # long ones, as of films
        (400, 90, (100, 2, 64, 1024)),
        (1_000, 900, (200, 2, 128, 2048)),
        (3, 1, (50, 1, 64, 1024)),
    ],
)
def test_sizes_follow_from_the_log(
    users: int, length: int, expected: tuple[int, int, int, int]
) -> None:
    found = sized(VARIANTS["v10"], log(users, length), in_order=True)
    assert isinstance(found.model, SequenceConfig)
    history = found.model.history
    assert history.kind == "transformer"
    sizes = (history.length, history.layers, found.model.embedding_dim)
    assert (*sizes, found.training.batch_positions) == expected
    thin = users * length / 2_000 < 100
    assert found.model.item_dropout == (0.2 if thin else 0.0)
    assert found.model.start_from_factors is not thin
    assert found.sizing == "fixed"
    assert sized(found, log(2, 2), in_order=True) == found


@pytest.mark.parametrize(
    ("users", "length", "expected"),
    [(100, 10, 50), (3_000, 20, 110), (20_000, 7, 234), (6_000, 160, 250)],
)
def test_a_small_log_is_validated_every_other_epoch(users: int, length: int, expected: int) -> None:
    assert (
        sized(VARIANTS["v10"], log(users, length), in_order=True).training.validate_steps
        == expected
    )


@pytest.mark.parametrize(
    ("users", "length", "expected"),
    [
        (100, 10, 2),  # small: time counts
        (950, 100, 4),
        (6_000, 160, 4),
        (20_000, 7, 2),
    ],
)
def test_few_users_with_much_to_learn_from_are_given_patience(
    users: int, length: int, expected: int
) -> None:
    v10 = VARIANTS["v10"]
    assert LogFacts.of(log(users, length)).users == users
    assert sized(v10, log(users, length), in_order=True).training.patience == expected
    for chosen in (None, 7):
        longer = v10.vary(training=v10.training.vary(patience=chosen))
        assert sized(longer, log(users, length), in_order=True).training.patience == chosen


def test_where_held_out_items_are_drawn_at_random_no_order_is_read() -> None:
    v10 = VARIANTS["v10"]
    assert isinstance(v10.model, SequenceConfig)
    for in_order in (True, False):
        found = sized(v10, log(600, 9), in_order=in_order)
        assert isinstance(found.model, SequenceConfig)
        assert found.model.in_order is in_order
    chosen = v10.vary(model=v10.model.vary(in_order=False))
    found = sized(chosen, log(600, 9), in_order=True)
    assert isinstance(found.model, SequenceConfig)
    assert not found.model.in_order


def test_fixed_sizes_stay() -> None:
    for name in ("v9", "v5", "mf"):
        assert sized(VARIANTS[name], log(10, 10), in_order=True) is VARIANTS[name]


def test_sizes_that_were_chosen_stay() -> None:
    v10 = VARIANTS["v10"]
    assert isinstance(v10.model, SequenceConfig)
    history = TransformerConfig(length=30, hidden_dim=32)
    chosen = v10.vary(
        model=v10.model.vary(embedding_dim=32, item_dropout=0.1, history=history),
        training=v10.training.vary(batch_positions=512, patience=5),
    )
    assert sized(chosen, log(600, 160), in_order=True) == chosen.vary(sizing="fixed")
