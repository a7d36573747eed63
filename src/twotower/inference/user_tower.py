"""User tower in onnxruntime without torch: from queries to user vectors."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import onnxruntime

from twotower.bundle.checked import reading
from twotower.bundle.contents import BundleContents
from twotower.data import Histories, Queries
from twotower.data.schema import rows_of_requests
from twotower.errors import ArtefactError, InputError
from twotower.factors.fold_in import FoldIn
from twotower.features.gaps import query_gaps
from twotower.types import Array, FloatArray

if TYPE_CHECKING:
    from twotower.bundle.declared import DeclaredColumns
    from twotower.features.declared_columns import Encoded, TextVectors

CONTEXT: Final = "context_"
"""Prefix of the inputs for a request's context."""
_CONTEXTS: Final = 4096
"""Number of encoded contexts to cache."""
OUTPUT: Final = "vector"
_ONLY_FATAL: Final = 4
_BATCH: Final = 256
_FILE: Final = "the bundle's user_tower.onnx"


class UserTower:
    """Prepares the inputs of the ONNX model and runs it.

    The model declares some or all of these inputs: ``user`` (B, id_dim) float32, ``history``
    (B, L, h) float32 with the oldest item first and padding after the newest, ``lengths`` (B,)
    int64, ``features`` (B, 8) float32, ``gaps`` (B, L) int64 codes of the gap after each event
    (see `twotower.features.gaps`), and for declared columns ``codes`` (B, S) int64, ``weights``
    (B, S) and ``dense`` (B, D) float32, and the same with the prefix ``context_`` for the context
    of the request. Its output is ``vector`` (B, dim) float32. If the bundle's vectors have a
    least-squares part, the fold-in of the history is appended to it.

    Parameters
    ----------
    threads
        Threads that one call may use. Use 1 in a server that answers many requests at once.

    Raises
    ------
    InputError
        If there is fewer than one thread.
    ArtefactError
        If the model cannot be run or does not fit the tables.
    """

    def __init__(self, contents: BundleContents, threads: int = 1) -> None:
        self._contents = contents
        self._declared = contents.declared
        self._history_table = contents.history_table
        self._user_features = contents.user_features
        self._encode_context = lru_cache(_CONTEXTS)(partial(_encoded_context, contents.declared))
        self._fold_in, self._factor_weight = _fold_in(contents)
        self._has_added = False
        if threads < 1:
            raise InputError(f"threads must be at least 1, got {threads}")
        with reading(_FILE, "cannot be run"):
            self._session = open_session(contents.user_tower, threads)
        self._inputs = frozenset(tensor.name for tensor in self._session.get_inputs())
        self.dim = self._run(Queries.anonymous(Histories.from_lists([[]]))).shape[1]
        if self.dim != contents.index.dim:
            raise ArtefactError(
                f"user_tower.onnx gives vectors of {self.dim} dimensions, the index holds "
                f"{contents.index.dim}; save the bundle again"
            )

    @property
    def reads_features(self) -> bool:
        """Whether the tower reads user features, which use the history's ratings and times."""
        return "features" in self._inputs

    @property
    def reads_gaps(self) -> bool:
        """Whether the tower reads time gaps, from the times of the history and the request."""
        return "gaps" in self._inputs

    @property
    def reads_context(self) -> bool:
        """Whether the tower reads the context of a request."""
        return f"{CONTEXT}codes" in self._inputs

    def reading(self, history_table: FloatArray | None, item_table: FloatArray) -> Self:
        """The same tower over longer tables: the bundle's items followed by added ones."""
        other = copy(self)
        other._history_table = history_table
        other._user_features = replace(self._user_features, item_table=item_table)
        other._has_added = len(item_table) > len(self._contents.item_vectors)
        return other

    @property
    def knows_attributes(self) -> bool:
        """Whether declared user columns alone are enough for a user vector."""
        return self._declared is not None and self._declared.regression is not None

    def columns_of(
        self, attributes: Sequence[Mapping[str, Any]], texts: "TextVectors"
    ) -> "Encoded":
        """Encoded user columns from requests' attributes, which were checked before."""
        assert self._declared is not None
        table = rows_of_requests(attributes, self._declared.schema.users)
        return self._declared.user_encoders.encode(table, texts)

    def context_of(self, stated: Sequence[Mapping[str, Any]]) -> "Encoded":
        """Encoded context of requests, checked before; absent columns are missing values."""
        from twotower.features.declared_columns import Encoded

        rows = [self._encode_context(tuple(context.items())) for context in stated]
        return Encoded(*map(np.concatenate, zip(*rows, strict=True)))

    def encode(
        self, queries: Queries, columns: "Encoded | None" = None, context: "Encoded | None" = None
    ) -> FloatArray:
        """``(queries, dim)`` float32 user vectors; a user index of -1 is the unknown user.

        Parameters
        ----------
        columns
            Declared columns of each query's user; by default the bundle's.
        context
            Context of each query, see `context_of`; by default all columns are missing.
        """
        if 0 < len(queries) <= _BATCH:
            return self._run(queries, columns, context)
        vectors = np.empty((len(queries), self.dim), dtype=np.float32)
        # In a batch, a short history costs as much as the longest one.
        order = np.argsort(queries.histories.lengths, kind="stable")
        for start in range(0, len(queries), _BATCH):
            rows = order[start : start + _BATCH]
            part = None if columns is None else columns.take(rows)
            own = None if context is None else context.take(rows)
            vectors[rows] = self._run(queries.select(rows), part, own)
        return vectors

    def _run(
        self, queries: Queries, columns: "Encoded | None" = None, context: "Encoded | None" = None
    ) -> FloatArray:
        with reading(_FILE, "cannot be run"):
            (vectors,) = self._session.run([OUTPUT], self.feed(queries, columns, context))
            encoded: FloatArray = vectors
            if encoded.ndim != 2 or len(encoded) != len(queries):
                raise InputError(f"it gives {encoded.shape} for {len(queries)} users")
        if self._fold_in is not None:
            histories = queries.histories
            if self._has_added:  # added items have no factors
                factored = histories.items < len(self._fold_in.table)
                histories = histories if factored.all() else histories.keep(factored)
            folded = self._factor_weight * self._fold_in(histories)
            encoded = np.concatenate([encoded, folded], axis=1)
        return self._described(encoded, queries, columns)

    def _described(
        self, vectors: FloatArray, queries: Queries, columns: "Encoded | None"
    ) -> FloatArray:
        """The vectors, replaced by a regression on declared columns for users without history."""
        declared = self._declared
        if declared is None or declared.regression is None or declared.users is None:
            return vectors
        without = np.flatnonzero(queries.histories.lengths == 0)
        if not len(without):
            return vectors
        rows = declared.users if columns is None else columns
        places = queries.users[without].astype(np.int64) + 1 if columns is None else without
        vectors = vectors.copy()  # a session's output may be read-only
        vectors[without] = declared.regression(rows.take(places))
        return vectors

    def feed(
        self, queries: Queries, columns: "Encoded | None" = None, context: "Encoded | None" = None
    ) -> dict[str, Array]:
        """Inputs of the model, as `twotower.features.user_inputs` builds them for training.

        Inputs that the model does not read are skipped: for one request, the features alone would
        take as long as the tower.
        """
        feed: dict[str, Array] = {}
        if "user" in self._inputs:
            feed["user"] = self._contents.user_table[queries.users.astype(np.int64) + 1]
        if "features" in self._inputs:
            feed["features"] = self._user_features.transform(queries.histories)
        if "codes" in self._inputs and self._declared is not None:
            if columns is None and self._declared.users is not None:
                columns = self._declared.users.take(queries.users.astype(np.int64) + 1)
            if columns is not None:
                feed |= columns._asdict()
        if self.reads_context:
            if context is None:
                context = self.context_of([{}]).take(np.zeros(len(queries), dtype=np.int64))
            feed |= {CONTEXT + name: array for name, array in context._asdict().items()}
        if not self._inputs.isdisjoint(("history", "lengths")):
            recent = queries.histories.last(max(self._contents.info.history_length, 1))
            lengths = recent.lengths
            if "lengths" in self._inputs:
                feed["lengths"] = lengths
            if "history" in self._inputs and self._history_table is not None:
                if len(recent) == 1 and len(recent.items):  # nothing to pad
                    rows = recent.items[None] + 1
                else:
                    rows, _ = recent.padded(max(int(lengths.max()), 1))
                feed["history"] = self._history_table.take(rows, axis=0)
                if "gaps" in self._inputs:
                    feed["gaps"] = query_gaps(queries, rows.shape[1])
        return feed


def _encoded_context(
    declared: "DeclaredColumns | None", values: tuple[tuple[str, Any], ...]
) -> "Encoded":
    """One encoded row: the context of a request, as pairs of column name and value."""
    from twotower.features.declared_columns import no_texts

    assert declared is not None
    encoders = declared.context_encoders
    columns = {name: declared.schema.events[name] for name in encoders.encoders}
    return encoders.encode(rows_of_requests([dict(values)], columns), no_texts)


def _fold_in(contents: BundleContents) -> tuple[FoldIn | None, float]:
    info = contents.info.fold_in
    if info is None or contents.factors is None:
        return None, 0.0
    return FoldIn(contents.factors, info.confidence, info.recency, info.regularisation), info.weight


def open_session(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session for an ONNX model; each run may use ``threads`` threads.

    `Exception` if onnxruntime cannot read the model; its errors share no narrower class.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ONLY_FATAL  # errors are raised
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
