"""A two-tower whose user is the mean of the items read (Kabbur et al., *FISM*, KDD 2013)."""

from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.factors.scorer import FactorScorer
from twotower.models import base, export
from twotower.training.losses import SampledSoftmax
from twotower.training.negatives import Candidates
from twotower.training.trainer import TrainingConfig
from twotower.training.variant import Variant

LENGTH = 20


class MeanHistoryConfig(base.ModelFamily):
    kind: Literal["mean_history"] = "mean_history"
    embedding_dim: int = 64
    has_towers: ClassVar[bool] = True

    @property
    def inputs_needed(self) -> frozenset[base.ItemInput]:
        return frozenset(("text",))

    def build(self, inputs: base.ModelInputs) -> "MeanHistory":
        return MeanHistory(torch.from_numpy(inputs.text), self.embedding_dim)


class ItemTower(nn.Module):
    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(text_dim, dim, bias=False)

    def forward(self, item: Tensor, text: Tensor) -> Tensor:  # (n, d), (n, t) -> (n, d)
        return F.normalize(item + self.project(text), dim=-1)


class UserTower(nn.Module):
    def forward(self, history: Tensor, lengths: Tensor) -> Tensor:  # (B, L, d), (B,) -> (B, d)
        used = torch.arange(history.shape[1]) < lengths[:, None]
        return F.normalize((history * used[..., None]).sum(1), dim=-1)


class MeanHistory(base.RetrievalModule):
    example_source: ClassVar[str] = "sequences"  # every position of a history is an example
    history_length = LENGTH

    def __init__(self, text: Tensor, dim: int) -> None:
        super().__init__()
        self.ids = nn.Embedding(len(text) + 1, dim)  # row 0: an item that training never saw
        nn.init.normal_(self.ids.weight, std=0.05)
        self.register_buffer("text", F.pad(text, (0, 0, 1, 0)), persistent=False)
        self.items, self.users = ItemTower(text.shape[1], dim), UserTower()

    def forward(self, batch: base.Batch) -> base.Embeddings:
        wanted = torch.cat([batch.histories.flatten(), base.wanted_items(batch) + 1])
        vectors = self.items(self.ids(wanted), self.text[wanted])
        read, items = vectors.split([batch.histories.numel(), len(base.wanted_items(batch))])
        means = F.normalize(read.reshape(*batch.histories.shape, -1).cumsum(1), dim=-1)
        query = means.flatten(0, 1)[batch.positions]  # the user after each item
        penalty = base.half_squared_norm(len(wanted), vectors)
        return base.Embeddings.of(batch, query, *base.split_items(items, batch), penalty)

    @torch.no_grad()
    def table(self) -> Tensor:
        return self.items(self.ids.weight, self.text)

    @torch.no_grad()
    def scorer(self) -> FactorScorer:
        table = self.table()

        def encode(queries):
            items, lengths = map(torch.from_numpy, queries.histories.padded(LENGTH))
            return self.users(table[items.long()], lengths).numpy()

        return FactorScorer(table[1:].numpy(), encode)

    def export(self, num_users: int) -> base.ServedTowers:
        dim, one = self.ids.embedding_dim, torch.ones(1, dtype=torch.int64)
        history, text = torch.zeros(1, 2, dim), torch.zeros(1, self.text.shape[1])
        return base.ServedTowers(
            user_tower=export.exported(self.users, {"history": history, "lengths": one}),
            item_tower=export.exported(self.items, {"item": torch.zeros(1, dim), "text": text}),
            user_table=np.zeros((num_users + 1, 0), np.float32),
            unknown_id=self.ids.weight[0].detach().numpy(),
            history_length=LENGTH,
            history_table=self.table().numpy() * (np.arange(len(self.text)) > 0)[:, None],
            history_is_vector=True,
        )


MEAN_HISTORY = Variant(
    model=MeanHistoryConfig(),
    loss=SampledSoftmax(temperature=0.1),
    negatives=Candidates(),
    training=TrainingConfig(epochs=5, batch_size=64, learning_rate=5e-3),
)
