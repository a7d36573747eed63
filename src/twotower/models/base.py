"""Base classes of models, training batches and embeddings: interface to training and serving."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from twotower.config import Config
from twotower.data import Dataset, Histories
from twotower.data.histories import LogFacts
from twotower.errors import InputError
from twotower.factors.attributes import AttributeRegression
from twotower.factors.fold_in import FoldInInfo
from twotower.factors.scorer import Scorer, VectorScorer
from twotower.features.declared_columns import ColumnEncoders, Encoded
from twotower.types import Array, FloatArray

__all__ = [
    "Batch",
    "ContextBuilder",
    "Embeddings",
    "RetrievalModule",
    "Scorer",
    "VectorScorer",
    "evaluating",
    "half_squared_norm",
    "no_context",
    "split_items",
    "wanted_items",
]


_NO_IDS = torch.empty(0, dtype=torch.int64)
_NO_VALUES = torch.empty(0)


class ContextBuilder(Protocol):
    """Builds the history inputs of training examples: the user's items before each event."""

    def __call__(self, events: Array) -> tuple[Array, Array, FloatArray]:
        """Histories ``(B, L)``, lengths ``(B,)`` and features ``(B, F)`` before each event."""


def no_context(events: Array) -> tuple[Array, Array, FloatArray]:
    """The context of a model that represents users by their ids alone."""
    size = len(events)
    empty = np.zeros((size, 0), dtype=np.int64)
    return empty, np.zeros(size, dtype=np.int64), np.zeros((size, 0), dtype=np.float32)


class Batch(NamedTuple):
    """A batch of training examples: users, histories, positives and negatives.

    ``B`` examples, ``M`` negatives per example and ``S`` shared negatives (0 if there are none),
    ``L`` history positions (0 if the model reads no history), ``F`` user features.
    """

    users: Tensor
    """``(B,)`` int64 user index."""
    positives: Tensor
    """``(B,)`` int64 item index."""
    log_q: Tensor
    """``(B,)`` float32 log of the expected number of times that each positive is a candidate of
    another example, in units of the batch size: see `twotower.training.negatives.base`."""
    negatives: Tensor
    """``(B, M)`` int64 item index, padded with -1 for examples with fewer negatives."""
    histories: Tensor
    """``(B, L)`` int64 item index + 1, oldest first, padded with 0 at the end."""
    lengths: Tensor
    """``(B,)`` int64 number of history positions in use."""
    features: Tensor
    """``(B, F)`` float32 user features of the history, never of the positive."""
    negative_log_q: Tensor = _NO_VALUES
    """``(B, M)`` float32, as ``log_q``."""
    shared: Tensor = _NO_IDS
    """``(S,)`` int64 item index of the negatives that all examples share."""
    shared_log_q: Tensor = _NO_VALUES
    """``(S,)`` float32, as ``log_q``."""
    in_batch: bool = False
    """Whether the other positives of the batch are negatives too."""
    positions: Tensor = _NO_IDS
    """``(B,)`` int64, for models trained on every position of ``S`` histories ``(S, L)``: the
    position, in row-major order, whose next item each example predicts. ``histories`` and
    ``lengths`` then have ``S`` rows."""
    weights: Tensor = _NO_VALUES
    """``(B,)`` float32 weight of each example in the loss, or empty for equal weights."""
    gaps: Tensor = _NO_IDS
    """``(S, L)`` int64 codes of the time from each history position to the next item, see
    `twotower.features.gaps`; empty if the log has no timestamps."""
    contexts: Tensor = _NO_IDS
    """``(S, L)`` int64 row + 1 of the context of the item after each history position, padded
    with 0 at the end; empty if no column of the log is declared."""


class Embeddings(NamedTuple):
    """Embeddings of a batch: a model's output and a loss's only input."""

    query: Tensor
    """``(B, d)``"""
    positive: Tensor
    """``(B, d)``"""
    negative: Tensor
    """``(B, M, d)``, undefined where ``negative_ids`` is -1."""
    shared: Tensor
    """``(S, d)``"""
    users: Tensor
    """``(B,)`` int64 user index."""
    positive_ids: Tensor
    """``(B,)`` int64 item index of each positive, to detect accidental hits in a batch."""
    negative_ids: Tensor
    """``(B, M)`` int64 item index, -1 for no item."""
    shared_ids: Tensor
    """``(S,)`` int64 item index."""
    log_q: Tensor
    """``(B,)`` as `Batch.log_q`."""
    negative_log_q: Tensor
    """``(B, M)`` as `Batch.negative_log_q`."""
    shared_log_q: Tensor
    """``(S,)`` as `Batch.shared_log_q`."""
    in_batch: bool
    """Whether the other positives of the batch are negatives too."""
    squared_norm: Tensor
    """Scalar: half the squared norm of the looked-up table rows, averaged over examples."""
    weights: Tensor = _NO_VALUES
    """As `Batch.weights`."""

    @classmethod
    def of(
        cls,
        batch: Batch,
        query: Tensor,
        positive: Tensor,
        negative: Tensor,
        shared: Tensor,
        squared_norm: Tensor,
    ) -> Self:
        """Combine vectors with the ids, log-q and weights of their batch."""
        return cls(
            query, positive, negative, shared,
            batch.users, batch.positives, batch.negatives, batch.shared,
            batch.log_q, batch.negative_log_q, batch.shared_log_q, batch.in_batch,
            squared_norm, batch.weights,
        )  # fmt: skip


class ServedTowers(NamedTuple):
    """Towers as ONNX models, with the tables that they read, as stored in a bundle."""

    user_tower: bytes
    item_tower: bytes
    user_table: FloatArray
    """``(num_users + 1, u)``; row 0 is the unknown user."""
    unknown_id: FloatArray
    """``(d,)`` id embedding of a cold-start item."""
    history_length: int = 0
    """Number of most recent items that the user tower reads."""
    history_table: FloatArray | None = None
    """``(num_items + 1, h)`` item vectors that the user tower reads; row 0 is padding."""
    history_projection: FloatArray | None = None
    """``(t, h)`` map from a new item's text vector to its row of the history table."""
    history_is_vector: bool = False
    """Whether the rows of the history table are the item tower's own vectors."""
    vector_projection: FloatArray | None = None
    """``(d, k)`` map from the item tower's vector to its part of the indexed vector."""
    factors: FloatArray | None = None
    """``(num_items, f)`` least-squares item factors for the fold-in of histories."""
    fold_in: FoldInInfo | None = None
    """Settings of the fold-in."""
    cold_scale: float = 1.0
    """Factor on the vector of an item without training events."""
    columns: "ServedEncoders | None" = None
    """Encoders of declared columns, or None if the towers read none."""
    exposure: float | None = None
    """Largest share of recommendation slots for such items, or None for no bound."""


class ServedEncoders(NamedTuple):
    """Encoders of the declared columns of items, users and requests, and the encoded users."""

    items: ColumnEncoders
    users: ColumnEncoders
    user_rows: Encoded
    """``(users + 1,)`` rows; row 0 is a user without any known column."""
    regression: AttributeRegression | None
    """Predicts vectors of users without a history; None without user columns."""
    context: ColumnEncoders
    """Encoders of the request context; empty if the user tower reads none."""


class TeacherVectors(Protocol):
    """A trained model that another model is initialised from."""

    @property
    def own_vectors(self) -> tuple[FloatArray, FloatArray]:
        """``(num_users, d)`` and ``(num_items, d)``."""


class RetrievalModule(nn.Module):
    """A trainable model: `forward` for the loss, `scorer` for evaluation, `export` for serving.

    Every other method has a default that a family overrides as needed.
    """

    example_source: ClassVar[str] = "events"
    """Source of training examples: a name in `twotower.training.examples.EXAMPLE_SOURCES`."""
    in_order: bool = True
    """For sequence models, whether the order of histories carries information: see
    `twotower.training.sequences.SequenceExamples`."""

    def forward(self, batch: Batch) -> Embeddings:
        """Embed the users, positives and negatives of a batch."""
        raise NotImplementedError

    def scorer(self) -> VectorScorer:
        """A frozen snapshot of the current weights that scores queries."""
        raise NotImplementedError

    bounds_cold_items: ClassVar[bool] = False
    """Whether this is a `twotower.training.cold_start.ColdItemModel`."""

    @property
    def history_length(self) -> int:
        """Number of most recent history items that are read; 0 if none are."""
        return 0

    def context(self, train: Histories) -> ContextBuilder:  # noqa: ARG002
        """The builder of each event's history inputs; no history by default."""
        return no_context

    def before_fit(
        self, train: Histories, seed: int, teachers: Mapping[str, TeacherVectors]
    ) -> None:
        """Prepare for gradient training, for example by closed-form factors."""

    def before_step(self, step: int) -> None:
        """Update anything that is scheduled by step number, before each step; counted from 0."""

    def after_fit(
        self, train: Histories, validate: Callable[["RetrievalModule"], float]
    ) -> dict[str, Any]:
        """Finish after gradient training; ``validate`` scores the module, higher is better.

        Returns
        -------
        What was chosen by validation, with its metric, by name; saved with the model.
        """
        del train, validate
        return {}

    def after_refit(self, train: Histories, evaluated: Self | None) -> None:
        """Finish after gradient training without a validation part.

        A refit copies what `after_fit` chose on validation from the ``evaluated`` module. None
        means that there never was a validation part: the configured values are kept.
        """

    def without_cold_items(self) -> AbstractContextManager[None]:
        """Context that keeps items without training events out of lists, where supported."""
        return nullcontext()

    def towers_alone(self) -> AbstractContextManager[None]:
        """Context in which the scorer uses only the gradient-trained parts; all by default."""
        return nullcontext()

    def export(self, num_users: int) -> ServedTowers:  # noqa: ARG002
        """Towers and tables for serving; `InputError` for a family that cannot be served."""
        raise InputError(
            f"{type(self).__name__} has no towers to serve",
            "take one that has, such as two-tower",
        )

    def gate_weights(self) -> dict[str, dict[str, float]]:
        """Weight of each part in each tower; empty without learned gates."""
        return {}


ItemInput: TypeAlias = Literal["text", "image"]


class ModelInputs(NamedTuple):
    """Inputs to `ModelFamily.build`; anything fitted is fitted on ``dataset.train`` alone."""

    dataset: Dataset
    text: FloatArray | None = None
    """``(num_items, t)`` unit text embeddings, for a family that needs them."""
    image: FloatArray | None = None
    """``(num_items, m)`` unit image embeddings, zero for an item without an image."""


class ModelFamily(Config):
    """Settings of a model family. Subclasses give ``kind`` a default and define `build`."""

    kind: str
    embedding_dim: int
    """Dimension of the vectors passed to the loss."""
    has_towers: ClassVar[bool] = False
    """Whether its module can be exported and served."""

    @property
    def inputs_needed(self) -> frozenset[ItemInput]:
        """Item embeddings that `build` needs in addition to the data set."""
        return frozenset()

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of models that must be trained first."""
        return ()

    def with_chosen(self, chosen: Mapping[str, Any]) -> Self:  # noqa: ARG002
        """A copy with the settings chosen for a data set before training, see `Trained.chosen`."""
        return self

    def sized(self, facts: LogFacts) -> Self:  # noqa: ARG002
        """A copy with sizes derived from the log; unchanged by default."""
        return self

    def build(self, inputs: ModelInputs) -> RetrievalModule:
        """Make the untrained module."""
        raise NotImplementedError


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context in which ``module`` is in eval mode; restores its mode afterwards."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def half_squared_norm(examples: int, *rows: Tensor) -> Tensor:
    """``sum(rows ** 2) / (2 * examples)``: LightGCN's penalty."""
    return torch.stack([block.square().sum() for block in rows]).sum() / (2 * examples)


def split_items(rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Split vectors ``(B * (1 + M) + S, d)`` into positives, negatives and shared negatives.

    Uses a split, not three slices: the gradient of each slice is a zero tensor of the full size.
    """
    size, count = batch.negatives.shape
    own, shared = torch.split(rows, [size * (1 + count), len(batch.shared)])
    positive, negative = torch.split(own.reshape(size, 1 + count, -1), [1, count], dim=1)
    return positive.squeeze(1), negative, shared


def wanted_items(batch: Batch) -> Tensor:
    """``(B * (1 + M) + S,)`` items of a batch in the order of `split_items`, -1 for no item."""
    own = torch.cat([batch.positives[:, None], batch.negatives], dim=1)  # (B, 1 + M)
    return torch.cat([own.flatten(), batch.shared])
