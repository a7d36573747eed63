"""Towers of the sequence two-tower: the user tower reads the item tower's vectors."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, NamedTuple, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from twotower.data import Dataset
from twotower.data.histories import LogFacts
from twotower.data.schema import SIDES, Side
from twotower.factors.als import ALSConfig
from twotower.factors.cold_items import ColdItems
from twotower.factors.scorer import trained_items
from twotower.factors.text_smoothing import TextSmoothing
from twotower.features import (
    LAUNCH_FEATURES,
    RELEASE_WAVES,
    ItemFeatures,
    ReleaseOrder,
    releases,
)
from twotower.features.declared_columns import (
    ColumnEncoders,
    Encoded,
    FitContext,
    Slots,
    cached_texts,
)
from twotower.features.gaps import GAP_CODES, UNKNOWN, has_times
from twotower.models.base import ItemInput, ModelFamily, ModelInputs, RetrievalModule
from twotower.models.column_vectors import INPUTS, ColumnVectors, RequestContext
from twotower.models.history import Dropout, HistoryEncoder, TransformerConfig
from twotower.models.projection import TextComponents

_HIDDEN_GAPS: Final = 0.2
"""Share of gaps, and of sequences with all their gaps, that are hidden in training."""
_LENGTHS: Final = (50, 100, 200)
"""Numbers of newest items that the user tower may read."""
_LONG_HISTORY: Final = 20
"""Mean length from which there is more in the order of a history than one layer finds."""
_SMALL_LOG: Final = 50_000
"""Predictions in an epoch below which the towers are narrow."""
_MANY_EVENTS: Final = 100
"""Events of an item from which its vector can be trusted as it is."""
_THIN_DROPOUT: Final = 0.2
"""Share of the entries of an item's vector that are hidden below that."""


class SequenceConfig(ModelFamily):
    """Item tower, history encoder, and factors beside them."""

    kind: Literal["sequence"] = "sequence"
    embedding_dim: int = Field(64, ge=2)
    """Width of the towers."""
    index_dim: int | None = Field(32, ge=1)
    """Length of the towers' part of a vector: after training they are projected onto so many
    dimensions, which leaves more of an index to the factors. None keeps all."""
    init_std: float = Field(0.05, gt=0)
    """Standard deviation of the initial id table."""
    start_from_factors: bool = False
    """Whether the id table starts from the least-squares factors, in their principal directions
    and all of the length that random vectors have in the mean; otherwise from those."""
    id_dropout: float = Field(0.2, ge=0, lt=1)
    """Share of items whose id is hidden in training, so that text alone is learned too. An item
    without text keeps its id: it would have nothing left."""
    item_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the entries of each item's vector that are hidden in a step of training, the same
    where the item is read and where it is scored."""
    item_dropout_steps: int = Field(1000, ge=0)
    """Steps over which that share rises from nothing (Morerio et al., *Curriculum dropout*, ICCV
    2017): the whole of it from the first step kept the towers of small logs from learning."""
    text_components: int = Field(128, ge=1)
    """Principal components of the text vectors that are read."""
    text_hidden_dim: int = Field(128, ge=1)
    """Width of the layer between text and vector."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of that layer that is hidden in training."""
    history: HistoryEncoder = TransformerConfig()
    """How the newest items are read."""
    factors: ALSConfig | None = ALSConfig(
        embedding_dim=224, next_item=True, fold_in_confidence=40.0, next_regularisation=5.0
    )
    """The least-squares part of the vectors, or None."""
    choose_factors: bool = False
    """Whether the settings of ``factors`` and ``smoothing`` are chosen on validation, from these
    on: see `twotower.workflow.selection`."""
    in_order: bool = True
    """Whether histories are in an order that says what comes next. Otherwise the towers are trained
    on orders that are drawn at random, and read no gaps."""
    read_gaps: bool = False
    """Whether the user tower reads the time between events, and that from the newest one to the
    request, where the log has times; validation then decides whether it goes on to."""
    smoothing: TextSmoothing | None = TextSmoothing()
    """What the factor that a history is read with borrows from items with like titles."""
    cold_items: ColdItems = ColdItems()
    """What stands for the factor of an item that training has no event of."""
    columns: Literal["chosen", "all", "none"] | tuple[Side, ...] = "none"
    """Whose declared columns the towers read: of ``items``, ``users`` and ``events``, the log. With
    ``chosen`` validation chooses among these sides after training."""
    has_towers: ClassVar[bool] = True

    @property
    def inputs_needed(self) -> frozenset[ItemInput]:
        """Text, which the item tower reads."""
        return frozenset(("text",))

    def build(self, inputs: ModelInputs) -> RetrievalModule:
        """Make the module; features and the order of releases are fitted on the training part."""
        from twotower.models.sequence import SequenceTower  # it is made of what stands below

        assert inputs.text is not None  # `inputs_needed`
        train, catalogue = inputs.dataset.train, inputs.dataset.catalogue
        trained = trained_items(train, len(inputs.dataset.items))
        released = releases(catalogue)
        waves = ReleaseOrder.fit(released, trained).waves(released)
        features = ItemFeatures.fit(train, catalogue)
        declared = inputs.dataset.schema.has_features
        columns = read_columns(inputs.dataset) if declared else None
        timed = self.read_gaps and self.in_order and has_times(train)
        return SequenceTower(
            self, inputs.text, features, waves, trained, columns, train, timed=timed
        )

    def reads(self, side: Side) -> bool:
        """Whether the towers read the declared columns of a side."""
        if isinstance(self.columns, tuple):
            return side in self.columns
        return self.columns != "none"

    def reads_columns(self, dataset: Dataset) -> bool:
        """Whether there are declared columns for the towers, and they are to be read."""
        return any(dataset.schema.features(side) and self.reads(side) for side in SIDES)

    @model_validator(mode="after")
    def _widths_agree(self) -> "SequenceConfig":
        if self.history.hidden_dim != self.embedding_dim:
            raise ValueError(
                f"history.hidden_dim must be embedding_dim {self.embedding_dim}, since the "
                f"history is read as item vectors, got {self.history.hidden_dim}"
            )
        if self.index_dim is not None and self.index_dim > self.embedding_dim:
            raise ValueError(
                f"index_dim must be at most embedding_dim {self.embedding_dim}, "
                f"got {self.index_dim}"
            )
        return self

    def sized(self, facts: LogFacts) -> Self:
        """Width, depth, history length and dropout of items by the log, where left at defaults."""
        sized, fresh = self.vary(in_order=self.in_order and facts.in_order), type(self)()
        if (self.embedding_dim, self.history) == (fresh.embedding_dim, fresh.history):
            width = 64 if facts.predictions < _SMALL_LOG else 128
            history = TransformerConfig(
                length=next((n for n in _LENGTHS if n >= facts.mean_length), _LENGTHS[-1]),
                hidden_dim=width,
                layers=2 if facts.mean_length >= _LONG_HISTORY else 1,
            )
            sized = sized.vary(embedding_dim=width, history=history)
        if facts.events_per_item >= _MANY_EVENTS:
            # Most of the epochs are saved. On a thin log towers that start at random find more of
            # what the factors beside them do not know.
            sized = sized.vary(start_from_factors=True)
        elif self.item_dropout == fresh.item_dropout:
            sized = sized.vary(item_dropout=_THIN_DROPOUT)
        return sized

    def with_chosen(self, chosen: Mapping[str, Any]) -> Self:
        """The same with the least-squares settings and columns of a record of what was chosen."""
        found, changes = chosen.get("least_squares"), {}
        if found is not None:
            changes = {"factors": found["factors"], "smoothing": found["smoothing"]}
        if "columns" in chosen:
            changes["columns"] = chosen["columns"]["read"]
        return self.vary(**changes) if changes else self

    @property
    def history_length(self) -> int:
        """Newest items that the user tower reads."""
        return self.history.length


class ReadColumns(NamedTuple):
    """The declared columns that towers read, fitted on the training part."""

    item_encoders: ColumnEncoders
    user_encoders: ColumnEncoders
    """Fitted on items and users with a training event."""
    items: Encoded
    """``(items + 1,)`` rows; row 0 is padding, which is read as the first item."""
    users: Encoded
    """``(users + 1,)`` rows; row 0 is a user of whom nothing is known."""
    context_encoders: ColumnEncoders
    """Fitted on the context of training events; empty where no column of the log is read."""
    contexts: Encoded
    """``(contexts + 1,)`` rows; row 0 is a request of which nothing is known."""
    context_slots: Slots
    """Which column each code and number of these is of."""
    time_columns: tuple[str, ...] = ()
    """Those of the context that derive from the time."""


def read_columns(dataset: Dataset) -> ReadColumns:
    """Fit the declared columns of a data set on its training part, and encode all rows."""
    train, schema = dataset.train, dataset.schema
    times = train.timestamps
    moment = None if times is None or not len(times) else float(times.max())
    context = FitContext(moment, cached_texts)
    known = {"items": trained_items(train, len(dataset.items)), "users": train.lengths > 0}
    tables = {"items": dataset.item_table, "users": dataset.user_table}
    encoders, encoded = {}, {}
    sides: tuple[Side, ...] = ("items", "users")
    for side in sides:
        table = tables[side]
        columns = schema.features(side)
        if table is None or not columns:
            encoders[side] = ColumnEncoders({})
            encoded[side] = encoders[side].encode(
                pl.DataFrame({"": [0] * (len(known[side]) + 1)}), cached_texts
            )
            continue
        encoders[side] = ColumnEncoders.fit(table, columns, known[side], context)
        rows = table.select(*columns)
        nothing = rows.clear(1)
        encoded[side] = encoders[side].encode(pl.concat([nothing, rows]), cached_texts)
    read = schema.features("events")
    table = pl.DataFrame({"": [0]})  # of no columns
    contexts = ColumnEncoders({})
    if read and dataset.request_contexts is not None and train.contexts is not None:
        table = dataset.request_contexts.select(*read)
        of_events = table[train.contexts]  # a context counts as often as it occurs
        contexts = ColumnEncoders.fit(of_events, read, np.ones(len(of_events), np.bool_), context)
        table = pl.concat([table.clear(1), table])
    return ReadColumns(
        encoders["items"],
        encoders["users"],
        encoded["items"],
        encoded["users"],
        contexts,
        contexts.encode(table, cached_texts),
        contexts.slots(table, cached_texts),
        tuple(name for name in contexts.encoders if name in schema.time_columns),
    )


class Gaps(nn.Module):
    """What is added to a history's item vectors for the time that passed after each.

    In training the gap behind an item is hidden now and then, and all gaps of a sequence are, so
    that the tower answers requests of an unknown time and users without any times too.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(GAP_CODES, dim))

    def forward(self, history: Tensor, codes: Tensor) -> Tensor:
        """``(B, L, d)`` item vectors and ``(B, L)`` codes, see `twotower.features.gaps`."""
        if self.training:
            hidden = torch.rand(codes.shape, device=codes.device) < _HIDDEN_GAPS
            whole = torch.rand(len(codes), 1, device=codes.device) < _HIDDEN_GAPS
            codes = codes.masked_fill(hidden | whole, UNKNOWN)
        return history + F.embedding(codes, self.table)


class SequenceItemTower(nn.Module):
    """Id, text, features and release to a unit vector.

    An item without any content is its id alone. What is the same for all items of
    the catalogue (as where there are no prices) is left out: `varying` is 0 there.
    """

    varying: Tensor
    """``(c,)`` 1 for what differs between the items of the catalogue, else 0."""

    def __init__(
        self, config: SequenceConfig, text: TextComponents, columns: ColumnVectors | None = None
    ) -> None:
        super().__init__()
        self.text, self.columns = text, columns
        read = text.components + len(LAUNCH_FEATURES) + RELEASE_WAVES
        self.register_buffer("varying", torch.ones(read), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(read, config.text_hidden_dim),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.text_hidden_dim, config.embedding_dim),
        )
        self.item_dropout = Dropout(config.item_dropout)

    def forward(
        self, item: Tensor, text: Tensor, features: Tensor, release: Tensor, *columns: Tensor
    ) -> Tensor:
        """Unit vectors ``(B, d)``.

        Parameters
        ----------
        item
            ``(B, d)`` id embeddings, that of the unknown item where there is no id.
        text
            ``(B, t)`` unit text embeddings, zero where there is no text.
        features
            ``(B, 15)`` standardised item features, of which `LAUNCH_FEATURES` are read: what is
            counted in training would bias cold items.
        release
            ``(B, RELEASE_WAVES)`` of `twotower.features.ReleaseOrder`, zero where unknown.
        columns
            What `ColumnVectors` reads of the declared columns, where there are any.
        """
        return self.from_content(item, self.content(text, features, release), *columns)

    def content(self, text: Tensor, features: Tensor, release: Tensor) -> Tensor:
        """``(B, c)`` what is read of an item beside its id, before any weight that is trained."""
        read = torch.cat([self.text(text), features[:, LAUNCH_FEATURES], release], dim=1)
        return read * self.varying

    def from_content(self, item: Tensor, content: Tensor, *columns: Tensor) -> Tensor:
        """Unit vectors of id embeddings ``(B, d)``, `content` ``(B, c)`` and declared columns."""
        if self.columns is None:
            described = self.mlp(content) * (content != 0).any(dim=-1, keepdim=True)
        else:  # what is missing of columns is known too
            hidden, *rest = self.mlp
            described = hidden(content) + self.columns(*columns)
            for layer in rest:
                described = layer(described)
        return F.normalize(self.item_dropout(item + described), dim=-1)


class SequenceUserTower(nn.Module):
    """The unit vectors of a history's items to the unit vector of the user."""

    def __init__(
        self,
        config: SequenceConfig,
        columns: ColumnVectors | None = None,
        context: RequestContext | None = None,
    ) -> None:
        super().__init__()
        self.encoder = config.history.build()
        self.columns, self.context = columns, context
        # Entries of about half: beside them the positions, smaller at first, can be learned.
        self.scale = 0.5 * config.embedding_dim**0.5

    def forward(self, history: Tensor, lengths: Tensor, *columns: Tensor) -> Tensor:
        """``(B, L, d)`` item vectors, oldest first, and ``(B,)`` lengths to ``(B, d)``.

        ``columns`` are the user's, then those of the request's context, as `ColumnVectors` reads
        them. Without any an empty history gives zeros; to it a context adds nothing.
        """
        state = self.encoder(history * self.scale, lengths)
        if self.columns is not None:
            state = state + self.columns(*columns[: len(INPUTS)])
        if self.context is not None:
            added = self.context(*columns[-len(INPUTS) :])
            state = state + added * (lengths > 0).to(added.dtype)[:, None]
        return F.normalize(state, dim=-1)

    def states(self, history: Tensor, *columns: Tensor, contexts: Tensor | None = None) -> Tensor:
        """``(B, L, d)`` to ``(B, L, d)``: the user after each item.

        ``contexts`` ``(B, L)`` are rows of the context of what came next, see `RequestContext`.
        """
        states = self.encoder.states(history * self.scale)
        if self.columns is not None:
            states = states + self.columns(*columns)[:, None]
        if self.context is not None and contexts is not None and len(contexts):
            states = states + self.context.of_rows(contexts)
        return F.normalize(states, dim=-1)
