"""Blend re-ranker: a weighted sum of retrieval score, item-to-item links, text and popularity."""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from twotower.data import Queries
from twotower.errors import InputError
from twotower.types import Array, FloatArray, IndexArray, OffsetArray

SIGNALS: Final = ("retrieval", "neighbours", "transitions", "text", "popularity")
"""What is blended, in the order of the weights."""
RECENCIES: Final = ("recency", "transition_recency", "text_recency")
"""Fields of `Blend` that say how a history is forgotten, in the order of their signals."""
_FLAGS: Final = ("by_ease", "helps")
_EPSILON: Final = float(np.finfo(np.float32).eps)
_LINKS: Final = {
    "neighbours": ("indptr", "neighbours", "similarity"),
    "transitions": ("transition_indptr", "transition_items", "transition_weights"),
}
"""Names of `ItemLinks` in a file."""


@dataclass(frozen=True)
class ItemLinks:
    """What leads from an item to others, and how strongly: a sparse matrix in compressed rows.

    Attributes
    ----------
    indptr
        ``(items + 1,)`` int64; item ``i`` leads to ``items[indptr[i]:indptr[i + 1]]``.
    items
        ``(links,)`` int32.
    weights
        ``(links,)`` float32.
    """

    indptr: OffsetArray
    items: IndexArray
    weights: FloatArray

    @classmethod
    def none(cls, num_items: int) -> Self:
        """No link at all."""
        return cls(
            np.zeros(num_items + 1, dtype=np.int64),
            np.empty(0, dtype=np.int32),
            np.empty(0, dtype=np.float32),
        )

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """Its three arrays."""
        return self.indptr, self.items, self.weights

    def reached(self, history: IndexArray, weights: FloatArray) -> FloatArray:
        """``(items,)`` sum of the links from the items of a history, of the given weights."""
        counts = weights > _EPSILON  # smaller ones are lost in rounding beside the newest event's
        sums = np.zeros(len(self.indptr) - 1, dtype=np.float32)
        spans = [slice(*self.indptr[item : item + 2].tolist()) for item in history[counts].tolist()]
        if spans:
            weighted = zip(weights[counts], spans, strict=True)
            values = np.concatenate([weight * self.weights[span] for weight, span in weighted])
            np.add.at(sums, np.concatenate([self.items[span] for span in spans]), values)
        return sums


@dataclass(frozen=True)
class Blend:
    r"""Scores a candidate by a weighted sum of five signals.

    ``retrieval`` is the first stage's score. With ``a`` the number of items that came after the
    history's item ``h``, ``neighbours`` is :math:`\sum_h r^a \mathrm{sim}(h, c)` over the
    similarities of item-kNN or EASE (which items were bought together exactly, of which a short
    vector keeps only the outline), ``transitions`` the same over what came soon after what,
    ``text`` the cosine of the candidate's text and :math:`\sum_h s^a t_h`, and ``popularity`` the
    log of 1 + the item's training interactions.
    The weights are fitted on validation: see `twotower.workflow.reranking`.

    Attributes
    ----------
    weights
        ``(5,)`` float32, of `SIGNALS`.
    recency, transition_recency, text_recency
        Decay of an event's weight for each event that came after it, in ``neighbours``,
        ``transitions`` and ``text``.
    neighbours, transitions
        Links between items.
    text
        ``(items, t)`` float32 unit vectors, zero for no text.
    popularity
        ``(items,)`` float32.
    by_ease
        Whether ``neighbours`` are those of EASE. Scores do not depend on it, a refit does.
    helps
        Whether validation was better with the second stage, by more than a standard error.
    """

    weights: FloatArray
    recency: float
    transition_recency: float
    text_recency: float
    neighbours: ItemLinks
    transitions: ItemLinks
    text: FloatArray
    popularity: FloatArray
    by_ease: bool = False
    helps: bool = False

    def __post_init__(self) -> None:
        if self.weights.shape != (len(SIGNALS),):
            raise InputError(f"weights must have shape (5,), got {self.weights.shape}")
        items = len(self.popularity)
        rows = len(self.text), len(self.neighbours.indptr) - 1, len(self.transitions.indptr) - 1
        if rows != (items, items, items):
            raise InputError(
                f"text, neighbours and transitions must have rows for {items} items, got "
                f"{rows[0]}, {rows[1]} and {rows[2]}"
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
        """``(candidates, 5)`` for the candidates of one query."""
        known = self._known(history)
        decayed = [self._decayed(name, known, items) for name in RECENCIES]
        return np.stack([retrieval, *decayed, self.popularity[items]], axis=1)

    def decayed(self, recency: str, history: IndexArray, items: Array) -> FloatArray:
        """``(candidates,)`` the signal that one of `RECENCIES` decides, for one query."""
        return self._decayed(recency, self._known(history), items)

    def _known(self, history: IndexArray) -> tuple[IndexArray, Array]:
        """The items of a history that have signals, and how many came after each."""
        age = np.arange(len(history))[::-1]
        known = history < self.num_items
        return history[known], age[known]

    def _decayed(self, recency: str, known: tuple[IndexArray, Array], items: Array) -> FloatArray:
        history, age = known
        weights = np.power(getattr(self, recency), age, dtype=np.float32)
        if recency == "text_recency":
            wanted = weights @ self.text[history]
            length = float(np.linalg.norm(wanted))
            # `take` gathers in two thirds of the time that indexing does.
            found: FloatArray = self.text.take(items, axis=0) @ (wanted / max(length, 1e-6))
            return found
        links = self.neighbours if recency == "recency" else self.transitions
        return links.reached(history, weights)[items]

    def to_arrays(self) -> dict[str, Array]:
        """Everything as NumPy arrays, for a safetensors file."""
        arrays: dict[str, Array] = {name: np.asarray([getattr(self, name)]) for name in RECENCIES}
        for name, parts in _LINKS.items():
            arrays |= zip(parts, getattr(self, name).arrays, strict=True)
        arrays |= {"weights": self.weights, "text": self.text, "popularity": self.popularity}
        return arrays | {name: np.asarray([getattr(self, name)], np.uint8) for name in _FLAGS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Self:
        """The inverse of `to_arrays`; `with_transitions` makes it read earlier files too."""
        fields: dict[str, Any] = {name: float(arrays[name][0]) for name in RECENCIES}
        for name, parts in _LINKS.items():
            fields[name] = ItemLinks(*(arrays[part] for part in parts))
        for name in ("weights", "text", "popularity"):
            fields[name] = arrays[name]
        fields |= {name: bool(arrays[name][0]) for name in _FLAGS}
        return cls(**fields)


def with_transitions(arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays of a blend that was written before there were transitions, with none of them."""
    if "transition_indptr" in arrays:
        return arrays
    none = ItemLinks.none(len(arrays["popularity"])).arrays
    return {
        **arrays,
        **dict(zip(_LINKS["transitions"], none, strict=True)),
        "weights": np.insert(arrays["weights"], SIGNALS.index("transitions"), 0),
        "transition_recency": np.ones(1),
        **{name: np.zeros(1, dtype=np.uint8) for name in _FLAGS},
    }
