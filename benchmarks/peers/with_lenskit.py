"""LensKit: implicit ALS, EASE and LightGCN.

Where a scorer is slow query by query, its fitted parameters are multiplied for many at once.
"""

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from exchange import Answer, Lists, Rows, Task, by_scores, run, threads
from lenskit.als import ImplicitMFConfig, ImplicitMFScorer
from lenskit.data import Dataset, ItemList, RecQuery, from_interactions_df
from lenskit.graphs import LightGCNConfig, LightGCNScorer
from lenskit.knn import EASEConfig, EASEScorer
from lenskit.training import TrainingOptions


def als(task: Task) -> Answer:
    """Implicit ALS; a user is solved for from the history of the query."""
    scorer = ImplicitMFScorer(ImplicitMFConfig(**task.settings))
    scorer.train(data(task), TrainingOptions(rng=task.seed))
    every = ItemList(np.arange(task.num_items))
    known = np.bincount(task.train.items, minlength=task.num_items) > 0

    def score(batch: Rows) -> np.ndarray:
        scores = np.empty((len(batch), task.num_items), dtype=np.float32)
        for row in range(len(batch)):
            history = batch.items[batch.indptr[row] : batch.indptr[row + 1]]
            history = history[known[history]]  # another item is an error to LensKit
            query = RecQuery(user_id=batch.users[row], history_items=ItemList(history))
            scores[row] = scorer(query, every).scores()
        return np.nan_to_num(scores, copy=False, nan=-np.inf)

    return by_scores(score)


def ease(task: Task) -> Answer:
    """Steck (WWW 2019)."""
    scorer = EASEScorer(EASEConfig(**task.settings))
    scorer.train(data(task), TrainingOptions(rng=task.seed))
    known = scorer.items.ids()

    def score(batch: Rows) -> np.ndarray:
        ones = np.ones(len(batch.items), dtype=np.float32)
        shape = len(batch), task.num_items
        history = sp.csr_array((ones, batch.items, batch.indptr), shape=shape)
        return spread(history[:, known] @ scorer.weights, known, task)

    return by_scores(score)


def lightgcn(task: Task) -> Answer:
    """He et al. (SIGIR 2020): users are as training left them, whatever they had since."""
    torch.set_num_threads(threads())
    torch.manual_seed(task.seed)
    scorer = LightGCNScorer(LightGCNConfig(**task.settings))
    trainer = scorer.create_trainer(data(task), TrainingOptions(rng=task.seed, device="cpu"))
    known = scorer.items.ids()
    place = np.full(task.num_users, -1)
    place[scorer.users.ids()] = np.arange(len(scorer.users))

    def answer(asked: Rows) -> Lists:
        with torch.inference_mode():
            vectors = scorer.model.get_embedding(scorer._edges).numpy()
        items, users = vectors[: len(known)], vectors[len(known) :]

        def score(batch: Rows) -> np.ndarray:
            found = place[batch.users]
            scores = users[found] @ items.T
            scores[found < 0] = -np.inf  # nobody that training knows
            return spread(scores, known, task)

        return by_scores(score)(asked)

    task.train_by_epoch(lambda _: trainer.train_epoch(), lambda: scorer.model, answer)
    trainer.finalize()
    return answer


def spread(scores: np.ndarray, known: np.ndarray, task: Task) -> np.ndarray:
    """Scores of the items that the model knows, in their places among all."""
    every = np.full((len(scores), task.num_items), -np.inf, dtype=np.float32)
    every[:, known] = scores
    return every


def data(task: Task) -> Dataset:
    train = task.train
    events = pd.DataFrame(
        {"user_id": train.users[train.rows], "item_id": train.items.astype(np.int64)}
    )
    return from_interactions_df(events.drop_duplicates())


if __name__ == "__main__":
    run({"als": als, "ease": ease, "lightgcn": lightgcn}, "lenskit", "torch")
