"""The search for settings of the least-squares part: it finds what the log is like."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset, Histories, Part
from twotower.data.splits import leave_last_two
from twotower.evaluation.protocols import validation_ndcg
from twotower.factors.als import ALS, ALSConfig, fit_factors
from twotower.models.sequence import SequenceTower
from twotower.training.storage import load_trained, save_trained
from twotower.workflow import selection
from twotower.workflow.models import summary, train_variant
from twotower.workflow.selection import ChosenFactors, FactorSettings, choose_factors

START = FactorSettings(ALSConfig(embedding_dim=16, next_item=True), None)


def of_lists(blocks: Dataset, lists: list[list[int]]) -> Dataset:
    log = Histories.from_lists(lists)
    return replace(blocks, interactions=log, split=leave_last_two(log.indptr))


@pytest.fixture(scope="module")
def in_order(blocks: Dataset) -> Dataset:
    """Every item is followed by the next one, now and then by the one after that."""
    rng = np.random.default_rng(0)
    lists = []
    for _ in range(60):
        steps = rng.choice([1, 2], 10, p=[0.8, 0.2])
        lists.append(((rng.integers(40) + np.cumsum(steps)) % 40).tolist())
    return of_lists(blocks, lists)


@pytest.fixture(scope="module")
def without_order(blocks: Dataset) -> Dataset:
    """Two kinds of items; a user has those of one kind, in any order."""
    rng = np.random.default_rng(0)
    lists = [(2 * rng.permutation(20)[:10] + user % 2).tolist() for user in range(60)]
    return of_lists(blocks, lists)


def test_a_log_in_order_gets_what_comes_next(in_order: Dataset) -> None:
    found = choose_factors(in_order, START, None)
    config = found.settings.factors
    assert config.next_item
    assert config.recency < 1
    chosen = validation_ndcg(ALS.fit(in_order.train, 40, config), in_order)
    assert chosen >= validation_ndcg(ALS.fit(in_order.train, 40, START.factors), in_order)


def test_a_log_without_order_forgets_nothing(without_order: Dataset) -> None:
    found = choose_factors(without_order, START, None)
    assert found.settings.factors.recency >= 0.75
    first = found.trials[0]
    assert first["setting"] == "start"
    assert found.metric >= first["NDCG@10"] - 1e-5
    assert max(one["NDCG@10"] for one in found.trials) >= found.metric - 1e-5


def test_with_repeats_what_was_had_is_ranked_too(blocks: Dataset) -> None:
    """Users draw from six items of their own; without the others it would be found at once."""
    rng = np.random.default_rng(0)
    lists = [rng.choice(rng.permutation(40)[:6], 14).tolist() for _ in range(60)]
    again = of_lists(blocks, lists)
    assert again.has_repeats
    assert choose_factors(again, START, None).metric < 0.75  # a good guess among six is 0.6


def test_equal_runs_choose_alike_and_no_test_interaction_counts(in_order: Dataset) -> None:
    one = choose_factors(in_order, START, None)
    items = in_order.interactions.items.copy()
    of_test = in_order.split == Part.TEST
    rows = in_order.interactions.rows[of_test]
    free = [np.setdiff1d(np.arange(40), in_order.interactions.row(row))[0] for row in rows]
    items[of_test] = free  # whether the log has repeats is known of all of it
    other = replace(in_order, interactions=replace(in_order.interactions, items=items))
    two = choose_factors(other, START, None)
    assert one.settings == two.settings
    assert one.trials == two.trials


def test_a_model_is_made_with_what_was_chosen_and_read_again(
    in_order: Dataset, small_variants: Any, block_text: Any, tmp_path: Any
) -> None:
    v9 = small_variants["v9"]
    variant = v9.vary(model=v9.model.vary(choose_factors=True))
    trained = train_variant(variant, in_order)
    assert "least squares chosen from" in summary(trained)
    record = trained.chosen["least_squares"]
    assert isinstance(trained.module, SequenceTower)
    assert trained.module.config == variant.model.with_chosen({"least_squares": record})
    assert trained.module.config.factors != variant.model.factors
    assert record["trials"]
    save_trained(tmp_path / "model", "v9", trained, in_order)
    again = load_trained(tmp_path / "model", in_order, block_text)
    assert again.variant == variant
    assert again.chosen["least_squares"] == record
    for name, value in trained.module.state_dict().items():
        assert (again.module.state_dict()[name] == value).all()


def test_what_was_chosen_is_a_record_of_plain_values() -> None:
    record = ChosenFactors(
        START, 0.1, [{"setting": "start", "value": None, "NDCG@10": 0.1}]
    ).record()
    assert record["factors"]["next_item"] is True
    assert record["smoothing"] is None


def test_a_large_log_is_searched_on_a_sample_of_its_users(
    in_order: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[int, float]] = []

    def watched(train: Histories, *args: Any) -> Any:
        fitted.append((len(train.items), args[-1]))
        return fit_factors(train, *args)

    monkeypatch.setattr(selection, "fit_factors", watched)
    monkeypatch.setattr(selection, "TRIAL_EVENTS", len(in_order.train.items) // 2)
    found = choose_factors(in_order, START, None)
    assert found.trials
    assert fitted
    assert all(share == pytest.approx(0.5, abs=0.01) for _, share in fitted)
    assert all(events < 0.8 * len(in_order.train.items) for events, _ in fitted)


def test_other_discounts_are_tried_at_each_width(in_order: Dataset) -> None:
    found = choose_factors(in_order, FactorSettings(ALSConfig(embedding_dim=128), None), None)
    widths = [trial for trial in found.trials if trial["setting"] == "embedding_dim"]
    assert len(widths) >= 3
    assert {trial["value"] for trial in widths[:3]} == {128}


def test_a_search_that_is_out_of_time_only_widens(in_order: Dataset) -> None:
    found = choose_factors(in_order, START, None, seconds=0)
    assert {trial["setting"] for trial in found.trials} <= {"start", "embedding_dim"}
    assert not found.settings.factors.next_item
