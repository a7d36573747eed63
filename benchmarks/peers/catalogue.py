"""The peers, as data: which library, in which environment, with which settings to choose from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Settings: TypeAlias = Mapping[str, Any]

MOST_SETTINGS: Final = 4
"""A grid is no longer than this: every peer is tuned with the same small budget."""


@dataclass(frozen=True)
class Peer:
    """A model of a library.

    Attributes
    ----------
    adapter
        The script beside this file that fits it, and the name that it knows the model by.
    environment
        Name of the file in ``requirements/``; None is the environment of this project.
    what
        What it is, in words.
    grid
        Settings to choose from on validation, the most promising first.
    random
        Whether a seed decides anything.
    """

    adapter: tuple[str, str]
    environment: str | None
    what: str
    grid: tuple[Settings, ...]
    random: bool = True


_LAMBDAS: Final = tuple({"regularization": value} for value in (50.0, 200.0, 20.0, 1000.0))
_SASREC: Final = {
    "n_blocks": 2,
    "n_heads": 2,
    "n_factors": 64,
    "session_max_len": 32,
    "loss": "gBCE",
    "n_negatives": 128,
    "gbce_t": 0.75,
    "lr": 1e-3,
    "batch_size": 128,
    "dropout_rate": 0.2,
}
_LIGHTGCN: Final = {"embedding_size": 64, "learning_rate": 5e-3, "train_batch_size": 8192}

PEERS: Final = {
    "implicit-als": Peer(
        ("with_implicit.py", "als"),
        None,
        "implicit's ALS, users folded in",
        (
            {"factors": 192, "regularization": 1.0, "alpha": 40.0, "iterations": 10},
            {"factors": 64, "regularization": 1.0, "alpha": 40.0, "iterations": 10},
            {"factors": 192, "regularization": 0.1, "alpha": 10.0, "iterations": 15},
            {"factors": 64, "regularization": 10.0, "alpha": 5.0, "iterations": 15},
        ),
    ),
    "implicit-bpr": Peer(
        ("with_implicit.py", "bpr"),
        None,
        "implicit's BPR",
        (
            {"factors": 64, "learning_rate": 0.05, "regularization": 0.01, "iterations": 400},
            {"factors": 64, "learning_rate": 0.05, "regularization": 0.01, "iterations": 200},
            {"factors": 64, "learning_rate": 0.05, "regularization": 0.03, "iterations": 200},
            {"factors": 64, "learning_rate": 0.01, "regularization": 0.01, "iterations": 200},
        ),
    ),
    "ease": Peer(
        ("with_twotower.py", "ease"),
        None,
        "EASE of this project",
        tuple({"regularisation": one["regularization"]} for one in _LAMBDAS),
        random=False,
    ),
    "item-knn": Peer(
        ("with_twotower.py", "item-knn"),
        None,
        "item-kNN of this project",
        ({"neighbours": None}, {"neighbours": 100}, {"neighbours": 20}),
        random=False,
    ),
    "rectools-sasrec": Peer(
        ("with_rectools.py", "sasrec"),
        "rectools",
        "RecTools' SASRec",
        (
            _SASREC,
            {**_SASREC, "n_factors": 128, "n_negatives": 256},
            {**_SASREC, "loss": "softmax"},
            {**_SASREC, "lr": 3e-3, "dropout_rate": 0.4},
        ),
    ),
    "rectools-bert4rec": Peer(
        ("with_rectools.py", "bert4rec"),
        "rectools",
        "RecTools' BERT4Rec",
        (
            _SASREC,
            {**_SASREC, "n_factors": 128, "n_negatives": 256},
            {**_SASREC, "loss": "softmax"},
            {**_SASREC, "lr": 3e-3, "dropout_rate": 0.4},
        ),
    ),
    "rectools-ease": Peer(
        ("with_rectools.py", "ease"), "rectools", "RecTools' EASE", _LAMBDAS, random=False
    ),
    "lenskit-als": Peer(
        ("with_lenskit.py", "als"),
        "lenskit",
        "LensKit's implicit ALS, users folded in",
        (
            {"embedding_size": 128, "regularization": 1.0, "weight": 40.0, "epochs": 10},
            {"embedding_size": 64, "regularization": 1.0, "weight": 40.0, "epochs": 10},
            {"embedding_size": 128, "regularization": 10.0, "weight": 10.0, "epochs": 10},
            {"embedding_size": 64, "regularization": 10.0, "weight": 5.0, "epochs": 10},
        ),
    ),
    "lenskit-ease": Peer(
        ("with_lenskit.py", "ease"), "lenskit", "LensKit's EASE", _LAMBDAS, random=False
    ),
    "lenskit-lightgcn": Peer(
        ("with_lenskit.py", "lightgcn"),
        "lenskit",
        "LensKit's LightGCN",
        (
            {"embedding_size": 64, "layer_count": 3, "learning_rate": 0.01, "batch_size": 8192},
            {"embedding_size": 64, "layer_count": 2, "learning_rate": 0.003, "batch_size": 8192},
            {
                "embedding_size": 64,
                "layer_count": 3,
                "learning_rate": 0.003,
                "regularization": 1e-4,
                "batch_size": 8192,
            },
            {"embedding_size": 64, "layer_count": 3, "loss": "logistic", "batch_size": 8192},
        ),
    ),
    "recbole-lightgcn": Peer(
        ("with_recbole.py", "lightgcn"),
        "recbole",
        "RecBole's LightGCN",
        (
            {**_LIGHTGCN, "n_layers": 3, "reg_weight": 1e-4},
            {**_LIGHTGCN, "n_layers": 3, "reg_weight": 1e-2},
            {**_LIGHTGCN, "n_layers": 2, "reg_weight": 1e-4},
            {**_LIGHTGCN, "n_layers": 3, "reg_weight": 1e-4, "learning_rate": 1e-3},
        ),
    ),
    "recbole-sasrec": Peer(
        ("with_recbole.py", "sasrec"),
        "recbole",
        "RecBole's SASRec",
        (
            {"learning_rate": 1e-3, "hidden_dropout_prob": 0.5},
            {"learning_rate": 1e-3, "hidden_dropout_prob": 0.2},
            {"learning_rate": 3e-3, "hidden_dropout_prob": 0.5},
            {"learning_rate": 1e-3, "hidden_dropout_prob": 0.5, "hidden_size": 128},
        ),
    ),
    "reference-mf": Peer(
        ("with_twotower.py", "variant"),
        None,
        "the reference's MF, rebuilt",
        ({"variant": "mf"},),
    ),
    "reference-lightgcn": Peer(
        ("with_twotower.py", "variant"),
        None,
        "the reference's LightGCN, rebuilt",
        ({"variant": "lightgcn"},),
    ),
    "reference-two-tower": Peer(
        ("with_twotower.py", "variant"),
        None,
        "the reference's two-tower, rebuilt",
        ({"variant": "v5-no-log-q"},),
    ),
    **{
        f"v9-{epochs}-epochs": Peer(
            ("with_twotower.py", "variant"),
            None,
            f"the default here, stopped after {epochs} of its 10 epochs",
            ({"variant": "v9", "epochs": epochs},),
        )
        for epochs in (2, 5)
    },
    "v9": Peer(("with_twotower.py", "variant"), None, "the default here", ({"variant": "v9"},)),
}
"""Name → peer, in the order of the table; the last is what they are the peers of. Its shorter
trainings before it give the curve of its quality against time."""


def in_words(settings: Settings) -> str:
    """The settings on one line.

    >>> in_words({"factors": 64, "alpha": 40.0, "neighbours": None})
    'factors=64 alpha=40 neighbours=None'
    """
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in settings.items()
    )
