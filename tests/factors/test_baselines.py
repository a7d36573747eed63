from pathlib import Path

import numpy as np
import polars as pl
import pytest

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.evaluation.metrics import metric_values
from twotower.evaluation.ranking import full_ranks
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity
from twotower.models.base import Scorer, VectorScorer

TRAIN = Histories.from_lists([[0, 1], [0, 1, 2], [0], [3], [3, 3, 1], []])


def asking(*histories: list[int]) -> Queries:
    return Queries.anonymous(Histories.from_lists(histories))


def test_popularity_ranks_by_training_events_for_everyone() -> None:
    model = Popularity.fit(TRAIN, 5)
    assert model.scores(asking([4], [])).tolist() == [[3, 3, 1, 3, 0]] * 2
    assert isinstance(model, VectorScorer)
    vectors = model.user_vectors(asking([4], [])) @ model.item_vectors().T
    np.testing.assert_array_equal(vectors, model.scores(asking([4], [])))


def test_item_knn_scores_by_the_summed_cosine_to_the_history() -> None:
    model = ItemKNN.fit(TRAIN, 5)
    assert isinstance(model, Scorer)
    assert not isinstance(model, VectorScorer)
    assert model.num_items == 5
    # Users of items: 0 has {0, 1, 2}, 1 has {0, 1, 4}, 2 has {1}, 3 has {3, 4}, 4 has none.
    to_0 = [0, 2 / 3, 1 / np.sqrt(3), 0, 0]
    to_3 = [0, 1 / np.sqrt(6), 0, 0, 0]
    scores = model.scores(asking([0], [3], [3, 0, 3], [4], []))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[0], to_0, rtol=1e-6)
    np.testing.assert_allclose(scores[1], to_3, rtol=1e-6)
    np.testing.assert_allclose(scores[2], np.add(to_0, to_3), rtol=1e-6)
    np.testing.assert_array_equal(scores[3:], 0)


def test_fitting_and_scoring_leave_the_histories_alone() -> None:
    train = Histories.from_lists([[3, 0, 3], [2, 1]])
    for array in (train.items, train.indptr):
        array.flags.writeable = False
    for model in (Popularity.fit(train, 5), ItemKNN.fit(train, 5)):
        model.scores(Queries.anonymous(train))
    assert train.items.tolist() == [3, 0, 3, 2, 1]
    assert train.indptr.tolist() == [0, 3, 5]


def test_item_knn_keeps_the_most_similar_items_of_each() -> None:
    model = ItemKNN.fit(TRAIN, 5, neighbours=1)
    assert (np.diff(model.similarity.indptr) <= 1).all()
    np.testing.assert_allclose(model.scores(asking([0]))[0], [0, 2 / 3, 0, 0, 0], rtol=1e-6)
    # Items 0 and 1 are equally similar to 2: the smaller index is kept.
    np.testing.assert_allclose(model.scores(asking([2]))[0, :2], [1 / np.sqrt(3), 0], rtol=1e-6)


def test_item_knn_refuses_no_neighbours() -> None:
    with pytest.raises(InputError, match=r"^neighbours must be at least 1, got 0$"):
        ItemKNN.fit(TRAIN, 5, neighbours=0)


@pytest.mark.timeout(120)
def test_baselines_reach_their_known_figures_on_video_games(real_data: Path) -> None:
    """Every tenth user: popularity 0.025 and item-kNN 0.057 over all, fitted on train only."""
    folder = real_data / "video-games-2023"
    items = pl.read_parquet(folder / "items.parquet", columns=["parent_asin"])
    log = (
        pl.read_parquet(folder / "interactions.parquet")
        .sort("user_id", "position")
        .unique(["user_id", "parent_asin"], keep="first", maintain_order=True)
        .join(items.with_row_index("item"), on="parent_asin", how="left", maintain_order="left")
    )
    lengths = log.group_by("user_id", maintain_order=True).len()["len"].to_numpy().astype(np.int64)
    everything = Histories(
        np.concatenate([[0], np.cumsum(lengths)]), log["item"].to_numpy().astype(np.int32)
    )
    from_end = np.repeat(everything.indptr[1:], lengths) - np.arange(len(everything.items))
    long = np.repeat(lengths >= 3, lengths)
    users = np.flatnonzero(lengths >= 3)[::10]
    queries = Queries.anonymous(everything.keep(long & (from_end > 1)).select(users))
    targets = everything.last(1).select(users)
    train = everything.keep(~long | (from_end > 2))
    for model, expected in ((Popularity, 0.0251), (ItemKNN, 0.0568)):
        ranks = full_ranks(model.fit(train, items.height), queries, targets)
        assert metric_values(ranks, ["HR@10"]).mean() == pytest.approx(expected, abs=0.004)
