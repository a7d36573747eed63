"""Quality order of simple models on the sample: tastes and sequels, not only popularity."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from twotower.data import columns
from twotower.data.sample import sample_folder


class Task:
    """Leave the last two of each user out; ask for the last, given all before it."""

    def __init__(self) -> None:
        folder = sample_folder()
        self.items = pl.read_parquet(folder / "items.parquet")
        index = {item: number for number, item in enumerate(self.items[columns.ITEM_ID])}
        log = (
            pl.read_parquet(folder / "interactions.parquet")
            .unique([columns.USER_ID, columns.ITEM_ID], keep="first", maintain_order=True)
            .with_columns(pl.col(columns.ITEM_ID).replace_strict(index))
            .group_by(columns.USER_ID, maintain_order=True)
            .agg(columns.ITEM_ID)
        )
        self.rows: list[list[int]] = log[columns.ITEM_ID].to_list()
        self.targets = np.array([row[-1] for row in self.rows])
        self.train = self._matrix(-2)
        self.history = self._matrix(-1)
        self.popularity = np.asarray(self.train.sum(axis=0)).ravel()

    def _matrix(self, end: int) -> sp.csr_matrix:
        users = np.repeat(np.arange(len(self.rows)), [len(row[:end]) for row in self.rows])
        items = np.concatenate([row[:end] for row in self.rows])
        return sp.csr_matrix(
            (np.ones(len(items)), (users, items)), shape=(len(self.rows), self.items.height)
        )

    def hit_rate_at_10(self, scores: np.ndarray) -> float:
        """Of the users whose last purchase ranks in the first ten, history masked."""
        scores = scores.astype(np.float64)
        scores[self.history.nonzero()] = -np.inf
        target = scores[np.arange(len(scores)), self.targets][:, None]
        # ties count half, so that equal scores are no advantage
        rank = (scores > target).sum(axis=1) + 0.5 * ((scores == target).sum(axis=1) - 1)
        return float((rank < 10).mean())


@pytest.fixture(scope="module")
def task() -> Task:
    return Task()


@pytest.fixture(scope="module")
def by_popularity(task) -> float:
    return task.hit_rate_at_10(np.tile(task.popularity, (len(task.rows), 1)))


def test_item_knn_beats_popularity(task, by_popularity):
    norms = np.sqrt(np.maximum(task.popularity, 1))
    cosine = (task.train.T @ task.train).toarray() / norms[:, None] / norms
    np.fill_diagonal(cosine, 0)
    by_knn = task.hit_rate_at_10(task.history @ cosine)
    assert 0.02 < by_popularity < 0.15
    assert by_knn > 3 * by_popularity
    assert by_knn < 0.6, "it should not be so easy that nothing can be better"


def test_next_in_the_franchise_beats_popularity(task, by_popularity):
    items = task.items.with_columns(
        family=pl.col("platform").str.split(" ").list.first(), index=pl.int_range(pl.len())
    )
    sequels = items.join(
        items.with_columns(pl.col("entry") - 1), on=["franchise", "family", "entry"]
    )
    sequel = dict(zip(sequels["index"], sequels["index_right"], strict=True))
    scores = np.tile(task.popularity / task.popularity.max(), (len(task.rows), 1))
    for user, row in enumerate(task.rows):
        for position, item in enumerate(row[:-1]):
            if item in sequel:
                scores[user, sequel[item]] += 1 + position  # the latest first
    assert task.hit_rate_at_10(scores) > 3 * by_popularity


def test_words_of_titles_tell_what_is_liked(task, by_popularity):
    """Text alone, a bag of words, finds more than popularity: it works for new items too."""
    words = [set(title.lower().split()) for title in task.items[columns.TITLE]]
    vocabulary = {word: n for n, word in enumerate(sorted(set().union(*words)))}
    bag = np.zeros((len(words), len(vocabulary)))
    for item, present in enumerate(words):
        bag[item, [vocabulary[word] for word in present]] = 1
    bag *= np.log(len(words) / bag.sum(axis=0))
    bag /= np.maximum(np.linalg.norm(bag, axis=1, keepdims=True), 1e-9)
    assert task.hit_rate_at_10((task.history @ bag) @ bag.T) > 2 * by_popularity
