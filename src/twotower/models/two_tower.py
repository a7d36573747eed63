"""Two-tower model: id tables, towers and item data."""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.data import Histories, Queries
from twotower.errors import InputError
from twotower.factors.scorer import FactorScorer, trained_items
from twotower.features import (
    ITEM_FEATURES,
    USER_FEATURES,
    ItemFeatures,
    UserFeatures,
    user_inputs,
)
from twotower.models.base import (
    Batch,
    Embeddings,
    ItemInput,
    ModelFamily,
    ModelInputs,
    RetrievalModule,
    ServedTowers,
    TeacherVectors,
    evaluating,
    half_squared_norm,
    split_items,
    wanted_items,
)
from twotower.models.export import exported
from twotower.models.fusion import FMGates
from twotower.models.towers import ItemTower, ItemTowerConfig, UserTower, UserTowerConfig, hide_ids
from twotower.types import Array, BoolArray, FloatArray


class HistoryContext:
    """The items before each event, and the user features up to then.

    No example sees its own target: event ``e`` is predicted from events of the same user strictly
    before ``e``.
    """

    def __init__(
        self, train: Histories, length: int, running: FloatArray, empty: FloatArray
    ) -> None:
        self._items = train.items.astype(np.int64) + 1
        self._starts = np.repeat(train.indptr[:-1], train.lengths)
        self._length = length
        self._running, self._empty = running, empty

    def __call__(self, events: Array) -> tuple[Array, Array, FloatArray]:
        """Histories, lengths and features before each event."""
        starts = self._starts[events]
        lengths = np.minimum(events - starts, self._length)
        width = int(lengths.max(initial=1))  # no wider than this batch needs
        column = np.arange(width)
        used = column < lengths[:, None]
        position = (events - lengths)[:, None] + column
        histories = np.where(used, self._items[np.where(used, position, 0)], 0)
        first = events == starts
        features = np.where(first[:, None], self._empty, self._running[events - 1])
        return histories, lengths, features


class TwoTowerConfig(ModelFamily):
    """A user tower and an item tower that share one vector space (Yi et al., RecSys 2019)."""

    kind: Literal["two_tower"] = "two_tower"
    embedding_dim: int = Field(64, ge=1)
    """Length of a user or item vector."""
    init_std: float = Field(0.05, gt=0)
    """Standard deviation of the initial id tables."""
    init_from: str | None = None
    """Name of a trained model whose vectors initialise the id tables, or None. The dimensions must
    be equal."""
    user_tower: UserTowerConfig = UserTowerConfig()
    item_tower: ItemTowerConfig = ItemTowerConfig()
    has_towers: ClassVar[bool] = True
    exposure: float = Field(0.05, ge=0, le=1)
    """See `twotower.factors.cold_items.ColdItems`."""

    @property
    def inputs_needed(self) -> frozenset[ItemInput]:
        """Text if either tower reads it, images if the item tower does."""
        reads_text = self.item_tower.text_dim is not None or self.user_tower.history is not None
        reads: dict[ItemInput, bool] = {
            "text": reads_text,
            "image": self.item_tower.image_dim is not None,
        }
        return frozenset(name for name, is_read in reads.items() if is_read)

    @property
    def teachers(self) -> tuple[str, ...]:
        """The model that initialises the id tables, if any."""
        return () if self.init_from is None else (self.init_from,)

    @property
    def history_length(self) -> int:
        """Newest items that the user tower reads; 0 where it reads none."""
        return 0 if self.user_tower.history is None else self.user_tower.history.length

    @model_validator(mode="after")
    def _history_reads_text(self) -> "TwoTowerConfig":
        if self.user_tower.history is not None and self.item_tower.text_dim is None:
            raise ValueError(
                "user_tower.history reads item text, but item_tower.text_dim is None; "
                "set item_tower.text_dim, for example 64"
            )
        return self

    def build(self, inputs: ModelInputs) -> "TwoTower":
        """Make the module; features are fitted on the training part."""
        train, catalogue = inputs.dataset.train, inputs.dataset.catalogue
        items = ItemData(
            ItemFeatures.fit(train, catalogue, notices=True).values,
            inputs.text if "text" in self.inputs_needed else None,
            trained_items(train, len(inputs.dataset.items)),
            inputs.image if "image" in self.inputs_needed else None,
        )
        users = UserFeatures.fit(train, catalogue, notices=True)
        return TwoTower(self, train.lengths > 0, items, users)


class ItemData(NamedTuple):
    """Item inputs of the towers; row ``i`` is item index ``i``."""

    features: FloatArray
    """``(num_items, 15)`` standardised item features."""
    text: FloatArray | None
    """``(num_items, t)`` unit text embeddings, or None for a model without text."""
    trained: BoolArray
    """``(num_items,)`` whether an item has a training event. Without one its row of the id table
    would still be random, so it is embedded with the unknown id."""
    image: FloatArray | None = None
    """``(num_items, m)`` unit image embeddings, zero for items without an image; None for a model
    without images."""


class TwoTower(RetrievalModule):
    """The trainable module of the two-tower model.

    Row 0 of every table is the unknown id (or the padding); index ``i`` is row ``i + 1``.
    ``user_ids`` and ``item_ids`` map each row to the row of the id table to look up: its own, or 0
    without training events.
    """

    bounds_cold_items: ClassVar[bool] = True
    user_ids: Tensor
    item_ids: Tensor
    item_features: Tensor
    item_text: Tensor
    item_image: Tensor
    cold_scale: Tensor

    def __init__(
        self,
        config: TwoTowerConfig,
        trained_users: BoolArray,
        items: ItemData,
        user_features: UserFeatures,
    ) -> None:
        """Make an untrained model.

        ``trained_users`` ``(num_users,)`` marks users with a training event. The others get the
        unknown id: their own rows stay random.
        """
        super().__init__()
        self.config = config
        self.user_features = user_features
        self.num_items = len(items.features)
        nothing = np.zeros((self.num_items, 0), np.float32)
        text = nothing if items.text is None else items.text
        image = nothing if items.image is None else items.image
        # Sparse: a batch reads few rows, and `RowAdam` updates only those.
        self.user_embedding = nn.Embedding(
            len(trained_users) + 1, config.user_tower.id_dim, sparse=True
        )
        self.item_embedding = nn.Embedding(
            self.num_items + 1, config.item_tower.id_dim, sparse=True
        )
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=config.init_std)
        # Data of the data set, not weights: kept out of the checkpoints.
        for name, trained in (("user_ids", trained_users), ("item_ids", items.trained)):
            ids = np.append(0, np.arange(1, len(trained) + 1) * trained)
            self.register_buffer(name, torch.from_numpy(ids), persistent=False)
        for name, values in (("features", items.features), ("text", text), ("image", image)):
            padded = F.pad(torch.from_numpy(values), (0, 0, 1, 0))  # row 0
            self.register_buffer(f"item_{name}", padded, persistent=False)
        self.trained = items.trained
        self.register_buffer("cold_scale", torch.ones(()))
        self.user_tower = UserTower(config.user_tower, config.embedding_dim)
        self.item_tower = ItemTower(
            config.item_tower, text.shape[1], image.shape[1], config.embedding_dim
        )
        if config.user_tower.history is not None:
            width = config.user_tower.history.hidden_dim
            self.history_text = nn.Linear(text.shape[1], width, bias=False)

    def forward(self, batch: Batch) -> Embeddings:
        """Run both towers over a batch."""
        ids = self.user_ids[batch.users + 1]
        hidden = hide_ids(ids, self.config.user_tower.id_dropout, self.training)
        user = self.user_embedding(hidden)
        query = self.user_tower(
            user, self._history_vectors(batch.histories), batch.lengths, batch.features
        )
        items = self.embed_items(wanted_items(batch) + 1)
        penalty = half_squared_norm(len(user), user)
        return Embeddings.of(batch, query, *split_items(items, batch), penalty)

    @property
    def history_length(self) -> int:
        """Newest items that the user tower reads; 0 where it reads none."""
        return self.config.history_length

    def context(self, train: Histories) -> HistoryContext:
        """The items before each event, and the user features at that time."""
        features = self.user_features
        return HistoryContext(
            train, self.config.history_length, features.running(train), features.empty
        )

    def before_fit(
        self, train: Histories, seed: int, teachers: Mapping[str, TeacherVectors]
    ) -> None:
        """Initialise the id tables from another model's vectors, if ``init_from`` names one."""
        del train, seed
        if self.config.init_from is not None:
            self.start_from(*teachers[self.config.init_from].own_vectors)

    def after_refit(self, train: Histories, evaluated: Self | None) -> None:
        """Copy the evaluated module's scale of cold-start items."""
        del train
        if evaluated is not None:
            self.cold_scale.copy_(evaluated.cold_scale)

    @torch.no_grad()
    def start_from(self, users: FloatArray, items: FloatArray) -> None:
        """Set the id tables to ``(num_users, id_dim)`` and ``(num_items, id_dim)`` vectors.

        The unknown user and the unknown item start from the mean of those with training events.

        Raises
        ------
        InputError
            Where the vectors are not as wide as the tables.
        """
        for side, table, vectors, ids in (
            ("user", self.user_embedding, users, self.user_ids),
            ("item", self.item_embedding, items, self.item_ids),
        ):
            if vectors.shape[1] != table.embedding_dim:
                raise InputError(
                    f"init_from {self.config.init_from!r} has vectors of {vectors.shape[1]} "
                    f"dimensions, {side}_tower.id_dim is {table.embedding_dim}",
                    "give both the same number",
                )
            table.weight[1:] = torch.from_numpy(vectors)
            table.weight[0] = table.weight[ids[ids > 0]].mean(dim=0)

    @property
    def has_factors(self) -> bool:
        """False: a cold-start item has only its tower vector."""
        return False

    @property
    def exposure(self) -> float:
        """See `twotower.factors.cold_items.ColdItems.exposure`."""
        return self.config.exposure

    def embed_items(self, rows: Tensor) -> Tensor:
        """Vectors ``(n, d)`` of 1-based rows ``(n,)``; training hides ids at random."""
        ids = self.item_ids[rows]
        hidden = hide_ids(ids, self.config.item_tower.id_dropout, self.training)
        vectors: Tensor = self.item_tower(
            self.item_embedding(hidden),
            self.item_text[rows],
            self.item_image[rows],
            self.item_features[rows],
        )
        return vectors

    def history_table(self) -> Tensor:
        """``(num_items + 1, h)`` item vectors that the history encoder reads; row 0 is padding."""
        table: Tensor = self.history_text(self.item_text)
        return table

    def gate_weights(self) -> dict[str, dict[str, float]]:
        """Weight of each part in its tower, ``{"user": {"id": 0.5, …}, "item": {…}}``.

        Towers without gated fusion are left out.
        """
        towers: dict[str, UserTower | ItemTower]
        towers = {"user": self.user_tower, "item": self.item_tower}
        return {
            name: dict(zip(tower.parts, tower.fusion.gate_weights().tolist(), strict=True))
            for name, tower in towers.items()
            if isinstance(tower.fusion, FMGates)
        }

    def _history_vectors(self, histories: Tensor) -> Tensor:
        """``(B, L)`` 1-based items to ``(B, L, h)``; padding is not projected."""
        if self.config.user_tower.history is None:
            return self.item_text.new_zeros(*histories.shape, 0)
        used = histories > 0
        width = self.config.user_tower.history.hidden_dim
        vectors = self.item_text.new_zeros(*histories.shape, width)
        vectors[used] = self.history_text(self.item_text[histories[used]])
        return vectors

    @torch.no_grad()
    def scorer(self) -> FactorScorer:
        """A scorer that embeds every item once, and users per query."""
        rows = torch.arange(1, self.num_items + 1, device=self.item_text.device)
        with evaluating(self):
            items = torch.cat([self.embed_items(part) for part in torch.split(rows, 4096)])
        vectors = items.cpu().numpy()
        vectors[~self.trained] *= float(self.cold_scale)
        return FactorScorer(vectors, self.encode_users)

    @torch.no_grad()
    def encode_users(self, queries: Queries) -> FloatArray:
        """``(queries, d)`` user vectors with the current weights."""
        inputs = user_inputs(queries, self.user_features, max(self.config.history_length, 1))
        users, items, lengths, features = (
            torch.from_numpy(array).to(self.item_text.device) for array in inputs
        )
        width = int(inputs.lengths.max(initial=1))
        with evaluating(self):
            history = self._history_vectors(items[:, :width])
            vectors: Tensor = self.user_tower(
                self.user_embedding(self.user_ids[users]), history, lengths, features
            )
        return vectors.cpu().numpy()

    def export(self, num_users: int) -> ServedTowers:
        """Both towers as ONNX models, and the tables that they read.

        The user tower has inputs ``user (B, id_dim)``, ``history (B, L, h)``, ``lengths (B,)``
        int64 and ``features (B, F)``; the item tower ``item (B, id_dim)``, ``text (B, t)``,
        ``image (B, m)`` and ``features (B, F)``. Inputs that a tower does not read are not
        declared. ``B`` and ``L`` are dynamic.
        """
        del num_users
        weights = {key: value.cpu().numpy() for key, value in self.state_dict().items()}
        history = self.config.user_tower.history
        # One row: the exporter fixes a GRU's initial state to the batch size traced.
        user_example = {
            "user": torch.zeros(1, self.config.user_tower.id_dim),
            "history": torch.zeros(1, 2, 0 if history is None else history.hidden_dim),
            "lengths": torch.ones(1, dtype=torch.int64),
            "features": torch.zeros(1, len(USER_FEATURES)),
        }
        item_example = {
            "item": torch.zeros(1, self.config.item_tower.id_dim),
            "text": torch.zeros(1, self.item_text.shape[1]),
            "image": torch.zeros(1, self.item_image.shape[1]),
            "features": torch.zeros(1, len(ITEM_FEATURES)),
        }
        return ServedTowers(
            user_tower=exported(self.user_tower, user_example),
            item_tower=exported(self.item_tower, item_example),
            user_table=weights["user_embedding.weight"][self.user_ids.cpu().numpy()],
            unknown_id=weights["item_embedding.weight"][0],
            history_length=self.config.history_length,
            history_table=None if history is None else self.history_table().detach().cpu().numpy(),
            history_projection=None if history is None else weights["history_text.weight"].T,
            cold_scale=float(self.cold_scale),
            exposure=self.exposure,
        )
