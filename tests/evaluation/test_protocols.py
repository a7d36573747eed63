from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset, Histories, IdMap, Part, Queries, columns
from twotower.errors import InputError
from twotower.evaluation.negatives import sample_negatives
from twotower.evaluation.protocols import (
    METRICS,
    METRICS_OF_SEVERAL,
    PROTOCOLS,
    Evaluation,
    evaluate,
    evaluate_queries,
    result_rows,
    validation_ndcg,
)
from twotower.evaluation.scoring_plan import plan
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity

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


class Counting(Oracle):
    """An oracle that counts the queries it scored."""

    scored = 0

    def scores(self, queries: Any) -> Any:
        self.scored += len(queries)
        return super().scores(queries)


def test_protocols_of_one_task_share_a_pass_over_the_scores() -> None:
    data = dataset()
    scorer = Counting(data, Part.TEST)
    evaluate(scorer, data, protocols=[*PROTOCOLS, "by-activity", "beyond-accuracy"])
    assert scorer.scored == USERS - 1
    evaluate(scorer, data, protocols=["cold-start-all", "full"])
    assert scorer.scored == (USERS - 1) * (1 + 5 + 1)


def uneven() -> Dataset:
    """`dataset` with histories of 2 to 40 items before the held-out one."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 41, USERS) + 1
    lists = [rng.permutation(ITEMS)[:length].tolist() for length in lengths]
    base = dataset()
    split = np.concatenate([[0] * (length - 2) + [1, 2] for length in lengths]).astype(np.uint8)
    return replace(base, interactions=Histories.from_lists(lists), split=split)


def test_activity_segments_the_users_of_the_full_protocol() -> None:
    data = uneven()
    queries, _ = data.held_out(Part.TEST)
    found = evaluate(ItemKNN.fit(data.train, ITEMS), data, protocols=["by-activity", "full"])
    segments = [name for name in found.values if name != "full"]
    assert segments == [f"activity-{s}" for s in ("0-4", "5-7", "8-15", "16-30", "31+")]
    assert sum(len(found.values[name]) for name in segments) == USERS
    lengths = queries.histories.lengths
    inside = (lengths >= 8) & (lengths <= 15)
    np.testing.assert_array_equal(found.values["activity-8-15"], found.values["full"][inside])
    only = evaluate(ItemKNN.fit(data.train, ITEMS), data, protocols=["by-activity"])
    assert list(only.values) == segments


def test_truncating_beyond_the_length_changes_nothing() -> None:
    data = uneven()
    scorer = ItemKNN.fit(data.train, ITEMS)  # knows a user by the history alone
    found = evaluate(scorer, data, protocols=["full", "cold-start-all"])
    np.testing.assert_array_equal(found.values["history-full-all"], found.values["full"])
    short = data.held_out(Part.TEST)[0].histories.lengths <= 5
    np.testing.assert_array_equal(found.values["history-5-all"][short], found.values["full"][short])
    assert (found.values["history-3-all"] != found.values["full"]).any()


def test_a_shorter_history_does_not_change_what_is_ranked() -> None:
    data = uneven()
    found = evaluate(Popularity.fit(data.train, ITEMS), data, protocols=["cold-start"])
    long = (data.held_out(Part.TEST)[0].histories.lengths >= 20).sum()
    assert list(found.values) == [f"history-{size}" for size in (3, 5, 10, 20, "full")]
    for values in found.values.values():  # popularity reads no history, so only candidates could
        np.testing.assert_array_equal(values, found.values["history-full"])
        assert len(values) == long


def test_lists_are_described_and_counted_together() -> None:
    data = dataset()
    found = evaluate(Popularity.fit(data.train, ITEMS), data, protocols=["beyond-accuracy"])
    assert not found.values
    described = found.lists["beyond-accuracy"]
    assert described.metrics == ("log-popularity@10", "popularity-percentile@10", "novelty@10")
    rows = result_rows({0: found, 1: found}, dataset="toy", split="s", model="popularity")
    by_metric = {row.metric: row for row in rows}
    assert set(by_metric) == {*described.metrics, "coverage@10", "gini@10"}
    assert by_metric["novelty@10"].low is not None
    assert by_metric["coverage@10"].low is None
    assert by_metric["coverage@10"].value == pytest.approx(described.totals["coverage@10"])
    assert by_metric["gini@10"].value > 0.8  # everybody gets nearly the same ten
    assert {row.protocol for row in rows} == {"beyond-accuracy"}


def test_a_protocol_that_cannot_be_answered_is_an_error_or_left_out() -> None:
    data = dataset()
    scorer = Popularity.fit(data.train, ITEMS)
    with pytest.raises(InputError, match=r"^no user of 'toy' has 20 items before the held-out"):
        evaluate(scorer, data, protocols=["full", "history-3"])
    left_out = []
    passes = plan(data, ["full", "history-3"], leave_out=lambda name, _: left_out.append(name))
    assert left_out == ["history-3"]
    assert [report.name for one in passes for report in one.reports] == ["full"]
    with pytest.raises(InputError, match=r"^no user of 'toy' has 20 items before the held-out"):
        plan(data, ["history-3"], leave_out=lambda name, _: left_out.append(name))
    assert left_out == ["history-3"]  # of the first call: an error says it all


def test_lists_need_enough_items() -> None:
    data = dataset()
    full = Histories.from_lists([list(range(145))] * USERS)
    split = np.tile([0] * 143 + [1, 2], USERS).astype(np.uint8)
    with pytest.raises(
        InputError, match=r"^lists of 10 items cannot be made: a query has 6 of 150"
    ):
        plan(replace(data, interactions=full, split=split), ["beyond-accuracy"])


def test_an_unknown_protocol_is_refused() -> None:
    data = dataset()
    with pytest.raises(
        InputError, match=r"^unknown protocol 'fill'; pass one of full, .*cold-start"
    ):
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


def groceries() -> Dataset:
    """400 users who buy 12 times among 25 items at random: nothing can beat chance."""
    rng = np.random.default_rng(0)
    users, items, length = 400, 25, 12
    ids = [f"i{item}" for item in range(items)]
    catalogue = pl.DataFrame({name: pl.Series([None] * items) for name in columns.CATALOGUE})
    return Dataset(
        "groceries",
        IdMap([f"u{user}" for user in range(users)], "user"),
        IdMap(ids, "item"),
        catalogue.with_columns(pl.Series(columns.ITEM_ID, ids)),
        Histories.from_lists(rng.integers(0, items, (users, length)).tolist()),
        np.tile([0] * (length - 2) + [1, 2], users).astype(np.uint8),
    )


def test_with_repeats_no_protocol_gives_the_target_away() -> None:
    """The history's other items must not be masked: the target would stand among few."""
    data = groceries()
    chance = 10 / 25
    for model in (Popularity.fit(data.train, 25), ItemKNN.fit(data.train, 25)):
        found = evaluate(model, data, protocols=["full", "full-unmasked", "history-full-all"])
        assert found.mean("full", "HR@10") == pytest.approx(chance, abs=0.06)
        assert (found.values["full"] == found.values["full-unmasked"]).all()
        assert (found.values["full"] == found.values["history-full-all"]).all()
        asked = data.held_out(Part.TEST)
        own = evaluate_queries(model, *asked, protocols=["full"])
        assert (own.values["full"] == found.values["full"]).all()
        at_validation = evaluate(model, data, part=Part.VALIDATION, protocols=["full-unmasked"])
        assert validation_ndcg(model, data) == pytest.approx(
            at_validation.mean("full-unmasked", "NDCG@10")
        )


def test_with_repeats_negatives_are_drawn_from_the_history_too() -> None:
    """Else the target would be the only candidate that a model knows from the history."""
    data = groceries()

    def nine(queries: Queries, targets: Histories, items: int) -> Any:
        return sample_negatives(queries, targets, items, count=9)

    (one,) = plan(data, ["sampled-100"], negatives=nine)
    negatives, history = one.candidates["sampled"], data.held_out(Part.TEST)[0].histories
    assert not isinstance(negatives, str)
    assert np.isin(negatives[0], history.row(0)).any()
