"""Interface of models to the training loop and evaluation, and batches."""

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
    """Makes the history side of examples: what a user had before each event."""

    def __call__(self, events: Array) -> tuple[Array, Array, FloatArray]:
        """Histories ``(B, L)``, lengths ``(B,)`` and features ``(B, F)`` before each event."""


def no_context(events: Array) -> tuple[Array, Array, FloatArray]:
    """The context of a model that knows a user by id alone."""
    size = len(events)
    empty = np.zeros((size, 0), dtype=np.int64)
    return empty, np.zeros(size, dtype=np.int64), np.zeros((size, 0), dtype=np.float32)


class Batch(NamedTuple):
    """Training examples: who, what came before, what came next, and what did not.

    ``B`` examples, ``M`` negatives of each and ``S`` of all of them together (0 where there are
    none), ``L`` history positions (0 where the model reads none), ``F`` user features.
    """

    users: Tensor
    """``(B,)`` int64 user index."""
    positives: Tensor
    """``(B,)`` int64 item index."""
    log_q: Tensor
    """``(B,)`` float32 log of how often each positive is a candidate of another example, in
    units of the batch size: see `twotower.training.negatives.base`."""
    negatives: Tensor
    """``(B, M)`` int64 item index, -1 where an example has fewer."""
    histories: Tensor
    """``(B, L)`` int64 item index + 1, oldest first, 0 behind the last."""
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
    """``(B,)`` int64 where all places of ``S`` histories ``(S, L)`` are examples: the place, in
    row-major order, after which each example asks. ``histories`` and ``lengths`` then have
    ``S`` rows."""
    weights: Tensor = _NO_VALUES
    """``(B,)`` float32 what each example counts in the loss, or empty where all count alike."""
    gaps: Tensor = _NO_IDS
    """``(S, L)`` int64 codes of the time from each history position to the item that came next,
    see `twotower.features.gaps`; nothing where the log has no times."""
    contexts: Tensor = _NO_IDS
    """``(S, L)`` int64 row + 1 of the context of the item that came next after each history
    position, 0 behind the last; nothing where no column of the log is declared."""


class Embeddings(NamedTuple):
    """What a model makes of a batch; all that a loss gets to see."""

    query: Tensor
    """``(B, d)``"""
    positive: Tensor
    """``(B, d)``"""
    negative: Tensor
    """``(B, M, d)``, anything where ``negative_ids`` is -1."""
    shared: Tensor
    """``(S, d)``"""
    users: Tensor
    """``(B,)`` int64 user index."""
    positive_ids: Tensor
    """``(B,)`` int64 item index of each positive, to recognise the same item in a batch."""
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
    """Scalar: half the squared norm of the looked-up table rows, a mean over examples."""
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
        """Vectors, with what the batch says about them."""
        return cls(
            query, positive, negative, shared,
            batch.users, batch.positives, batch.negatives, batch.shared,
            batch.log_q, batch.negative_log_q, batch.shared_log_q, batch.in_batch,
            squared_norm, batch.weights,
        )  # fmt: skip


class ServedTowers(NamedTuple):
    """Towers as ONNX models, and the tables that they read, as a bundle holds them."""

    user_tower: bytes
    item_tower: bytes
    user_table: FloatArray
    """``(num_users + 1, u)``; row 0 is the unknown user."""
    unknown_id: FloatArray
    """``(d,)`` id embedding of an item that training never saw."""
    history_length: int = 0
    """Newest items that the user tower reads."""
    history_table: FloatArray | None = None
    """``(num_items + 1, h)`` what the user tower reads of each item; row 0 is padding."""
    history_projection: FloatArray | None = None
    """``(t, h)`` text vector of a new item to its row of the history table."""
    history_is_vector: bool = False
    """Whether the row of the history table is the item tower's own vector."""
    vector_projection: FloatArray | None = None
    """``(d, k)`` item tower's vector to its part of the indexed vector."""
    factors: FloatArray | None = None
    """``(num_items, f)`` least-squares factors that histories are folded in on."""
    fold_in: FoldInInfo | None = None
    """How they are folded in."""
    cold_scale: float = 1.0
    """What the vector of an item that training never saw is multiplied by."""
    columns: "ServedEncoders | None" = None
    """What encodes declared columns, or None where the towers read none."""
    exposure: float | None = None
    """Largest share of recommended places for such items, or None for no bound."""


class ServedEncoders(NamedTuple):
    """What encodes the declared columns of items, users and requests, and the encoded users."""

    items: ColumnEncoders
    users: ColumnEncoders
    user_rows: Encoded
    """``(users + 1,)`` rows; row 0 is a user of whom nothing is known."""
    regression: AttributeRegression | None
    """Vectors of users without a history, or None without columns of users."""
    context: ColumnEncoders
    """What encodes the context of a request; empty where the user tower reads none."""


class TeacherVectors(Protocol):
    """A trained model that another one starts from."""

    @property
    def own_vectors(self) -> tuple[FloatArray, FloatArray]:
        """``(num_users, d)`` and ``(num_items, d)``."""


class RetrievalModule(nn.Module):
    """A trainable model: `forward` for the loss, `scorer` for evaluation, `export` for serving.

    All else has a default: a family overrides what it needs.
    """

    example_source: ClassVar[str] = "events"
    """What an epoch draws from: a name in `twotower.training.examples.EXAMPLE_SOURCES`."""
    in_order: bool = True
    """Of a model of sequences, whether the order of histories says anything: see
    `twotower.training.sequences.SequenceExamples`."""

    def forward(self, batch: Batch) -> Embeddings:
        """Embed the users, positives and negatives of a batch."""
        raise NotImplementedError

    def scorer(self) -> VectorScorer:
        """A frozen snapshot of the current weights that scores queries."""
        raise NotImplementedError

    bounds_cold_items: ClassVar[bool] = False
    """Whether it is a `twotower.training.cold_start.ColdItemModel`."""

    @property
    def history_length(self) -> int:
        """Newest items of a history that are read; 0 where none are."""
        return 0

    def context(self, train: Histories) -> ContextBuilder:  # noqa: ARG002
        """What a batch holds of the history before each event; nothing by default."""
        return no_context

    def before_fit(
        self, train: Histories, seed: int, teachers: Mapping[str, TeacherVectors]
    ) -> None:
        """Prepare for gradient training, for example by closed-form factors."""

    def before_step(self, step: int) -> None:
        """Change what depends on how far training is, before a step; counted from 0."""

    def after_fit(
        self, train: Histories, validate: Callable[["RetrievalModule"], float]
    ) -> dict[str, Any]:
        """Finish after gradient training; ``validate`` scores the module, higher is better.

        Returns
        -------
        What was chosen by it, and its value, by name; kept with the model.
        """
        del train, validate
        return {}

    def after_refit(self, train: Histories, evaluated: Self | None) -> None:
        """Finish after gradient training without a validation part.

        What `after_fit` chose on validation is taken from the ``evaluated`` module of a refit; with
        None there never was a validation part, and the settings' own values hold.
        """

    def without_cold_items(self) -> AbstractContextManager[None]:
        """Meanwhile items without a training event take no place in a list, where that is known."""
        return nullcontext()

    def towers_alone(self) -> AbstractContextManager[None]:
        """Meanwhile the scorer has only what gradient steps train; all of it by default."""
        return nullcontext()

    def export(self, num_users: int) -> ServedTowers:  # noqa: ARG002
        """What serving needs; `InputError` for a family that cannot be served."""
        raise InputError(
            f"{type(self).__name__} has no towers to serve",
            "take one that has, such as two-tower",
        )

    def gate_weights(self) -> dict[str, dict[str, float]]:
        """What each part weighs in each tower, where there are learned gates."""
        return {}


ItemInput: TypeAlias = Literal["text", "image"]


class ModelInputs(NamedTuple):
    """What a family builds its module from; whatever it fits, it fits on ``dataset.train``."""

    dataset: Dataset
    text: FloatArray | None = None
    """``(num_items, t)`` unit text embeddings, for a family that needs them."""
    image: FloatArray | None = None
    """``(num_items, m)`` unit image embeddings, zero where an item has none."""


class ModelFamily(Config):
    """Settings of a model family. Subclasses give ``kind`` a default and define `build`."""

    kind: str
    embedding_dim: int
    """Length of the vectors that a loss sees."""
    has_towers: ClassVar[bool] = False
    """Whether its module can be exported and served."""

    @property
    def inputs_needed(self) -> frozenset[ItemInput]:
        """Which item embeddings `build` wants beside the data set."""
        return frozenset()

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of models that must be trained before this one."""
        return ()

    def with_chosen(self, chosen: Mapping[str, Any]) -> Self:  # noqa: ARG002
        """The same with what was chosen for a data set before training, see `Trained.chosen`."""
        return self

    def sized(self, facts: LogFacts) -> Self:  # noqa: ARG002
        """The same with the sizes that follow from the log; unchanged by default."""
        return self

    def build(self, inputs: ModelInputs) -> RetrievalModule:
        """Make the untrained module."""
        raise NotImplementedError


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode within, and the mode that it was in afterwards."""
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
    """Vectors ``(B * (1 + M) + S, d)`` as positives, negatives and shared negatives.

    A split, not three slices: the gradient of a slice is a table of zeros of the whole's size.
    """
    size, count = batch.negatives.shape
    own, shared = torch.split(rows, [size * (1 + count), len(batch.shared)])
    positive, negative = torch.split(own.reshape(size, 1 + count, -1), [1, count], dim=1)
    return positive.squeeze(1), negative, shared


def wanted_items(batch: Batch) -> Tensor:
    """``(B * (1 + M) + S,)`` items of a batch, -1 for no item, as `split_items` takes them."""
    own = torch.cat([batch.positives[:, None], batch.negatives], dim=1)  # (B, 1 + M)
    return torch.cat([own.flatten(), batch.shared])
