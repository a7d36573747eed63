"""Item tower, user tower and settings of the sequence two-tower."""

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
"""Share of gaps, and of sequences with all their gaps, hidden in training."""
_LENGTHS: Final = (50, 100, 200)
"""Possible history lengths of the user tower, in most recent items."""
_LONG_HISTORY: Final = 20
"""Mean history length from which a second layer finds more in the order of items."""
_SMALL_LOG: Final = 50_000
"""Predictions in an epoch below which the towers are narrow."""
_MANY_EVENTS: Final = 100
"""Events per item from which item vectors need no dropout."""
_THIN_DROPOUT: Final = 0.2
"""Dropout on the entries of item vectors below that."""


class SequenceConfig(ModelFamily):
    """Settings of the sequence two-tower: item tower, history encoder and least-squares factors."""

    kind: Literal["sequence"] = "sequence"
    embedding_dim: int = Field(64, ge=2)
    """Width of the towers."""
    index_dim: int | None = Field(32, ge=1)
    """Dimensions of the towers' part of an indexed vector: tower vectors are projected to it after
    training, which leaves more of the index to the factors. None keeps all dimensions."""
    init_std: float = Field(0.05, gt=0)
    """Standard deviation of the initial id table."""
    start_from_factors: bool = False
    """Whether the id table is initialised from the least-squares factors, in their principal
    directions and scaled to the mean length of random vectors; otherwise at random."""
    id_dropout: float = Field(0.2, ge=0, lt=1)
    """Share of items whose id is hidden in training, to learn from text alone too. An item without
    text keeps its id: nothing else would be left."""
    item_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the entries of each item's vector dropped in a training step; the same entries
    where the item is read in a history and where it is scored."""
    item_dropout_steps: int = Field(1000, ge=0)
    """Steps over which that share rises from 0 (Morerio et al., *Curriculum dropout*, ICCV 2017):
    full dropout from the first step kept the towers of small logs from learning."""
    text_components: int = Field(128, ge=1)
    """Number of principal components of the text vectors that the item tower reads."""
    text_hidden_dim: int = Field(128, ge=1)
    """Width of the hidden layer between text and item vector."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Dropout on that layer."""
    history: HistoryEncoder = TransformerConfig()
    """Encoder of the most recent items."""
    factors: ALSConfig | None = ALSConfig(
        embedding_dim=224, next_item=True, fold_in_confidence=40.0, next_regularisation=5.0
    )
    """The least-squares part of the vectors, or None."""
    choose_factors: bool = False
    """Whether the settings of ``factors`` and ``smoothing`` are tuned on validation, starting from
    these: see `twotower.workflow.selection`."""
    in_order: bool = True
    """Whether the order of histories predicts the next item. Otherwise the towers are trained on
    random orders and read no gaps."""
    read_gaps: bool = False
    """Whether the user tower reads the time between events, and from the newest event to the
    request, if the log has timestamps; validation then decides whether it keeps doing so."""
    smoothing: TextSmoothing | None = TextSmoothing()
    """Smoothing of the factors that histories are folded in with, over items with similar titles;
    None for no smoothing."""
    cold_items: ColdItems = ColdItems()
    """Substitute for the factor of an item without training events."""
    columns: Literal["chosen", "all", "none"] | tuple[Side, ...] = "none"
    """Sides whose declared columns the towers read: ``items``, ``users`` and ``events`` (the log).
    With ``chosen``, validation chooses among these sides after training."""
    has_towers: ClassVar[bool] = True

    @property
    def inputs_needed(self) -> frozenset[ItemInput]:
        """Text, which the item tower reads."""
        return frozenset(("text",))

    def build(self, inputs: ModelInputs) -> RetrievalModule:
        """Make the module; features and release order are fitted on the training part."""
        from twotower.models.sequence import SequenceTower  # circular: it imports this module

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
        """Whether the data set has declared columns that the towers are set to read."""
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
        """Derive sizes, item dropout and initialisation from the log; explicit sizes stay."""
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
            # Saves most of the epochs. On a sparse log, towers started at random find more that
            # the factors do not already know.
            sized = sized.vary(start_from_factors=True)
        elif self.item_dropout == fresh.item_dropout:
            sized = sized.vary(item_dropout=_THIN_DROPOUT)
        return sized

    def with_chosen(self, chosen: Mapping[str, Any]) -> Self:
        """A copy with the least-squares settings and columns recorded in ``chosen``."""
        found, changes = chosen.get("least_squares"), {}
        if found is not None:
            changes = {"factors": found["factors"], "smoothing": found["smoothing"]}
        if "columns" in chosen:
            changes["columns"] = chosen["columns"]["read"]
        return self.vary(**changes) if changes else self

    @property
    def history_length(self) -> int:
        """Number of most recent items that the user tower reads."""
        return self.history.length


class ReadColumns(NamedTuple):
    """The declared columns that towers read, fitted on the training part."""

    item_encoders: ColumnEncoders
    user_encoders: ColumnEncoders
    """Fitted on items and users with a training event."""
    items: Encoded
    """``(items + 1,)`` rows; row 0 is padding and has the first item's columns."""
    users: Encoded
    """``(users + 1,)`` rows; row 0 is a user without any known column."""
    context_encoders: ColumnEncoders
    """Fitted on the context of training events; empty if no column of the log is read."""
    contexts: Encoded
    """``(contexts + 1,)`` rows; row 0 is a request without any known context."""
    context_slots: Slots
    """The column that each code and number of ``contexts`` belongs to."""
    time_columns: tuple[str, ...] = ()
    """Context columns derived from the timestamp."""


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
    """Embedding of the time after each history item, added to the item's vector.

    Training hides single gaps, or all gaps of a sequence, at random, to prepare the tower for
    requests with an unknown time and users without timestamps.
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
    """Id, text, features, release and declared columns to a unit vector.

    An item without any content is represented by its id alone. Content that is constant over the
    catalogue (for example without prices) is masked: `varying` is 0 there.
    """

    varying: Tensor
    """``(c,)`` 1 for content that differs between items of the catalogue, else 0."""

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
            ``(B, d)`` id embeddings; the unknown item's where there is no id.
        text
            ``(B, t)`` unit text embeddings, zero where there is no text.
        features
            ``(B, 15)`` standardised item features. Only `LAUNCH_FEATURES` are read: counts over
            training events would bias cold-start items.
        release
            ``(B, RELEASE_WAVES)`` of `twotower.features.ReleaseOrder`, zero where unknown.
        columns
            Inputs of `ColumnVectors`, if the tower reads declared columns.
        """
        return self.from_content(item, self.content(text, features, release), *columns)

    def content(self, text: Tensor, features: Tensor, release: Tensor) -> Tensor:
        """``(B, c)`` inputs of an item other than its id, before any trained weight."""
        read = torch.cat([self.text(text), features[:, LAUNCH_FEATURES], release], dim=1)
        return read * self.varying

    def from_content(self, item: Tensor, content: Tensor, *columns: Tensor) -> Tensor:
        """Unit vectors of id embeddings ``(B, d)``, `content` ``(B, c)`` and declared columns."""
        if self.columns is None:
            described = self.mlp(content) * (content != 0).any(dim=-1, keepdim=True)
        else:  # columns encode missing values too
            hidden, *rest = self.mlp
            described = hidden(content) + self.columns(*columns)
            for layer in rest:
                described = layer(described)
        return F.normalize(self.item_dropout(item + described), dim=-1)


class SequenceUserTower(nn.Module):
    """The unit vectors of history items to the user's unit vector."""

    def __init__(
        self,
        config: SequenceConfig,
        columns: ColumnVectors | None = None,
        context: RequestContext | None = None,
    ) -> None:
        super().__init__()
        self.encoder = config.history.build()
        self.columns, self.context = columns, context
        # Scales entries to about 0.5; position embeddings, smaller at first, can then be learned.
        self.scale = 0.5 * config.embedding_dim**0.5

    def forward(self, history: Tensor, lengths: Tensor, *columns: Tensor) -> Tensor:
        """``(B, L, d)`` item vectors, oldest first, and ``(B,)`` lengths to ``(B, d)``.

        ``columns`` are the inputs of `ColumnVectors` for the user, then for the request context.
        An empty history gives zeros without user columns; the context adds nothing to it.
        """
        state = self.encoder(history * self.scale, lengths)
        if self.columns is not None:
            state = state + self.columns(*columns[: len(INPUTS)])
        if self.context is not None:
            added = self.context(*columns[-len(INPUTS) :])
            state = state + added * (lengths > 0).to(added.dtype)[:, None]
        return F.normalize(state, dim=-1)

    def states(self, history: Tensor, *columns: Tensor, contexts: Tensor | None = None) -> Tensor:
        """``(B, L, d)`` to ``(B, L, d)``: the user's vector after each item.

        ``contexts`` ``(B, L)`` are context rows of the next item's event, see `RequestContext`.
        """
        states = self.encoder.states(history * self.scale)
        if self.columns is not None:
            states = states + self.columns(*columns)[:, None]
        if self.context is not None and contexts is not None and len(contexts):
            states = states + self.context.of_rows(contexts)
        return F.normalize(states, dim=-1)
