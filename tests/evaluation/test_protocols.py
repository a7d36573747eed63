from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset, Histories, IdMap, Part, columns
from twotower.errors import InputError
from twotower.evaluation.negatives import sample_negatives
from twotower.evaluation.protocols import (
    METRICS,
    METRICS_OF_SEVERAL,
    PROTOCOLS,
    Evaluation,
    evaluate,
    result_rows,
    validation_ndcg,
)
from twotower.models.popularity import Popularity

USERS, ITEMS = 40, 150


def dataset(held_out: int = 1) -> Dataset:
    """Random histories of 5 + 2 * held_out items; the last user is in train only."""
    rng = np.random.default_rng(0)
    length = 5 + 2 * held_out
    lists = [rng.permutation(ITEMS)[:length].tolist() for _ in range(USERS)]
    split = np.tile([0] * 5 + [1] * held_out + [2] * held_out, USERS).astype(np.uint8)
    split[-length:] = 0
    items = [f"i{item}" for item in range(ITEMS)]
    catalogue = pl.DataFrame({name: pl.Series([None] * ITEMS) for name in columns.CATALOGUE})
    return Dataset(
        "toy",
        IdMap([f"u{user}" for user in range(USERS)], "user"),
        IdMap(items, "item"),
        catalogue.with_columns(pl.Series(columns.ITEM_ID, items)),
        Histories.from_lists(lists),
        split,
    )


class Oracle:
    """Gives one item per user the top score, and every seen item an even higher one."""

    num_items = ITEMS

    def __init__(self, data: Dataset, part: Part) -> None:
        self.answers = data.part(part)

    def scores(self, queries: Any) -> Any:
        scores = np.zeros((len(queries), ITEMS), dtype=np.float32)
        for row, user in enumerate(queries.users):
            scores[row, self.answers.row(user)] = 1
        scores[queries.histories.rows, queries.histories.items] = 2
        return scores


def test_protocols_differ_in_their_candidates() -> None:
    data = dataset()
    result = evaluate(Oracle(data, Part.TEST), data)
    assert tuple(result.values) == PROTOCOLS
    assert result.metrics == METRICS
    assert result.mean("full", "HR@5") == result.mean("full", "MRR") == 1
    assert result.mean("full-unmasked", "MRR") == pytest.approx(1 / 7)  # behind 6 seen items
    assert result.mean("sampled-100", "MRR") == 1
    assert all(len(values) == USERS - 1 for values in result.values.values())


def test_the_history_of_a_part_is_all_that_came_before() -> None:
    data = dataset()
    scorer = Oracle(data, Part.VALIDATION)
    result = evaluate(scorer, data, part=Part.VALIDATION, protocols=["full-unmasked"])
    assert result.mean("full-unmasked", "MRR") == pytest.approx(1 / 6)  # behind 5 of train


def test_several_targets_are_reported_with_recall() -> None:
    data = dataset(held_out=2)
    result = evaluate(Oracle(data, Part.TEST), data)
    assert result.metrics == METRICS_OF_SEVERAL
    assert result.mean("full", "Recall@20") == 1
    assert result.mean("full", "NDCG@10") == pytest.approx(1)


def test_negatives_are_the_same_for_every_model_and_may_be_given() -> None:
    data = dataset()
    queries, targets = data.held_out(Part.TEST)
    scorer = Popularity.fit(data.train, ITEMS)
    options: dict[str, Any] = {"protocols": ["sampled-100"], "metrics": ["MRR"]}
    drawn = evaluate(scorer, data, **options).values["sampled-100"]
    stored = sample_negatives(queries, targets, ITEMS)
    given = evaluate(scorer, data, negatives=stored, **options).values["sampled-100"]
    np.testing.assert_array_equal(drawn, given)
    other = sample_negatives(queries, targets, ITEMS, seed=1)
    assert (evaluate(scorer, data, negatives=other, **options).values["sampled-100"] != drawn).any()


def test_an_unknown_protocol_is_refused() -> None:
    data = dataset()
    with pytest.raises(InputError, match=r"^unknown protocol 'fill'; pass one of full, full-un"):
        evaluate(Popularity.fit(data.train, ITEMS), data, protocols=["fill"])


def run(*values: float) -> Evaluation:
    return Evaluation(("MRR",), {"full": np.array(values)[:, None]})


def test_rows_average_the_seeds_user_by_user() -> None:
    runs = {2: run(0.0, 1.0, 0.5), 1: run(1.0, 0.0, 0.5)}
    (row,) = result_rows(runs, dataset="toy", split="leave-last-two", model="mf")
    assert row.key == ("toy", "leave-last-two", "mf", "full", "MRR")
    assert (row.value, row.low, row.high) == (0.5, 0.5, 0.5)  # every user's average is 0.5
    assert (row.seeds, row.users) == ([1, 2], 3)


def test_rows_need_runs_that_agree() -> None:
    names: dict[str, Any] = {"dataset": "toy", "split": "s", "model": "mf"}
    with pytest.raises(InputError, match=r"^no runs of 'mf' to report; evaluate at least one seed"):
        result_rows({}, **names)
    with pytest.raises(
        InputError, match=r"must agree in metrics, protocols and queries, got .*, 2"
    ):
        result_rows({0: run(1.0, 0.0), 1: run(1.0)}, **names)


def test_validation_ndcg_is_that_of_the_full_protocol() -> None:
    data = dataset()
    scorer = Popularity.fit(data.train, ITEMS)
    full = evaluate(scorer, data, part=Part.VALIDATION, protocols=["full"], metrics=["NDCG@7"])
    assert validation_ndcg(scorer, data, k=7) == pytest.approx(full.mean("full", "NDCG@7"))
    assert validation_ndcg(scorer, data, k=7, max_queries=USERS) == validation_ndcg(
        scorer, data, k=7
    )


def test_validation_ndcg_can_use_the_same_few_users_every_time() -> None:
    data = dataset()
    asked = []

    class Spy(Oracle):
        def scores(self, queries: Any) -> Any:
            asked.append(queries.users.tolist())
            return super().scores(queries)

    for _ in range(2):
        assert validation_ndcg(Spy(data, Part.VALIDATION), data, max_queries=10) == 1
    assert len(asked[0]) == 10
    assert asked[0] == asked[1] == sorted(set(asked[0]))
    with pytest.raises(InputError, match=r"^max_queries must be at least 1, got 0$"):
        validation_ndcg(Spy(data, Part.VALIDATION), data, max_queries=0)
