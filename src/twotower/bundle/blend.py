"""Blend re-ranker: a weighted sum of retrieval score, item links, text, demand and repeats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Self

import numpy as np

from twotower.bundle.network import Network
from twotower.bundle.reranker import MOST_CANDIDATES
from twotower.bundle.trend import Trend
from twotower.data import Queries
from twotower.errors import InputError
from twotower.types import Array, FloatArray, IndexArray, OffsetArray

SIGNALS: Final = (
    "retrieval", "neighbours", "transitions", "text", "popularity", "trend", "repeats"
)  # fmt: skip
"""What is blended, in the order of the weights."""
FURTHER: Final = ("long neighbours", "newest text", "towers")
"""What the network reads beside them: neighbours of a history that is forgotten slowly, the cosine
with the newest item's text, and what the towers add to the score of the index."""
ALL_SIGNALS: Final = (*SIGNALS, *FURTHER)
_OF_TEXT: Final = ("text", "newest text")
LONG_RECENCY: Final = 0.9
"""Decay of an event's weight in ``long neighbours``."""
RECENCIES: Final = ("recency", "transition_recency", "text_recency", "repeat_recency")
"""Fields of `Blend` that say how a history is forgotten."""
SIGNAL_OF: Final = {
    "recency": "neighbours",
    "transition_recency": "transitions",
    "text_recency": "text",
    "earlier": "trend",
    "repeat_recency": "repeats",
}
"""The signal that a field of `Blend` decides."""
_FLAGS: Final = ("by_ease", "helps")
_EPSILON: Final = float(np.finfo(np.float32).eps)
_LINKS: Final = {
    "neighbours": ("indptr", "neighbours", "similarity"),
    "transitions": ("transition_indptr", "transition_items", "transition_weights"),
}
"""Names of `ItemLinks` in a file."""
AS_RETRIEVED: Final[FloatArray] = np.eye(1, len(SIGNALS), dtype=np.float32)[0]
"""Weights that leave the first stage's order as it is."""
_ARRAYS: Final = ("weights", "short_lengths", "short_weights", "text", "popularity", "trend")


@dataclass(frozen=True)
class ItemLinks:
    """What leads from an item to others, and how strongly: a sparse matrix in compressed rows."""

    indptr: OffsetArray
    """``(items + 1,)`` int64; item ``i`` leads to ``items[indptr[i]:indptr[i + 1]]``."""
    items: IndexArray
    """``(links,)`` int32."""
    weights: FloatArray
    """``(links,)`` float32."""

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
        history = history[counts]
        if len(history):
            begins, ends = self.indptr[history], self.indptr[history + 1]
            spans = list(map(slice, begins.tolist(), ends.tolist()))
            values = np.concatenate([self.weights[span] for span in spans])
            values *= np.repeat(weights[counts], ends - begins)
            np.add.at(sums, np.concatenate([self.items[span] for span in spans]), values)
        return sums


@dataclass(frozen=True)
class Blend:
    r"""Scores a candidate by a weighted sum of seven signals.

    ``retrieval`` is the first stage's score. With ``a`` the number of items that came after the
    history's item ``h``, ``neighbours`` is :math:`\sum_h r^a \mathrm{sim}(h, c)` over the
    similarities of item-kNN or EASE (which items were bought together exactly, of which a short
    vector keeps only the outline), ``transitions`` the same over what came soon after what,
    ``text`` the cosine of the candidate's text and :math:`\sum_h s^a t_h`, ``popularity`` the
    log of 1 + the item's training interactions, and ``trend`` the same of those before the request,
    each counting less with time. Requests to a service come after the log, so that it is that of
    the log's end. ``repeats`` is :math:`\sum_h t^a [h = c]`, how often and how lately the user
    had the candidate itself: in logs with repeats people come back to what they know (Anderson et
    al., *The dynamics of repeat consumption*, WWW 2014).
    The weights are fitted on validation: see `twotower.workflow.reranking`. Where validation is
    better by it, a small network over these signals and three `FURTHER` ones scores in their place.
    Histories that are shorter than most in validation, as a new visitor's is, may have weights of
    their own: what helps to tell the tastes of old customers apart may bury what most people want.

    Attributes
    ----------
    weights
        ``(7,)`` float32, of `SIGNALS`.
    recency, transition_recency, text_recency, repeat_recency
        Decay of an event's weight for each event that came after it, in ``neighbours``,
        ``transitions``, ``text`` and ``repeats``.
    neighbours, transitions
        Links between items.
    text
        ``(items, t)`` float32 unit vectors, zero for no text.
    popularity
        ``(items,)`` float32.
    trend
        ``(items,)`` float32 at the end of the log; zero where the log has no times.
    by_ease
        Whether ``neighbours`` are those of EASE. Scores do not depend on it, a refit does.
    candidates
        Items of the index that are re-ranked: as many as validation found to be enough.
    helps
        Whether validation was better with the second stage, by more than a standard error.
    network
        Scores by all signals; None where the weighted sum does.
    short_lengths, short_weights
        ``(b,)`` int32 that rise, and ``(b, 7)`` float32: a history with fewer items than a length,
        but not than the one before, is scored by its row in place of ``weights`` and ``network``,
        unless the row is zero.
    earlier
        The trend before the end of the log, for an evaluation; a file has none.
    """

    weights: FloatArray
    recency: float
    transition_recency: float
    text_recency: float
    neighbours: ItemLinks
    transitions: ItemLinks
    text: FloatArray
    popularity: FloatArray
    trend: FloatArray
    repeat_recency: float = 1.0
    by_ease: bool = False
    candidates: int = MOST_CANDIDATES
    helps: bool = False
    network: Network | None = None
    short_lengths: IndexArray = field(default_factory=lambda: np.zeros(0, np.int32))
    short_weights: FloatArray = field(default_factory=lambda: np.zeros((0, len(SIGNALS)), "f4"))
    earlier: Trend = field(default_factory=Trend.none)

    def __post_init__(self) -> None:
        bands = len(self.short_lengths)
        shapes = {"weights": (len(SIGNALS),), "short_weights": (bands, len(SIGNALS))}
        for name, shape in shapes.items():
            got = getattr(self, name).shape
            if got != shape:
                raise InputError(f"{name} must have shape {shape}, got {got}")
        if self.network is not None and len(self.network.low) != len(ALL_SIGNALS) + 1:
            raise InputError(
                f"a network must have {len(ALL_SIGNALS) + 1} inputs, got {len(self.network.low)}"
            )
        items = len(self.popularity)
        rows = {
            "trend": len(self.trend),
            "text": len(self.text),
            "neighbours": len(self.neighbours.indptr) - 1,
            "transitions": len(self.transitions.indptr) - 1,
        }
        for name, count in rows.items():
            if count != items:
                raise InputError(f"{name} must have rows for {items} items, got {count}")

    @property
    def num_items(self) -> int:
        """Items that are known; later ones have no score, nor has one without an interaction."""
        return len(self.popularity)

    def scores(
        self,
        queries: Queries,
        items: OffsetArray,
        retrieval: FloatArray,
        towers: FloatArray,
    ) -> FloatArray:
        """See `twotower.bundle.reranker.Reranker.scores`."""
        known = (items >= 0) & (items < self.num_items)
        rows = np.where(known, items, 0)
        known &= self.popularity[rows] > 0  # all signals but the text's would say 'the worst'
        scores = np.empty(items.shape, dtype=np.float32)
        used = self.used
        for row, moment in enumerate(self.earlier.moments(queries)):
            history = queries.histories.row(row)
            signals = self.signals(history, rows[row], retrieval[row], towers[row], moment, used)
            scores[row] = self.combined(signals, len(history))
        scores[~known] = np.nan
        scores[items < 0] = -np.inf
        return scores

    @property
    def reads_towers(self) -> bool:
        """Whether a network reads them; the weighted sum does not."""
        return bool(self.used[-1])

    @cached_property
    def used(self) -> Array:
        """``(10,)`` whether each of `ALL_SIGNALS` counts; those that do not take no time."""
        none = np.zeros(len(FURTHER), dtype=np.bool_)
        counts = np.append(self.weights != 0, none)
        if self.network is not None:
            counts = self.network.reads[:-1]
        counts |= np.append((self.short_weights != 0).any(axis=0), none)
        counts[0] = True  # it is given
        return counts

    def combined(self, signals: FloatArray, length: int) -> FloatArray:
        """``(candidates,)`` scores by `ALL_SIGNALS` and the number of items in the history."""
        band = int(np.searchsorted(self.short_lengths, length, side="right"))
        weights = self.weights
        if band < len(self.short_lengths) and self.short_weights[band].any():
            weights = self.short_weights[band]
        elif self.network is not None:
            return self.network.scores(signals, length)
        scores: FloatArray = signals[:, : len(SIGNALS)] @ weights
        return scores

    def signals(
        self,
        history: IndexArray,
        items: Array,
        retrieval: FloatArray,
        towers: FloatArray,
        moment: int | None = None,
        wanted: Array | None = None,
    ) -> FloatArray:
        """``(candidates, 10)`` of `ALL_SIGNALS` for the candidates of a query.

        ``moment`` is in seconds since 1970; None is the end of the log. ``wanted``, ``(10,)``, says
        which are computed, the others are 0; None for all.
        """
        found = np.zeros((len(items), len(ALL_SIGNALS)), dtype=np.float32)
        found[:, 0], found[:, -1] = retrieval, towers
        names = [
            name
            for place, name in enumerate(ALL_SIGNALS[:-1])
            if place and (wanted is None or wanted[place])
        ]
        for name, values in self._computed(names, history, items, moment):
            found[:, ALL_SIGNALS.index(name)] = values
        return found

    def signal(
        self, name: str, history: IndexArray, items: Array, moment: int | None = None
    ) -> FloatArray:
        """``(candidates,)`` one of `ALL_SIGNALS` but the first and the last, see `signals`."""
        ((_, values),) = self._computed([name], history, items, moment)
        return values

    def _computed(
        self, names: Sequence[str], history: IndexArray, items: Array, moment: int | None
    ) -> Iterator[tuple[str, FloatArray]]:
        known = history < self.num_items
        age = np.arange(len(history))[::-1][known]
        history = history[known]
        texts: FloatArray | None = None
        for name in names:
            if name in _OF_TEXT:
                if texts is None:  # gathered once: it takes longer than the products do
                    texts = self.text.take(items, axis=0)
                newest = slice(-1, None) if name == "newest text" else slice(None)
                yield name, texts @ self._wanted_text(history[newest], age[newest])
            else:
                yield name, self._signal(name, history, age, items, moment)

    def _wanted_text(self, history: IndexArray, age: Array) -> FloatArray:
        """``(t,)`` unit vector of a history's texts."""
        wanted: FloatArray = np.power(self.text_recency, age, dtype="f4") @ self.text[history]
        return wanted / max(float(np.linalg.norm(wanted)), 1e-6)

    def _signal(
        self, name: str, history: IndexArray, age: Array, items: Array, moment: int | None
    ) -> FloatArray:
        if name == "popularity":
            return self.popularity[items]
        if name == "trend":
            return self.trend[items] if moment is None else self.earlier.at(moment, items)
        if name == "repeats":
            lately = np.power(self.repeat_recency, age, dtype=np.float32)
            had = np.bincount(history, weights=lately, minlength=self.num_items)
            return had[items].astype(np.float32)
        links = self.transitions if name == "transitions" else self.neighbours
        recency = {
            "neighbours": self.recency,
            "long neighbours": LONG_RECENCY,
            "transitions": self.transition_recency,
        }[name]
        return links.reached(history, np.power(recency, age, dtype=np.float32))[items]

    def at_end_of_log(self) -> Self:
        """The same for requests after the log alone, as a file has it."""
        return replace(self, earlier=Trend.none())

    def to_arrays(self) -> dict[str, Array]:
        """Everything as NumPy arrays, for a safetensors file."""
        arrays: dict[str, Array] = {name: np.asarray([getattr(self, name)]) for name in RECENCIES}
        for name, parts in _LINKS.items():
            arrays |= zip(parts, getattr(self, name).arrays, strict=True)
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        if self.network is not None:
            arrays |= self.network.to_arrays()
        arrays["candidates"] = np.asarray([self.candidates])
        return arrays | {name: np.asarray([getattr(self, name)], np.uint8) for name in _FLAGS}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Self:
        """The inverse of `to_arrays`; `with_all_signals` makes it read earlier files too."""
        fields: dict[str, Any] = {name: float(arrays[name][0]) for name in RECENCIES}
        for name, parts in _LINKS.items():
            fields[name] = ItemLinks(*(arrays[part] for part in parts))
        fields |= {name: arrays[name] for name in _ARRAYS}
        fields |= {name: bool(arrays[name][0]) for name in _FLAGS}
        fields["candidates"] = int(arrays["candidates"][0])
        return cls(**fields, network=Network.from_arrays(arrays))


def with_all_signals(arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays of a blend, with nothing for the signals that its release did not have."""
    given, weights = dict(arrays), arrays["weights"]
    if "transition_indptr" not in given:
        none = ItemLinks.none(len(given["popularity"])).arrays
        given |= zip(_LINKS["transitions"], none, strict=True)
        given |= {"transition_recency": np.ones(1)}
        given |= {name: np.zeros(1, dtype=np.uint8) for name in _FLAGS}
        weights = np.insert(weights, SIGNALS.index("transitions"), 0)
    if "trend" not in given:
        given["trend"] = np.zeros_like(given["popularity"])
        weights = np.append(weights, np.float32(0))
    if "repeat_recency" not in given:
        given["repeat_recency"] = np.ones(1)
        weights = np.append(weights, np.float32(0))
    if "short_lengths" not in given:
        given["short_lengths"] = np.zeros(0, dtype=np.int32)
        given["short_weights"] = np.zeros((0, len(SIGNALS)), dtype=np.float32)
    if "candidates" not in given:
        given["candidates"] = np.asarray([MOST_CANDIDATES])
    return given | {"weights": weights}
