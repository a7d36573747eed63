"""Blend re-ranker: a weighted sum of retrieval score, item-kNN, text and popularity."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from twotower.data import Queries
from twotower.errors import InputError
from twotower.types import Array, FloatArray, IndexArray, OffsetArray

SIGNALS: Final = ("retrieval", "neighbours", "text", "popularity")
"""What is blended, in the order of the weights."""
_NUMBERS: Final = ("recency", "text_recency")
_EPSILON: Final = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Blend:
    r"""Scores a candidate by a weighted sum of four signals.

    ``retrieval`` is the first stage's score. With ``a`` the number of items that came after the
    history's item ``h``, ``neighbours`` is :math:`\sum_h r^a \mathrm{sim}(h, c)` over item-kNN's
    similarities (which items were bought together exactly, of which a short vector keeps only
    the outline), ``text`` the cosine of the candidate's text and :math:`\sum_h s^a t_h`, and
    ``popularity`` the log of 1 + the item's training interactions.
    The weights are fitted on validation: see `twotower.workflow.reranking`.

    Attributes
    ----------
    weights
        ``(4,)`` float32, of `SIGNALS`.
    recency, text_recency
        :math:`r` and :math:`s`, decay of an event's weight for each event that came after it.
    indptr, neighbours, similarity
        Compressed rows: item ``i`` is like ``neighbours[indptr[i]:indptr[i + 1]]``, by as much as
        ``similarity`` has there.
    text
        ``(items, t)`` float32 unit vectors, zero for no text.
    popularity
        ``(items,)`` float32.
    """

    weights: FloatArray
    recency: float
    text_recency: float
    indptr: OffsetArray
    neighbours: IndexArray
    similarity: FloatArray
    text: FloatArray
    popularity: FloatArray

    def __post_init__(self) -> None:
        if self.weights.shape != (len(SIGNALS),):
            raise InputError(f"weights must have shape (4,), got {self.weights.shape}")
        items = len(self.popularity)
        if (len(self.text), len(self.indptr)) != (items, items + 1):
            raise InputError(
                f"text and indptr must have rows for {items} items, "
                f"got {len(self.text)} and {len(self.indptr) - 1}"
            )

    @property
    def num_items(self) -> int:
        """Items that are known; later ones have no score."""
        return len(self.popularity)

    def scores(self, queries: Queries, items: OffsetArray, retrieval: FloatArray) -> FloatArray:
        """See `twotower.bundle.reranker.Reranker.scores`."""
        known = (items >= 0) & (items < self.num_items)
        rows = np.where(known, items, 0)
        scores = np.empty(items.shape, dtype=np.float32)
        for row in range(len(queries)):
            history = queries.histories.row(row)
            scores[row] = self.signals(history, rows[row], retrieval[row]) @ self.weights
        scores[~known] = np.nan
        scores[items < 0] = -np.inf
        return scores

    def signals(self, history: IndexArray, items: Array, retrieval: FloatArray) -> FloatArray:
        """``(candidates, 4)`` for the candidates of one query."""
        age = np.arange(len(history))[::-1]
        known = history < self.num_items
        history, age = history[known], age[known]
        wanted = np.power(self.text_recency, age, dtype=np.float32) @ self.text[history]
        weights = np.power(self.recency, age, dtype=np.float32)
        counts = weights > _EPSILON  # smaller ones are lost in rounding beside the newest event's
        history, weights = history[counts], weights[counts]
        near = np.zeros(self.num_items, dtype=np.float32)
        spans = [slice(*self.indptr[item : item + 2].tolist()) for item in history.tolist()]
        if spans:
            alike = [
                weight * self.similarity[span] for weight, span in zip(weights, spans, strict=True)
            ]
            like = np.concatenate([self.neighbours[span] for span in spans])
            np.add.at(near, like, np.concatenate(alike))
        length = float(np.linalg.norm(wanted))
        # `take` gathers in two thirds of the time that indexing does.
        about = self.text.take(items, axis=0) @ (wanted / max(length, 1e-6))
        return np.stack([retrieval, near[items], about, self.popularity[items]], axis=1)

    def to_arrays(self) -> dict[str, Array]:
        """Everything as NumPy arrays, for a safetensors file."""
        return {**vars(self), **{name: np.asarray([getattr(self, name)]) for name in _NUMBERS}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> "Blend":
        """The inverse of `to_arrays`."""
        numbers = {name: float(arrays[name][0]) for name in _NUMBERS}
        return cls(**{**arrays, **numbers})  # type: ignore[arg-type]
