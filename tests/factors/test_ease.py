import numpy as np
import pytest
from scipy import sparse

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.factors import ease
from twotower.factors.ease import EASE
from twotower.models.base import Scorer, VectorScorer


def log(users: int = 300, items: int = 50, seed: int = 0) -> Histories:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, items + 1)
    rows = [
        rng.choice(items, rng.integers(1, 9), replace=False, p=weights / weights.sum()).tolist()
        for _ in range(users)
    ]
    return Histories.from_lists(rows)


def dense_weights(train: Histories, num_items: int, regularisation: float) -> np.ndarray:
    """The published formula in double precision."""
    matrix = np.zeros((len(train), num_items))
    matrix[train.rows, train.items] = 1
    inverse = np.linalg.inv(matrix.T @ matrix + regularisation * np.eye(num_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("block", [7, 1024])
@pytest.mark.parametrize("regularisation", [0.5, 100.0])
def test_weights_are_the_closed_form(
    regularisation: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "BLOCK", block)
    train = log()
    model = EASE.fit(train, 50, regularisation=regularisation)
    expected = dense_weights(train, 50, regularisation)
    np.testing.assert_allclose(model.weights, expected, atol=1e-4 * np.abs(expected).max())
    histories = Histories.from_lists([[3], [0, 7, 0], []])
    scores = model.scores(Queries.anonymous(histories))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[0], expected[3], atol=1e-4)
    np.testing.assert_allclose(scores[1], expected[0] + expected[7], atol=1e-4)  # a repeat once
    assert not scores[2].any()
    assert isinstance(model, Scorer)
    assert not isinstance(model, VectorScorer)


def test_items_that_nobody_bought_change_nothing_and_score_zero() -> None:
    train = log()
    spread = Histories(train.indptr, train.items * 2)
    model = EASE.fit(spread, 120, regularisation=10)
    assert model.weights.shape == (50, 50)
    queries = Queries.anonymous(Histories.from_lists([[4], [5, 119]]))
    scores = model.scores(queries)
    np.testing.assert_allclose(scores[0, :100:2], dense_weights(train, 50, 10)[2], atol=1e-4)
    assert not scores[:, 1::2].any()
    assert not scores[1].any()


def test_cut_weights_are_the_strongest_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "BLOCK", 16)
    train = log()
    whole, cut = (EASE.fit(train, 50, links=links) for links in (None, 5))
    assert isinstance(cut.weights, sparse.csr_array)
    assert isinstance(whole.weights, np.ndarray)
    for row, kept in zip(whole.weights, cut.weights.toarray(), strict=True):
        strongest = np.argsort(-np.abs(row))[:5]
        assert sorted(np.flatnonzero(kept)) == sorted(strongest)
        np.testing.assert_array_equal(kept[strongest], row[strongest])
    queries = Queries.anonymous(Histories.from_lists([[1, 2]]))
    np.testing.assert_allclose(
        cut.scores(queries)[0], cut.weights.toarray()[[1, 2]].sum(axis=0), atol=1e-6
    )


def test_more_links_than_items_are_all_of_them() -> None:
    model = EASE.fit(log(items=9), 9, links=100)
    np.testing.assert_array_equal(
        model.weights.toarray(),
        EASE.fit(log(items=9), 9).weights,  # type: ignore[union-attr]
    )


def test_what_cannot_be_solved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    train = log()
    with pytest.raises(InputError, match=r"^regularisation must be positive, got 0$"):
        EASE.fit(train, 50, regularisation=0)
    with pytest.raises(InputError, match=r"^links must be at least 1, got 0$"):
        EASE.fit(train, 50, links=0)
    twice = Histories.from_lists([[0, 1]] * 1000)  # two columns alike: singular
    with pytest.raises(
        InputError,
        match=r"^the matrix of EASE cannot be inverted in single precision with regularisation "
        r"1e-30; raise it$",
    ):
        EASE.fit(twice, 2, regularisation=1e-30)
    monkeypatch.setattr(ease, "MOST_ITEMS", 49)
    with pytest.raises(
        InputError,
        match=r"^EASE inverts a dense matrix of all 50 bought items, at most 49 fit; "
        r"use item-knn, or a k-core of the data$",
    ):
        EASE.fit(train, 50)


def test_the_weights_as_similarities_of_all_items_score_alike() -> None:
    train = Histories.from_lists([[0, 1, 4], [1, 4], [0, 2], [2, 1]])
    queries = Queries.anonymous(Histories.from_lists([[0], [4, 2]]))
    for links in (None, 2):
        model = EASE.fit(train, 6, regularisation=2.0, links=links)
        history = np.zeros((2, 6), np.float32)
        history[[0, 1, 1], [0, 4, 2]] = 1
        np.testing.assert_allclose(
            history @ model.similarity.toarray(), model.scores(queries), atol=1e-5
        )
