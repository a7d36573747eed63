import numpy as np

from twotower.demo.baselines import FACTORS, ITEM_KNN, POPULARITY, TOWERS
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.index import top_k_of
from twotower.inference import RecommendOptions, Request


def without_last(loaded: LoadedBundle) -> np.ndarray:
    log = loaded.pipeline.contents.histories
    table = np.zeros((len(log), len(loaded.items)), dtype=np.float32)
    for user in range(len(log)):
        table[user, log.row(user)[:-1]] = 1
    return table


def test_popularity_counts_buyers_without_the_last_items(loaded: LoadedBundle) -> None:
    np.testing.assert_array_equal(loaded.baselines.popularity, without_last(loaded).sum(axis=0))


def test_together_adds_up_cosines(loaded: LoadedBundle) -> None:
    table, rows = without_last(loaded), np.asarray([3, 8])
    length = np.maximum(np.linalg.norm(table, axis=0), 1)
    cosines = table.T @ table / np.outer(length, length)
    np.testing.assert_allclose(
        loaded.baselines.together(rows), cosines[rows].sum(axis=0), rtol=1e-5, atol=1e-6
    )


def test_towers_and_factors_make_what_is_served(loaded: LoadedBundle) -> None:
    history = loaded.items.ids.rows[[2, 4]].tolist()
    scores = loaded.baselines.all_scores(history)
    assert list(scores) == [TOWERS, FACTORS, ITEM_KNN, POPULARITY]
    (served,) = loaded.pipeline.recommend_batch(
        [Request(history=history)], RecommendOptions(3, rerank=False)
    )
    rows = top_k_of(scores[TOWERS] + scores[FACTORS], 3, loaded.without(history))
    assert [one.item_id for one in served] == loaded.items.ids.rows[rows].tolist()
