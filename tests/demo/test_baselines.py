import numpy as np

from twotower.demo.baselines import FACTORS, ITEM_KNN, POPULARITY, TOWERS, best
from twotower.demo.opened import Opened
from twotower.inference import RecommendOptions, Request


def without_last(opened: Opened) -> np.ndarray:
    log = opened.pipeline.contents.histories
    table = np.zeros((len(log), len(opened.items)), dtype=np.float32)
    for user in range(len(log)):
        table[user, log.row(user)[:-1]] = 1
    return table


def test_popularity_counts_buyers_without_the_last_items(opened: Opened) -> None:
    np.testing.assert_array_equal(opened.rivals.popularity, without_last(opened).sum(axis=0))


def test_together_adds_up_cosines(opened: Opened) -> None:
    table, rows = without_last(opened), np.asarray([3, 8])
    length = np.maximum(np.linalg.norm(table, axis=0), 1)
    cosines = table.T @ table / np.outer(length, length)
    np.testing.assert_allclose(
        opened.rivals.together(rows), cosines[rows].sum(axis=0), rtol=1e-5, atol=1e-6
    )


def test_towers_and_factors_make_what_is_served(opened: Opened) -> None:
    history = opened.items.ids.rows[[2, 4]].tolist()
    scores = opened.rivals.all_scores(history)
    assert list(scores) == [TOWERS, FACTORS, ITEM_KNN, POPULARITY]
    (served,) = opened.pipeline.recommend_batch([Request(history=history)], RecommendOptions(3))
    rows = best(scores[TOWERS] + scores[FACTORS], 3, opened.without(history))
    assert [one.item_id for one in served] == opened.items.ids.rows[rows].tolist()


def test_best_of_nothing() -> None:
    assert best(np.ones(3, dtype=np.float32), 2, np.zeros(3, dtype=np.bool_)).tolist() == []
