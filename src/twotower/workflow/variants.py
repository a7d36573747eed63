"""Named variants as data: `VARIANTS["v5"]` states how it differs from `VARIANTS["v4"]`."""

from typing import Final, NamedTuple

from twotower.models.fusion import FMGatesConfig
from twotower.models.history import GRUConfig
from twotower.models.lightgcn import LightGCNConfig
from twotower.models.mf import MFConfig
from twotower.models.sequence_towers import SequenceConfig
from twotower.models.towers import ItemTowerConfig, UserTowerConfig
from twotower.models.two_tower import TwoTowerConfig
from twotower.registry import Registry
from twotower.training.distillation import MSE, Cosine
from twotower.training.losses import BPR, InfoNCE, SampledSoftmax
from twotower.training.negatives import (
    Candidates,
    Curriculum,
    Hard,
    InBatch,
    Popularity,
    Stage,
    Uniform,
)
from twotower.training.trainer import TrainingConfig
from twotower.training.variant import Variant

MF: Final = Variant(
    model=MFConfig(init_std=0.01),
    loss=BPR(regularisation=1e-2),
    negatives=Popularity(count=4, power=0.75),
    training=TrainingConfig(epochs=20, batch_size=2048, learning_rate=1e-3),
)
"""Matrix factorisation with BPR; `docs/models.md` reports the effect of small initial tables and
of negatives in proportion to popularity."""

LIGHTGCN: Final = Variant(
    model=LightGCNConfig(layers=3, init_std=0.01),
    loss=BPR(regularisation=1e-3),
    negatives=Popularity(count=4, power=0.5),
    training=TrainingConfig(epochs=100, batch_size=8192, learning_rate=5e-3),
)

_ITEM: Final = ItemTowerConfig()
_ITEM_WITH_TEXT: Final = _ITEM.vary(text_dim=64)
_USER: Final = UserTowerConfig()
_USER_WITH_HISTORY: Final = _USER.vary(history=GRUConfig(length=20, hidden_dim=64))

V1: Final = Variant(
    model=TwoTowerConfig(user_tower=_USER, item_tower=_ITEM),
    loss=InfoNCE(temperature=0.2, log_q=True),
    negatives=InBatch(),
    training=TrainingConfig(epochs=8, batch_size=256, learning_rate=1e-3),
)
"""Ids and features in both towers. The log-q correction is in every variant but those that say
so: without it in-batch negatives hold popular items back, and the model ends near popularity."""

V2: Final = V1.vary(distillation=(MSE(teacher="lightgcn", weight=0.5),))
"""v1 distilled from LightGCN's user and item vectors, by squared distance."""

V3: Final = V1.vary(distillation=(Cosine(teacher="lightgcn", weight=0.9),))
"""v1 distilled from LightGCN's user and item vectors, by cosine."""

V4: Final = V1.vary(model=V1.model.vary(item_tower=_ITEM_WITH_TEXT))
"""v1 with title text in the item tower."""

V4B: Final = V4.vary(training=V4.training.vary(batch_size=1024))
"""v4 with four times the batch, and so four times the negatives."""

V4C: Final = V4.vary(training=V4.training.vary(learning_rate=3e-4))
"""v4 with a third of the step size."""

V4_BPR: Final = V4.vary(
    loss=BPR(regularisation=1e-4), negatives=Hard(count=4, pool=1000, margin=None)
)
"""v4 with BPR on plain cosines and the hardest negatives, as the public reference has it, which
collapsed: see `docs/models.md`."""

V4_BPR_FIXED: Final = V4_BPR.vary(
    loss=BPR(regularisation=1e-4, temperature=0.1),
    negatives=Hard(count=4, pool=1000, margin=0.1),
)
"""v4-bpr with differences of cosines scaled, and likely false negatives left out."""

V5: Final = V4.vary(model=V4.model.vary(user_tower=_USER_WITH_HISTORY))
"""v4 with a GRU over the text of the last 20 items in the user tower."""

V5B: Final = V5.vary(text_fields="rich")
"""v5 with rich text: title, store, category, bullet points and description."""

V5C: Final = V5.vary(model=V5.model.vary(init_from="lightgcn"))
"""v5 with id tables initialised from LightGCN's vectors."""

V6: Final = V5.vary(
    negatives=Curriculum(
        stages=(
            Stage(from_epoch=0, negatives=InBatch()),
            Stage(from_epoch=2, negatives=Hard(pool=100, margin=0.1, in_batch=True)),
            Stage(from_epoch=4, negatives=Hard(pool=1000, margin=0.1, in_batch=True)),
        )
    )
)
"""v5 with a curriculum: the batch, then also hard negatives, then harder ones."""

V7: Final = V5.vary(model=V5.model.vary(item_tower=_ITEM_WITH_TEXT.vary(image_dim=64)))
"""v5 with image embeddings in the item tower."""

V8: Final = V5.vary(
    model=V5.model.vary(
        user_tower=_USER_WITH_HISTORY.vary(fusion=FMGatesConfig()),
        item_tower=_ITEM_WITH_TEXT.vary(fusion=FMGatesConfig()),
    )
)
"""v5 with the parts of each tower summed by learned gates."""

V5_NO_LOG_Q: Final = V5.vary(loss=InfoNCE(temperature=0.2, log_q=False))
"""v5 without the log-q correction, as the public reference trains it."""

V9: Final = Variant(
    model=SequenceConfig(),
    loss=SampledSoftmax(temperature=0.05),
    negatives=Candidates(sampled=Uniform(count=2048)),
    training=TrainingConfig(
        epochs=10,
        least_steps=600,
        batch_size=256,
        learning_rate=2e-3,
        schedule="cosine",
        patience=None,
        validation_users=20_000,
    ),
)
"""No user table, a transformer over the newest items of a history, trained at every position of
them, beside least-squares factors; `docs/v9.md` says how it came about."""

V10: Final = V9.vary(
    model=V9.model.vary(index_dim=None, choose_factors=True, columns="chosen", read_gaps=True),
    negatives=Candidates(sampled=Popularity(count=1024, power=0)),
    training=TrainingConfig(
        epochs=100,
        learning_rate=2e-3,
        warmup_steps=100,
        average=0.998,
        patience=2,
        patience_at_first=8,
        least_gain=0.005,
        validation_users=20_000,
        validate_steps=250,
        towers_alone=True,
    ),
    text_fields="title-or-rich",
    sizing="by-log",
)
"""v9 whose towers are trained on whole histories until validation of the towers alone ends it, in
sizes that follow from the log, and not projected, beside a least-squares part whose settings are
chosen on validation; `docs/v10.md` says how it came about."""

VARIANTS: Final = {
    "mf": MF,
    "lightgcn": LIGHTGCN,
    "v1": V1,
    "v2": V2,
    "v3": V3,
    "v4": V4,
    "v4b": V4B,
    "v4c": V4C,
    "v4-bpr": V4_BPR,
    "v4-bpr-fixed": V4_BPR_FIXED,
    "v5": V5,
    "v5b": V5B,
    "v5c": V5C,
    "v6": V6,
    "v7": V7,
    "v8": V8,
    "v5-no-log-q": V5_NO_LOG_Q,
    "v9": V9,
    "v10": V10,
}
"""Name → variant, in the order of the study."""

ADDED_VARIANTS: Final[Registry[Variant]] = Registry("twotower.variants", "model", {})
"""Variants that other packages add by entry points, each a `Variant`."""


class Step(NamedTuple):
    """One row of the ablation study."""

    name: str
    """A name in `VARIANTS`."""
    parent: str | None
    """The variant that it is compared with, or None for a model that stands for itself."""
    change: str
    """How it differs from its parent, for the report."""


STUDY: Final = (
    Step("mf", None, "matrix factorisation with BPR"),
    Step("lightgcn", None, "LightGCN with BPR"),
    Step("v1", None, "id and features in both towers, InfoNCE, batch 256, temperature 0.2"),
    Step("v2", "v1", "MSE distillation from LightGCN, weight 0.5"),
    Step("v3", "v1", "cosine distillation from LightGCN, weight 0.9"),
    Step("v4", "v1", "title text in the item tower"),
    Step("v4b", "v4", "batch 1024"),
    Step("v4c", "v4", "learning rate 3e-4"),
    Step("v4-bpr", "v4", "BPR on cosines and hard negatives"),
    Step("v4-bpr-fixed", "v4-bpr", "cosines divided by 0.1, no negatives near the positive"),
    Step("v5", "v4", "GRU over the text of the last 20 items"),
    Step("v5b", "v5", "rich text: title, store, category, bullet points and description"),
    Step("v5c", "v5", "id tables start as LightGCN's vectors"),
    Step("v6", "v5", "curriculum: the batch, then hard negatives, then harder ones"),
    Step("v7", "v5", "image embeddings in the item tower"),
    Step("v8", "v5", "parts summed by learned gates instead of the concat-MLP"),
    Step("v5-no-log-q", "v5", "no log-q correction"),
    Step("v9", None, "a transformer over the history beside least squares, no user table"),
    Step("v10", "v9", "whole histories, sizes by the log, towers trained until they converge"),
)
"""The ablation study, parents before children; each row differs from its parent in one thing."""
