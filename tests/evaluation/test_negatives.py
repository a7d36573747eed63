from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.data import Histories, Queries
from twotower.errors import ArtefactError, InputError
from twotower.evaluation.negatives import load_negatives, sample_negatives, save_negatives


def queries(*histories: list[int]) -> Queries:
    return Queries(np.arange(len(histories), dtype=np.int32), Histories.from_lists(histories))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 19), max_size=8),
            st.lists(st.integers(0, 19), min_size=1, max_size=2),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 10),
)
def test_negatives_are_distinct_and_neither_seen_nor_targets(
    rows: list[tuple[list[int], list[int]]], count: int
) -> None:
    asked, wanted = queries(*[seen for seen, _ in rows]), Histories.from_lists([t for _, t in rows])
    negatives = sample_negatives(asked, wanted, 20, count=count)
    assert negatives.shape == (len(rows), count)
    assert negatives.dtype == np.int32
    for row, (seen, targets) in zip(negatives.tolist(), rows, strict=True):
        assert len(set(row)) == count
        assert set(row) <= set(range(20)) - set(seen) - set(targets)


def test_every_free_item_is_drawn_equally_often() -> None:
    asked = queries(*[[0, 3, 9]] * 20_000)
    negatives = sample_negatives(asked, Histories.from_lists([[5]] * 20_000), 10, count=2)
    share = np.bincount(negatives.ravel(), minlength=10) / 20_000
    np.testing.assert_allclose(share[[1, 2, 4, 6, 7, 8]], 2 / 6, atol=0.015)
    assert share[[0, 3, 5, 9]].tolist() == [0, 0, 0, 0]
    pairs = np.unique(negatives, axis=0, return_counts=True)[1] / 20_000
    np.testing.assert_allclose(pairs, 1 / 15, atol=0.01)


def test_all_free_items_can_be_drawn() -> None:
    negatives = sample_negatives(queries([0, 2]), Histories.from_lists([[4]]), 6, count=3)
    assert negatives.tolist() == [[1, 3, 5]]


def test_the_seed_decides() -> None:
    asked, wanted = queries(*[[1]] * 50), Histories.from_lists([[2]] * 50)
    one = sample_negatives(asked, wanted, 1000, seed=1)
    np.testing.assert_array_equal(one, sample_negatives(asked, wanted, 1000, seed=1))
    assert (one != sample_negatives(asked, wanted, 1000, seed=2)).any()


def test_too_few_items_left_is_refused() -> None:
    message = (
        "^100 negatives cannot be drawn for query 1: 96 of 100 items are left beside its history "
        "and targets; pass count=96 or less$"
    )
    with pytest.raises(InputError, match=message):
        sample_negatives(queries([], [1, 2, 3]), Histories.from_lists([[0], [0]]), 100)
    with pytest.raises(InputError, match=r"^count must be at least 1, got 0$"):
        sample_negatives(queries([]), Histories.from_lists([[0]]), 100, count=0)


def test_stored_negatives_come_back(tmp_path: Path) -> None:
    asked, wanted = queries([1], [2]), Histories.from_lists([[3], [4]])
    drawn = sample_negatives(asked, wanted, 500)
    save_negatives(tmp_path / "negatives.parquet", asked, drawn)
    loaded = load_negatives(tmp_path / "negatives.parquet", asked, wanted, 500)
    np.testing.assert_array_equal(loaded, drawn)
    assert loaded.dtype == np.int32


def test_negatives_of_other_queries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "negatives.parquet"
    asked, wanted = queries([1], [2]), Histories.from_lists([[3], [4]])
    drawn = sample_negatives(asked, wanted, 10, count=4)
    save_negatives(path, asked, drawn)
    message = "negatives.parquet holds the negatives of another data set or split; delete it"
    others = Queries(np.array([0, 7], dtype=np.int32), asked.histories)
    with pytest.raises(ArtefactError, match=message):
        load_negatives(path, others, wanted, 10)
    taken = Histories.from_lists([[int(drawn[0, 0])], [4]])
    with pytest.raises(ArtefactError, match=message):
        load_negatives(path, asked, taken, 10)


@pytest.mark.parametrize("content", [None, b"not a table"])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "negatives.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"negatives.parquet is not a readable file of negativ"):
        load_negatives(path, queries([]), Histories.from_lists([[0]]), 10)
