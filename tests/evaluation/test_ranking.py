from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.evaluation.ranking import ScoreError, full_ranks, rank_and_list


class Table:
    """A scorer that answers from a table, one row per user."""

    def __init__(self, scores: Any) -> None:
        self.table = np.asarray(scores, dtype=np.float32)
        self.table.flags.writeable = False
        self.num_items = self.table.shape[1]
        self.batches: list[int] = []

    def scores(self, queries: Queries) -> Any:
        self.batches.append(len(queries))
        return self.table[queries.users]


class Vectors:
    """A scorer of vectors, whose own `scores` must not be needed."""

    def __init__(self, users: Any, items: Any) -> None:
        self.users = np.asarray(users, dtype=np.float32)
        self.items = np.asarray(items, dtype=np.float32)
        self.num_items = len(self.items)

    def user_vectors(self, queries: Queries) -> Any:
        return self.users[queries.users]

    def item_vectors(self) -> Any:
        return self.items

    def scores(self, queries: Queries) -> Any:
        raise AssertionError("vectors are enough")


def queries(*histories: list[int]) -> Queries:
    return Queries(np.arange(len(histories), dtype=np.int32), Histories.from_lists(histories))


def test_the_rank_is_the_number_of_better_items_plus_one() -> None:
    ranks = full_ranks(Table([[5, 4, 3, 2]]), queries([]), Histories.from_lists([[2]]))
    assert ranks.ranks.tolist() == [3]
    assert ranks.indptr.tolist() == [0, 1]


def test_seen_items_are_no_candidates_unless_asked_for() -> None:
    scorer, asked, wanted = Table([[5, 4, 3, 2]]), queries([0, 0, 3]), Histories.from_lists([[2]])
    assert full_ranks(scorer, asked, wanted).ranks.tolist() == [2]
    assert full_ranks(scorer, asked, wanted, exclude_seen=False).ranks.tolist() == [3]


def test_more_can_be_excluded_than_the_history_holds() -> None:
    asked, wanted = queries([3]), Histories.from_lists([[2]])
    seen = Histories.from_lists([[0, 0, 3]])
    found = rank_and_list(
        Table([[5, 4, 3, 2]]), asked, wanted, {"unseen": "unseen"}, seen=seen, lists=2
    )
    assert found.ranks["unseen"].ranks.tolist() == [2]
    assert found.lists is not None
    assert found.lists.tolist() == [[1, 2]]
    with pytest.raises(InputError, match=r"^seen must have one row per query, got 2 for 1 quer"):
        rank_and_list(Table([[5, 4, 3, 2]]), asked, wanted, {}, seen=Histories.from_lists([[], []]))


def test_ranks_and_lists_are_the_same_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scorer = Vectors(rng.standard_normal((20, 4)), rng.standard_normal((30, 4)))
    asked, wanted = queries(*[[1, 2]] * 20), Histories.from_lists([[3]] * 20)
    among = {"unseen": "unseen"}
    whole = rank_and_list(scorer, asked, wanted, among, lists=5)
    monkeypatch.setattr("twotower.evaluation.ranking._BLOCK_VALUES", 100)
    for batch_size in (7, 1024):
        again = rank_and_list(scorer, asked, wanted, among, lists=5, batch_size=batch_size)
        np.testing.assert_array_equal(again.lists, whole.lists)
        np.testing.assert_array_equal(again.ranks["unseen"].ranks, whole.ranks["unseen"].ranks)


@pytest.mark.parametrize(
    ("lists", "message"),
    [(-1, r"^k must be at least 1, got -1$"), (3, r"a query has 2 of 4 items left .*; ask for 2")],
)
def test_lists_that_cannot_be_made_are_refused(lists: int, message: str) -> None:
    scorer, asked, wanted = Table([[5, 4, 3, 2]]), queries([0, 1]), Histories.from_lists([[2]])
    assert rank_and_list(scorer, asked, wanted, {}, lists=2).lists.tolist() == [[2, 3]]
    with pytest.raises(InputError, match=message):
        rank_and_list(scorer, asked, wanted, {}, lists=lists)


def test_a_target_in_the_history_stays_a_candidate() -> None:
    ranks = full_ranks(Table([[5, 4, 3]]), queries([0, 1]), Histories.from_lists([[1]]))
    assert ranks.ranks.tolist() == [1]


def test_a_target_may_stand_behind_another_target() -> None:
    ranks = full_ranks(Table([[5, 4, 3, 2]]), queries([1]), Histories.from_lists([[3, 0, 3]]))
    assert ranks.ranks.tolist() == [3, 1]


def test_equal_scores_share_the_middle_rank() -> None:
    ranks = full_ranks(Table([[1, 1, 1, 1, 0]]), queries([]), Histories.from_lists([[2]]))
    assert ranks.ranks.tolist() == [2.5]


def test_several_equal_targets_take_different_ranks() -> None:
    everything = full_ranks(Table([[1, 1, 1]]), queries([]), Histories.from_lists([[0, 1, 2]]))
    assert everything.ranks.tolist() == [1, 2, 3]
    some = full_ranks(Table([[1, 1, 1, 1, 1]]), queries([]), Histories.from_lists([[4, 1]]))
    assert some.ranks.tolist() == [2, 4]


def test_infinite_scores_rank_like_any_other() -> None:
    scorer = Table([[np.inf, -np.inf, -np.inf, 0]])
    asked, wanted = queries([1]), Histories.from_lists([[2]])
    assert full_ranks(scorer, asked, wanted).ranks.tolist() == [3]
    assert full_ranks(scorer, asked, wanted, exclude_seen=False).ranks.tolist() == [3.5]


def expected_ranks(scores: list[int], candidates: set[int], wanted: list[int]) -> list[float]:
    """Mean place of each target over every way to break ties, in the order listed."""
    total = np.zeros(len(wanted))
    orders = list(permutations(sorted(candidates)))
    for order in orders:
        ranking = sorted(order, key=lambda item: -scores[item])
        places = {item: ranking.index(item) + 1 for item in wanted}
        for score in {scores[item] for item in wanted}:
            tied = [position for position, item in enumerate(wanted) if scores[item] == score]
            total[tied] += sorted(places[wanted[position]] for position in tied)
    return (total / len(orders)).tolist()


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, ...]:
    num_items = draw(st.integers(1, 6))
    items = st.integers(0, num_items - 1)
    count = draw(st.integers(1, 4))
    scores = st.lists(st.integers(0, 2), min_size=num_items, max_size=num_items)

    def rows(content: st.SearchStrategy[list[int]]) -> list[list[int]]:
        return draw(st.lists(content, min_size=count, max_size=count))

    return (
        rows(scores),
        rows(st.lists(items, max_size=4)),
        rows(st.lists(items, min_size=1, max_size=3, unique=True)),
        draw(st.integers(1, 5)),
    )


@settings(deadline=None, max_examples=60)
@given(cases())
def test_ranks_are_the_mean_over_all_ways_to_break_ties(case: tuple[Any, ...]) -> None:
    scores, seen, wanted, batch_size = case
    everything = set(range(len(scores[0])))
    found = rank_and_list(
        Table(scores),
        queries(*seen),
        Histories.from_lists(wanted),
        {"unseen": "unseen", "all": "all"},
        batch_size=batch_size,
    ).ranks
    for name in found:
        expected = []
        for row, history, targets in zip(scores, seen, wanted, strict=True):
            candidates = everything - set(history) if name == "unseen" else everything
            expected += expected_ranks(row, candidates | set(targets), targets)
        np.testing.assert_allclose(found[name].ranks, expected)


def test_vectors_rank_as_their_products_do() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.integers(-3, 4, (50, 4)), rng.integers(-3, 4, (30, 4))  # exact, with ties
    asked = queries(*rng.integers(0, 30, (50, 5)).tolist())
    wanted = Histories.from_lists(rng.integers(0, 30, (50, 2)).tolist())
    table = full_ranks(Table(users @ items.T), asked, wanted)
    vectors = full_ranks(Vectors(users, items), asked, wanted, batch_size=7)
    np.testing.assert_array_equal(vectors.ranks, table.ranks)
    np.testing.assert_array_equal(vectors.indptr, table.indptr)


def test_ranks_among_sampled_negatives_count_only_negatives_and_targets() -> None:
    scorer = Table([[9, 8, 7, 6, 5, 5], [0, 1, 2, 3, 4, 5]])
    negatives = np.array([[2, 5], [3, 2]], dtype=np.int32)
    wanted = Histories.from_lists([[4], [0, 1]])
    found = rank_and_list(scorer, queries([0], []), wanted, {"sampled": negatives})
    assert found.ranks["sampled"].ranks.tolist() == [2.5, 4, 3]


def test_queries_are_scored_in_batches_and_progress_counts_them() -> None:
    scorer, done = Table(np.zeros((5, 3))), []
    full_ranks(
        scorer,
        queries(*[[]] * 5),
        Histories.from_lists([[0]] * 5),
        batch_size=2,
        progress=done.append,
    )
    assert scorer.batches == done == [2, 2, 1]


@pytest.mark.parametrize("kind", ["table", "vectors"])
def test_a_nan_score_is_an_error_that_says_where(kind: str) -> None:
    scores = np.zeros((3, 4))
    scores[1, 2] = np.nan
    scorer = Table(scores) if kind == "table" else Vectors(scores, np.eye(4))
    message = "got NaN for query 1, item" + (" 2" if kind == "table" else "")
    with pytest.raises(ScoreError, match=message):
        full_ranks(scorer, queries([], [], []), Histories.from_lists([[0]] * 3), batch_size=2)


def test_scores_of_the_wrong_shape_are_an_error() -> None:
    scorer = Table(np.zeros((2, 4)))
    scorer.num_items = 5
    with pytest.raises(ScoreError, match=r"scores must have shape \(2, 5\), got \(2, 4\)"):
        full_ranks(scorer, queries([], []), Histories.from_lists([[0], [0]]))


def test_a_user_vector_is_needed_for_every_query() -> None:
    class Short(Vectors):
        def user_vectors(self, queries: Queries) -> Any:
            return self.users[:1]

    with pytest.raises(ScoreError, match=r"^user_vectors must have 2 rows, got 1$"):
        full_ranks(Short(np.eye(2), np.eye(2)), queries([], []), Histories.from_lists([[0], [0]]))


@pytest.mark.parametrize(
    ("histories", "wanted", "options", "message"),
    [
        ([], [], {}, "no queries to evaluate; hold out at least one interaction"),
        ([[]], [[0], [1]], {}, "targets must have one row per query, got 2 for 1 queries"),
        ([[], []], [[0], []], {}, "every query needs a target, query 1 has none"),
        ([[]], [[3]], {}, "item indices must be from 0 to 2, got 3 to 3"),
        ([[-1]], [[0]], {}, "item indices must be from 0 to 2, got -1 to -1"),
        ([[]], [[0]], {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_scored(
    histories: list[list[int]], wanted: list[list[int]], options: dict[str, int], message: str
) -> None:
    scorer = Table(np.zeros((2, 3)))
    with pytest.raises(InputError, match=f"^{message}$"):
        full_ranks(scorer, queries(*histories), Histories.from_lists(wanted), **options)
    assert scorer.batches == []


@pytest.mark.parametrize(
    ("negatives", "message"),
    [
        ([[1], [2]], r"negatives of 'sampled' must be \(queries, count\), got \(2, 1\) for 1"),
        ([1], r"negatives of 'sampled' must be \(queries, count\), got \(1,\) for 1"),
        ([[-1]], "item indices must be from 0 to 2, got -1 to -1"),
    ],
)
def test_bad_negatives_are_refused(negatives: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rank_and_list(
            Table(np.zeros((1, 3))),
            queries([]),
            Histories.from_lists([[0]]),
            {"sampled": np.array(negatives)},
        )
