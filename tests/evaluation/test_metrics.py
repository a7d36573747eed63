from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranx import evaluate as ranx_evaluate

from twotower.data import Dataset, Part, columns
from twotower.errors import InputError
from twotower.evaluation.metrics import (
    hit_rate_at_k,
    metric_values,
    mrr,
    ndcg_at_k,
    recall_at_k,
    revenue_at_k,
)
from twotower.evaluation.protocols import evaluate
from twotower.evaluation.ranking import Ranks
from twotower.factors.popularity import Popularity

NUM_ITEMS = 12
RANX_NAMES = {
    "HR@5": "hit_rate@5",
    "HR@10": "hit_rate@10",
    "Recall@5": "recall@5",
    "Precision@5": "precision@5",
    "MAP@3": "map@3",
    "MAP@10": "map@10",
    "NDCG@3": "ndcg@3",
    "NDCG@10": "ndcg@10",
    "MRR": "mrr",
}


def ranks_of(targets: list[list[int]]) -> Ranks:
    """Ranks where each query's items are ranked 0, 1, 2 … and ``targets`` are to be found."""
    lengths = [len(row) for row in targets]
    flat = np.array([item + 1.0 for row in targets for item in row])
    return Ranks(flat, np.r_[0, np.cumsum(lengths)].astype(np.int64))


targets = st.lists(
    st.lists(st.integers(0, NUM_ITEMS - 1), min_size=1, max_size=6, unique=True),
    min_size=1,
    max_size=5,
)


@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaTypeSafetyWarning")
@settings(deadline=None, max_examples=60)
@given(targets)
def test_metrics_agree_with_ranx(targets: list[list[int]]) -> None:
    run = {
        f"q{query}": {f"d{item}": float(NUM_ITEMS - item) for item in range(NUM_ITEMS)}
        for query in range(len(targets))
    }
    relevant = {f"q{query}": {f"d{item}": 1 for item in row} for query, row in enumerate(targets)}
    expected = ranx_evaluate(relevant, run, list(RANX_NAMES.values()))
    found = metric_values(ranks_of(targets), list(RANX_NAMES)).mean(axis=0)
    assert found.tolist() == pytest.approx(
        [float(expected[name]) for name in RANX_NAMES.values()], abs=1e-12
    )


def test_one_target_gives_known_values() -> None:
    ranks = Ranks.single([1, 2, 10, 11])
    assert hit_rate_at_k(ranks, 10).tolist() == [1, 1, 1, 0]
    np.testing.assert_allclose(ndcg_at_k(ranks, 10), [1, 1 / np.log2(3), 1 / np.log2(11), 0])
    np.testing.assert_allclose(mrr(ranks), [1, 1 / 2, 1 / 10, 1 / 11])
    np.testing.assert_array_equal(recall_at_k(ranks, 10), hit_rate_at_k(ranks, 10))


def test_revenue_is_the_share_of_what_the_targets_cost() -> None:
    prices = np.array([60.0, 20.0, 15.0, 5.0])
    ranks = Ranks(np.array([1.0, 11.0, 3.0, 2.0]), np.array([0, 2, 3, 4]), prices)
    found = revenue_at_k(ranks, 10)
    np.testing.assert_allclose(found, [3 * 0.6, 3 * 0.15, 3 * 0.05])
    assert found.mean() == pytest.approx(0.8)
    with pytest.raises(InputError, match="revenue needs prices of the items"):
        revenue_at_k(Ranks.single([1]), 10)


def test_revenue_is_measured_by_the_catalogue(blocks: Dataset) -> None:
    scorer = Popularity.fit(blocks.train, len(blocks.items))
    price = pl.Series(columns.PRICE, [float(1 + item % 7) for item in range(len(blocks.items))])
    catalogue = blocks.catalogue.with_columns(price)
    found = evaluate(
        scorer,
        replace(blocks, catalogue=catalogue),
        protocols=["full"],
        metrics=["Revenue@10", "HR@10"],
    )
    queries, targets = blocks.held_out(Part.TEST)
    worth = price.to_numpy()[targets.items]
    hits = found.values["full"][:, 1]
    assert len(queries) == len(worth)
    assert found.mean("full", "Revenue@10") == pytest.approx((hits * worth).sum() / worth.sum())
    bare = catalogue.with_columns(pl.lit(None, pl.Float64).alias(columns.PRICE))
    with pytest.raises(InputError, match="revenue needs prices"):
        evaluate(
            scorer, replace(blocks, catalogue=bare), protocols=["full"], metrics=["Revenue@10"]
        )


def test_a_fractional_rank_counts_as_it_is() -> None:
    ranks = Ranks.single([1.5, 10.5])
    assert hit_rate_at_k(ranks, 10).tolist() == [1, 0]
    np.testing.assert_allclose(ndcg_at_k(ranks, 10), [1 / np.log2(2.5), 0])


def test_more_targets_than_places_can_still_be_perfect_in_ndcg_but_not_in_recall() -> None:
    ranks = ranks_of([[0, 1, 2, 3]])
    assert ndcg_at_k(ranks, 2).tolist() == [1]
    assert recall_at_k(ranks, 2).tolist() == [0.5]


@given(targets, st.integers(1, NUM_ITEMS + 3))
def test_values_are_shares_and_grow_with_k(targets: list[list[int]], k: int) -> None:
    ranks = ranks_of(targets)
    for metric in (hit_rate_at_k, ndcg_at_k, recall_at_k):
        assert (metric(ranks, k) >= 0).all()
        assert (metric(ranks, k) <= 1 + 1e-12).all()
    assert (hit_rate_at_k(ranks, k + 1) >= hit_rate_at_k(ranks, k)).all()
    assert (recall_at_k(ranks, k + 1) >= recall_at_k(ranks, k)).all()


@pytest.mark.parametrize("metric", [hit_rate_at_k, ndcg_at_k, recall_at_k])
def test_k_must_be_positive(metric: object) -> None:
    with pytest.raises(InputError, match=r"^k must be at least 1, got 0$"):
        metric(Ranks.single([1]), 0)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["HR@10", "NDCG@10", "Recall@10", "MRR"])
def test_no_queries_have_no_mean(name: str) -> None:
    with pytest.raises(InputError, match="no queries to average over"):
        metric_values(Ranks.single([]), [name])


@pytest.mark.parametrize(
    "name", ["map@10", "MAP", "HR", "HR@", "HR@ten", "HR@-1", "ndcg@10", "MRR@10"]
)
def test_an_unknown_metric_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"^unknown metric '{name}'; pass MRR or one of HR, NDCG"):
        metric_values(Ranks.single([1]), [name])


def test_ranks_must_fit_their_queries() -> None:
    with pytest.raises(InputError, match="indptr must end at the number of ranks 2, got"):
        Ranks(np.array([1.0, 2.0]), np.array([0, 1]))
    with pytest.raises(InputError, match="every query needs a target, query 1 has none"):
        Ranks(np.array([1.0]), np.array([0, 1, 1]))
