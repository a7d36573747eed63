"""RecBole: LightGCN and SASRec."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from exchange import Answer, Lists, Rows, Task, by_scores, run, threads
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import create_samplers
from recbole.utils import get_model, get_trainer, init_seed

Question: TypeAlias = Callable[[np.ndarray, Rows, np.ndarray], Interaction]
"""RecBole's numbers of the users, the batch, RecBole's numbers of all items → what to ask."""

LONGEST = 32
"""Items of a history that a sequential model reads."""
COMMON = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "use_gpu": False,
    "show_progress": False,
    "save_dataset": False,
    "train_batch_size": 2048,
    "MAX_ITEM_LIST_LENGTH": LONGEST,
    # Everything that it is given is for training.
    "eval_args": {
        "split": {"RS": [1.0, 0.0, 0.0]},
        "order": "TO",
        "group_by": "none",
        "mode": "full",
    },
}


def lightgcn(task: Task) -> Answer:
    """He et al. (SIGIR 2020): users are as training left them, whatever they had since."""

    def question(users: np.ndarray, _: Rows, __: np.ndarray) -> Interaction:
        return Interaction({"user_id": torch.from_numpy(users)})

    return trained("LightGCN", task, {}, question)


def sasrec(task: Task) -> Answer:
    """Kang and McAuley (ICDM 2018), by default with cross-entropy over all items."""

    def question(_: np.ndarray, batch: Rows, item_ids: np.ndarray) -> Interaction:
        known = item_ids[batch.items] > 0
        counts = np.bincount(batch.rows[known], minlength=len(batch))
        kept = Rows(batch.users, np.append(0, np.cumsum(counts)), batch.items[known])
        newest, lengths = kept.newest(LONGEST)
        return Interaction(
            {
                "item_id_list": torch.from_numpy(np.where(newest < 0, 0, item_ids[newest])),
                # An empty history is one of padding; it ends somewhere all the same.
                "item_length": torch.from_numpy(np.maximum(lengths, 1)),
            }
        )

    return trained("SASRec", task, {"train_neg_sample_args": None}, question)


def trained(name: str, task: Task, own: dict[str, Any], question: Question) -> Answer:
    torch.set_num_threads(threads())
    write_events(task.train, Path("data/log/log.inter"))
    settings = COMMON | own | task.settings | {"data_path": "data", "seed": task.seed}
    config = Config(model=name, dataset="log", config_dict=settings)
    init_seed(task.seed, reproducibility=True)
    dataset = create_dataset(config)
    built = dataset.build()
    sampler = create_samplers(config, dataset, built)[0]
    loader = TrainDataLoader(config, built[0], sampler, shuffle=True)
    model = get_model(name)(config, loader.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    user_ids = internal_ids(dataset, "user_id", task.num_users)
    item_ids = internal_ids(dataset, "item_id", task.num_items)
    known = np.flatnonzero(item_ids)

    def score(batch: Rows) -> np.ndarray:
        asked = question(user_ids[batch.users], batch, item_ids)
        with torch.inference_mode():
            found = model.full_sort_predict(asked).reshape(len(batch), -1).numpy()
        every = np.full((len(batch), task.num_items), -np.inf, dtype=np.float32)
        every[:, known] = found[:, item_ids[known]]
        return every

    def answer(asked: Rows) -> Lists:
        model.eval()
        for kept in getattr(model, "other_parameter_name", ()):
            setattr(model, kept, None)  # vectors of other weights
        return by_scores(score)(asked)

    task.train_by_epoch(lambda epoch: trainer._train_epoch(loader, epoch), lambda: model, answer)
    return answer


def write_events(train: Rows, path: Path) -> None:
    path.parent.mkdir(parents=True)
    events = pd.DataFrame(
        {
            "user_id:token": train.users[train.rows],
            "item_id:token": train.items,
            "timestamp:float": train.places,  # order within a history is all that counts
        }
    )
    events.to_csv(path, sep="\t", index=False)


def internal_ids(dataset: Any, field: str, count: int) -> np.ndarray:
    """``(count,)`` RecBole's numbers of ours; 0, its padding, where training has none."""
    found = np.zeros(count, dtype=np.int64)
    for token, number in dataset.field2token_id[field].items():
        if token != "[PAD]":
            found[int(token)] = number
    return found


if __name__ == "__main__":
    run({"lightgcn": lightgcn, "sasrec": sasrec}, "recbole", "torch")
