"""RecTools: SASRec and BERT4Rec of its torch module, and EASE."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from exchange import LIST_LENGTH, Answer, Lists, Rows, Task, by_table, run, threads
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset, IdMap, Interactions
from rectools.models import EASEModel
from rectools.models.nn.transformers.bert4rec import BERT4RecModel
from rectools.models.nn.transformers.sasrec import SASRecModel

CHUNK = 10_000
"""Queries that are answered at once."""


def sasrec(task: Task) -> Answer:
    """Kang and McAuley (ICDM 2018), with the loss that the settings name."""
    return transformer(SASRecModel, task)


def bert4rec(task: Task) -> Answer:
    """Sun et al. (CIKM 2019), with the loss that the settings name."""
    return transformer(BERT4RecModel, task)


def ease(task: Task) -> Answer:
    """Steck (WWW 2019)."""
    model = EASEModel(
        **task.settings, recommend_n_threads=threads(), recommend_use_gpu_ranking=False
    )
    model.fit(whole_matrix(task.train, task))
    return answer_of(model, task, whole_matrix)


def transformer(kind: type, task: Task) -> Answer:
    torch.set_num_threads(threads())
    seed_everything(task.seed)
    model = kind(**task.settings, recommend_torch_device="cpu", recommend_n_threads=threads())
    dataset = data(task.train, task)

    def epoch(_: int) -> None:
        model.fit_partial(dataset, min_epochs=1, max_epochs=1)

    answer = answer_of(model, task, data)
    task.train_by_epoch(epoch, lambda: model.torch_model, answer)
    return answer


def data(rows: Rows, task: Task) -> Dataset:
    """Every user and item has a place in it, with an event or not."""
    events = pd.DataFrame(
        {
            Columns.User: rows.users[rows.rows],
            Columns.Item: rows.items.astype(np.int64),
            Columns.Weight: 1.0,
            # Order within a history is all that counts.
            Columns.Datetime: pd.Timestamp("2020-01-01") + pd.to_timedelta(rows.places, unit="s"),
        }
    )
    user_map = IdMap.from_values(np.arange(task.num_users))
    item_map = IdMap.from_values(np.arange(task.num_items))
    return Dataset(user_map, item_map, Interactions(events))


def whole_matrix(rows: Rows, task: Task) -> Dataset:
    """The same where a model reads a matrix of users and items.

    RecTools makes it as wide as the last item that has an event: a user beside the others has
    had the very last one.
    """
    dataset = data(rows, task)
    user_map = IdMap.from_values(np.arange(task.num_users + 1))
    last = dataset.interactions.df.iloc[:1].assign(
        **{Columns.User: task.num_users, Columns.Item: task.num_items - 1}
    )
    events = pd.concat([dataset.interactions.df, last], ignore_index=True)
    return Dataset(user_map, dataset.item_id_map, Interactions(events))


def answer_of(model: Any, task: Task, data: Callable[[Rows, Task], Dataset]) -> Answer:
    """Recommendations for users whose interactions are those of the histories, as ``data``."""

    def answer(asked: Rows) -> Lists:
        tables = []
        for start in range(0, len(asked), CHUNK):
            part = asked.slice(start, min(start + CHUNK, len(asked)))
            table = model.recommend(
                users=part.users,
                dataset=data(part, task),
                k=LIST_LENGTH,
                filter_viewed=True,
                on_unsupported_targets="ignore",  # without a known item there is no list
            )
            tables.append(table)
        found = pd.concat(tables)
        row = np.full(task.num_users, -1)
        row[asked.users] = np.arange(len(asked))
        rows = row[found[Columns.User].to_numpy(np.int64)]
        items, scores = found[Columns.Item].to_numpy(), found[Columns.Score].to_numpy()
        return by_table(rows, items, scores, len(asked))

    return answer


if __name__ == "__main__":
    run({"sasrec": sasrec, "bert4rec": bert4rec, "ease": ease}, "rectools", "torch")
