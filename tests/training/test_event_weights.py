"""What weights and target kinds of events change in training, by known answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Dataset, Histories, Part, Queries
from twotower.data.events import EventRules
from twotower.evaluation.protocols import evaluate, validation_ndcg
from twotower.evaluation.tasks import AllUsers
from twotower.factors.als import ALSConfig, fit_factors, fold_in, following_factors
from twotower.factors.ease import EASE
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity
from twotower.models.base import Embeddings
from twotower.models.build import build_model
from twotower.training.examples import Examples, event_examples
from twotower.training.fit import fit
from twotower.training.losses import BPR, InfoNCE, LossConfig, SampledSoftmax
from twotower.training.negatives.base import Drawn
from twotower.training.sequences import SequenceExamples
from twotower.training.trainer import TrainingConfig

RULES = EventRules(weights={"view": 0.25, "buy": 1.0}, target=("buy",), learn="target")
VIEW, BUY = 0, 1


def log_of(*rows: list[tuple[int, int]], rules: EventRules = RULES) -> Histories:
    """Histories of rows of item and kind."""
    plain = Histories.from_lists([[item for item, _ in row] for row in rows])
    kinds = np.array([kind for row in rows for _, kind in row], dtype=np.uint8)
    worth = np.array([0.25, 1.0], dtype=np.float32)[kinds]
    return replace(plain, weights=worth, kinds=kinds, rules=rules)


class NoNegatives:
    """A sampler of none, which fits every example source."""

    def sample(self, users: Any, positives: Any, rng: Any, epoch: int) -> Drawn:
        del rng, epoch
        empty = np.zeros((len(users), 0))
        return Drawn(
            negatives=empty.astype(np.int64),
            log_q=np.zeros(len(users), np.float32),
            negative_log_q=empty.astype(np.float32),
            shared=np.zeros(0, np.int64),
            shared_log_q=np.zeros(0, np.float32),
            in_batch=True,
        )


def embeddings(weights: list[float]) -> Embeddings:
    """Three examples with shared negatives."""
    rng = torch.Generator().manual_seed(0)

    def rows(count: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(count, 4, generator=rng), dim=-1)

    return Embeddings(
        query=rows(3), positive=rows(3), negative=torch.empty(3, 0, 4), shared=rows(5),
        users=torch.arange(3), positive_ids=torch.arange(3),
        negative_ids=torch.empty(3, 0, dtype=torch.int64), shared_ids=torch.arange(10, 15),
        log_q=torch.zeros(3), negative_log_q=torch.empty(3, 0), shared_log_q=torch.zeros(5),
        in_batch=False, squared_norm=torch.zeros(()), weights=torch.tensor(weights),
    )  # fmt: skip


@pytest.mark.parametrize("loss", [BPR(regularisation=0), InfoNCE(), SampledSoftmax()])
def test_an_example_counts_by_its_weight(loss: LossConfig) -> None:
    def of(*weights: float) -> float:
        return float(loss(embeddings(list(weights))))

    assert of() == pytest.approx(of(1, 1, 1)) == pytest.approx(of(7, 7, 7))
    single = [of(*row) for row in np.eye(3).tolist()]
    assert of(1, 2, 5) == pytest.approx((single[0] + 2 * single[1] + 5 * single[2]) / 8, rel=1e-5)


@pytest.mark.parametrize("batch_positions", [None, 8])
def test_a_sequence_predicts_target_kinds_from_all_kinds(batch_positions: int | None) -> None:
    log = log_of(
        [(0, VIEW), (1, BUY), (2, VIEW), (3, BUY)], [(4, VIEW), (5, VIEW)], [(6, BUY), (7, VIEW)]
    )
    source = SequenceExamples(
        log, NoNegatives(), 4, 0, length=4, batch_positions=batch_positions  # type: ignore[arg-type]
    )  # fmt: skip
    batches = [source.batch(0, step) for step in range(source.steps)]
    assert sorted(torch.cat([batch.positives for batch in batches]).tolist()) == [1, 3]
    assert set(torch.cat([batch.users for batch in batches]).tolist()) == {0}
    read = batches[0].histories[0][batches[0].histories[0] > 0] - 1
    assert read.tolist() == [0, 1, 2]  # views are read


def test_without_an_order_a_target_is_predicted_wherever_it_stands() -> None:
    """The purchase that comes first in the log is drawn to another place, or moved there."""
    log = log_of([(0, BUY), (1, VIEW)], [(2, BUY)], [(3, VIEW), (4, VIEW)])
    source = SequenceExamples(
        log, NoNegatives(), 4, 0, length=4, batch_positions=8, in_order=False  # type: ignore[arg-type]
    )  # fmt: skip
    for epoch in range(8):
        batch = source.batch(epoch, 0)
        assert batch.positives.tolist() == [0]
        assert batch.users.tolist() == [0]
        assert batch.weights.tolist() == [1.0]
        assert batch.histories.tolist() == [[2]]


def test_with_learn_all_every_position_is_predicted_by_its_weight() -> None:
    rules = RULES.model_copy(update={"learn": "all"})
    log = log_of([(0, VIEW), (1, BUY), (2, VIEW)], rules=rules)
    batch = SequenceExamples(log, NoNegatives(), 4, 0, length=4).batch(0, 0)  # type: ignore[arg-type]
    assert batch.positives.tolist() == [1, 2]
    assert batch.weights.tolist() == [1.0, 0.25]


@pytest.mark.parametrize("sampling", ["interactions", "users"])
def test_events_of_no_weight_are_no_examples(sampling: Any) -> None:
    log = log_of([(0, VIEW), (1, BUY)], [(2, VIEW)], [(3, BUY)])
    source = Examples(log, NoNegatives(), 8, 0, sampling=sampling, weights=log.learned)  # type: ignore[arg-type]
    assert source.size == 2
    assert set(source.batch(0, 0).positives.tolist()) <= {1, 3}


def test_an_event_of_weight_four_counts_as_four_in_the_neighbourhood() -> None:
    """Two users of both items, one of them with weights of 4: as five users."""
    heavy = replace(Histories.from_lists([[0, 1], [0, 1], [0]]))
    heavy = replace(heavy, weights=np.array([4, 4, 1, 1, 1], dtype=np.float32))
    many = Histories.from_lists([[0, 1]] * 5 + [[0]])
    for fitted in (ItemKNN.fit(heavy, 2), ItemKNN.fit(many, 2)):
        assert fitted.similarity[0, 1] == pytest.approx(5 / np.sqrt(6 * 5))
    weights = [EASE.fit(log, 2, regularisation=1.0).weights for log in (heavy, many)]
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-6)
    assert Popularity.fit(heavy, 2).counts.tolist() == [6, 5]


def test_weights_of_one_change_no_factor() -> None:
    rng = np.random.default_rng(0)
    plain = Histories.from_lists([rng.permutation(12)[:5].tolist() for _ in range(30)])
    ones = replace(plain, weights=np.ones(len(plain.items), dtype=np.float32))
    config = ALSConfig(embedding_dim=4, next_item=True)
    read = [fit_factors(log, 12, config) for log in (plain, ones)]
    np.testing.assert_allclose(*read, atol=1e-5)
    after = [following_factors(log, read[0], config) for log in (plain, ones)]
    np.testing.assert_allclose(*after, atol=1e-5)


def test_a_folded_in_event_has_the_confidence_times_its_weight() -> None:
    """Alone and among others; an item of weight 2 as one of twice the confidence."""
    rng = np.random.default_rng(1)
    log = Histories.from_lists([rng.permutation(12)[:5].tolist() for _ in range(30)])
    factors = fit_factors(log, 12, ALSConfig(embedding_dim=4))
    config = ALSConfig(embedding_dim=4, recency=1.0, fold_in_confidence=5.0)
    doubled = config.vary(fold_in_confidence=10.0)
    one = Histories.from_lists([[3, 7]])
    heavy = replace(one, weights=np.array([2, 2], dtype=np.float32))
    both = replace(Histories.from_lists([[3, 7], [1, 2]]), weights=np.full(4, 2, np.float32))
    wanted = fold_in(factors, doubled)(one)
    np.testing.assert_allclose(fold_in(factors, config)(heavy), wanted, rtol=1e-4)
    np.testing.assert_allclose(fold_in(factors, config)(both)[:1], wanted, rtol=1e-4)


def test_what_follows_a_prefix_is_fitted_for_target_kinds_alone() -> None:
    rows = [[(0, BUY), (1, BUY), (2, VIEW)], [(1, BUY), (0, BUY), (2, VIEW)]] * 5
    log = log_of(*rows)
    config = ALSConfig(embedding_dim=2)
    factors = fit_factors(log, 3, config)
    followed = following_factors(log, factors, config)
    assert followed[:2].any(axis=1).all()
    assert not followed[2].any()


@pytest.fixture(scope="module")
def kinds_of_blocks(blocks: Dataset) -> Dataset:
    """``blocks`` with every other event a view, and item 0 returned by the first users."""
    log = blocks.interactions
    kinds = (np.arange(len(log.items)) % 2).astype(np.uint8)
    kinds[log.indptr[1:] - 1] = BUY
    kinds[log.indptr[1:] - 2] = BUY
    weights = np.array([0.25, 1.0], dtype=np.float32)[kinds]
    rules = RULES.model_copy(update={"seen": ("buy",)})
    back = Histories.from_lists([[5] if user < 3 else [] for user in range(len(log))])
    return replace(
        blocks,
        interactions=replace(log, kinds=kinds, weights=weights, rules=rules),
        returned=back,
    )


def test_views_stay_candidates_and_returns_do_not(kinds_of_blocks: Dataset) -> None:
    task = AllUsers()(kinds_of_blocks, Part.TEST)
    log = kinds_of_blocks.interactions
    assert log.kinds is not None
    for user in (0, 10):
        span = slice(int(log.indptr[user]), int(log.indptr[user + 1]) - 1)
        bought = log.items[span][log.kinds[span] == BUY].tolist()
        assert sorted(task.seen.row(user)) == sorted([*bought, *([5] if user < 3 else [])])


@pytest.mark.parametrize(("name", "reads_histories"), [("v1", False), ("v5", True)])
def test_a_two_tower_that_reads_histories_predicts_target_kinds_alone(
    name: str,
    kinds_of_blocks: Dataset,
    block_text: Any,
    small_variants: Any,
    *,
    reads_histories: bool,
) -> None:
    train = kinds_of_blocks.train
    module = build_model(small_variants[name].model, kinds_of_blocks, block_text)
    source = event_examples(module, train, NoNegatives(), TrainingConfig(), 0)  # type: ignore[arg-type]
    assert train.kinds is not None
    buys = int((train.kinds == BUY).sum())
    assert 0 < buys < len(train.items)
    assert source.size == (buys if reads_histories else len(train.items))


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v5", "v9", "v10"])
def test_every_family_trains_on_kinds(
    name: str, kinds_of_blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    trained = fit(
        small_variants[name],
        kinds_of_blocks,
        validate=lambda module: validation_ndcg(module.scorer(), kinds_of_blocks),
        text=block_text,
        least_squares=None,
    )
    found = evaluate(trained.module.scorer(), kinds_of_blocks, protocols=("full",))
    assert 0 <= found.mean("full", "NDCG@10") <= 1
    queries, _ = kinds_of_blocks.held_out(Part.TEST)
    assert np.isfinite(
        trained.module.scorer().scores(Queries(queries.users, queries.histories))
    ).all()
