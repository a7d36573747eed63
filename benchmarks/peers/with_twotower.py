"""Models of this project: EASE, item-kNN, and variants, trained as `twotower train` does."""

from typing import Any

import numpy as np
from exchange import Answer, Rows, Task, by_scores, run

from twotower.data import Dataset, Histories, Queries
from twotower.factors.ease import EASE
from twotower.factors.item_knn import ItemKNN
from twotower.models.base import Scorer
from twotower.workflow.models import item_text, named_variant, train_variant
from twotower.workflow.progress import Silent


def ease(task: Task) -> Answer:
    return answer_of(EASE.fit(histories(task.train), task.num_items, **task.settings))


def item_knn(task: Task) -> Answer:
    return answer_of(ItemKNN.fit(histories(task.train), task.num_items, **task.settings))


def variant(task: Task) -> Answer:
    """One of `VARIANTS` as it is: epochs are chosen on validation, which is in the time.

    With ``epochs`` among the settings it is planned for so many.
    """
    dataset = Dataset.load(task.folder.parent / "dataset")
    name = task.settings["variant"]
    wanted = named_variant(name)
    if "epochs" in task.settings:
        wanted = wanted.vary(training=wanted.training.vary(epochs=task.settings["epochs"]))
    item_text(wanted, dataset, Silent())  # into the cache: the time is of training
    task.restart()
    trained = train_variant(wanted, dataset, name=name, seed=task.seed)
    task.best_epoch = 1 + (trained.state.best_epoch or 0)
    return answer_of(trained.module.scorer())


def answer_of(scorer: Scorer) -> Answer:
    def score(batch: Rows) -> Any:
        return scorer.scores(Queries(batch.users.astype(np.int32), histories(batch)))

    return by_scores(score)


def histories(rows: Rows) -> Histories:
    return Histories(rows.indptr, rows.items)


if __name__ == "__main__":
    run({"ease": ease, "item-knn": item_knn, "variant": variant}, "twotower")
