"""implicit: ALS with users folded in from their histories, and BPR."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from exchange import Answer, Rows, Task, by_scores, run, threads
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from threadpoolctl import threadpool_limits


def matrix(rows: Rows, num_items: int) -> sp.csr_matrix:
    """``(rows, num_items)``, 1 where a row has the item."""
    ones = np.ones(len(rows.items), np.float32)
    shape = len(rows), num_items
    # A copy: summing duplicates sorts the items in place, and their order is the rows'.
    pairs = sp.csr_matrix((ones, rows.items, rows.indptr), shape=shape, copy=True)
    pairs.sum_duplicates()
    pairs.data[:] = 1
    return pairs


def als(task: Task) -> Answer:
    """Hu, Koren and Volinsky (ICDM 2008)."""
    model = AlternatingLeastSquares(**task.settings, random_state=task.seed, num_threads=threads())
    fit(model, task)

    def score(batch: Rows) -> np.ndarray:
        history = matrix(batch, task.num_items)
        users = model.recalculate_user(np.arange(len(batch)), history)
        return users @ model.item_factors.T

    return by_scores(score)


def bpr(task: Task) -> Answer:
    """Rendle et al. (UAI 2009): users are as training left them, whatever they had since.

    One thread: several race for the factors, and no two fits of a seed would be alike.
    """
    model = BayesianPersonalizedRanking(**task.settings, random_state=task.seed, num_threads=1)
    fit(model, task)
    return by_scores(lambda batch: model.user_factors[batch.users] @ model.item_factors.T)


def fit(model: Any, task: Task) -> None:
    with threadpool_limits(1, user_api="blas"):  # as implicit asks: it has threads of its own
        model.fit(matrix(task.train, task.num_items), show_progress=False)


if __name__ == "__main__":
    run({"als": als, "bpr": bpr}, "implicit")
