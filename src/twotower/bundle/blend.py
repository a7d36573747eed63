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
"""Signals of the weighted sum, in the order of its weights."""
FURTHER: Final = ("long neighbours", "newest text", "towers")
"""Further inputs of the network: neighbours with a slowly decaying history, the cosine with the
newest item's text, and the towers' part of the retrieval score."""
ALL_SIGNALS: Final = (*SIGNALS, *FURTHER)
_OF_TEXT: Final = ("text", "newest text")
LONG_RECENCY: Final = 0.9
"""Decay of an event's weight in ``long neighbours``."""
RECENCIES: Final = ("recency", "transition_recency", "text_recency", "repeat_recency")
"""Fields of `Blend` that hold a decay over the history."""
SIGNAL_OF: Final = {
    "recency": "neighbours",
    "transition_recency": "transitions",
    "text_recency": "text",
    "earlier": "trend",
    "repeat_recency": "repeats",
}
"""The signal that each of these fields of `Blend` affects."""
_FLAGS: Final = ("by_ease", "helps")
_EPSILON: Final = float(np.finfo(np.float32).eps)
_LINKS: Final = {
    "neighbours": ("indptr", "neighbours", "similarity"),
    "transitions": ("transition_indptr", "transition_items", "transition_weights"),
}
"""Names of the arrays of `ItemLinks` in a file."""
AS_RETRIEVED: Final[FloatArray] = np.eye(1, len(SIGNALS), dtype=np.float32)[0]
"""Weights that keep the first stage's order."""
_ARRAYS: Final = ("weights", "short_lengths", "short_weights", "text", "popularity", "trend")


@dataclass(frozen=True)
class ItemLinks:
    """Weighted item-to-item links, as a sparse matrix in compressed rows (CSR)."""

    indptr: OffsetArray
    """``(items + 1,)`` int64; item ``i`` links to ``items[indptr[i]:indptr[i + 1]]``."""
    items: IndexArray
    """``(links,)`` int32."""
    weights: FloatArray
    """``(links,)`` float32."""

    @classmethod
    def none(cls, num_items: int) -> Self:
        """No links."""
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
        """``(items,)`` sum of the links from a history's items, each times the item's weight."""
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
    similarities of item-kNN or EASE (exact co-occurrence, which a short vector only approximates),
    ``transitions`` the same over which items soon followed which, ``text`` the cosine of the
    candidate's text and :math:`\sum_h s^a t_h`, ``popularity`` the log of 1 + the item's training
    interactions, and ``trend`` the same over the interactions before the request, decayed by age.
    A service's requests come after the log, so they use the trend at its end. ``repeats`` is
    :math:`\sum_h t^a [h = c]`, how often and how recently the user had the candidate itself: in
    logs with repeats, people return to items they know (Anderson et al., *The dynamics of repeat
    consumption*, WWW 2014).
    The weights are fitted on validation: see `twotower.workflow.reranking`. If validation improves,
    a small network over these signals and the three of `FURTHER` replaces the weighted sum.
    Histories shorter than most in validation, such as a new visitor's, may have their own weights:
    signals that separate the tastes of established users may bury what most people want.

    Attributes
    ----------
    weights
        ``(7,)`` float32, one for each of `SIGNALS`.
    recency, transition_recency, text_recency, repeat_recency
        Decay of an event's weight for each event that came after it, in ``neighbours``,
        ``transitions``, ``text`` and ``repeats``.
    neighbours, transitions
        Item-to-item links.
    text
        ``(items, t)`` float32 unit vectors; zeros for an item without text.
    popularity
        ``(items,)`` float32.
    trend
        ``(items,)`` float32 at the end of the log; zero where the log has no times.
    by_ease
        Whether ``neighbours`` come from EASE. A refit depends on it, scores do not.
    candidates
        Retrieved items that are re-ranked: as many as were enough on validation.
    helps
        Whether the second stage improved validation by more than a standard error.
    network
        Scores by all signals; None where the weighted sum is used.
    short_lengths, short_weights
        ``(b,)`` ascending int32 and ``(b, 7)`` float32. A history with fewer items than
        ``short_lengths[i]``, but not fewer than the length before it, is scored with
        ``short_weights[i]`` instead of ``weights`` and ``network``, unless that row is zero.
    earlier
        Trend at times before the end of the log, for evaluation; never saved.
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
        """Number of known items. Items added later get no score, nor do items without events."""
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
        known &= self.popularity[rows] > 0  # every signal but the text would rank it last
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
        """Whether the network reads the towers' scores; the weighted sum never does."""
        return bool(self.used[-1])

    @cached_property
    def used(self) -> Array:
        """``(10,)`` which of `ALL_SIGNALS` affect the score; the others are not computed."""
        none = np.zeros(len(FURTHER), dtype=np.bool_)
        counts = np.append(self.weights != 0, none)
        if self.network is not None:
            counts = self.network.reads[:-1]
        counts |= np.append((self.short_weights != 0).any(axis=0), none)
        counts[0] = True  # the retrieval score is given
        return counts

    def combined(self, signals: FloatArray, length: int) -> FloatArray:
        """``(candidates,)`` scores from `ALL_SIGNALS` and the number of items in the history."""
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
        """``(candidates, 10)`` values of `ALL_SIGNALS` for a query's candidates.

        ``moment`` is in seconds since 1970; None is the end of the log. ``wanted``, ``(10,)``,
        marks the signals to compute, None for all; the others are 0.
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
        """``(candidates,)`` one of `ALL_SIGNALS`, except the first and the last: see `signals`."""
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
        """``(t,)`` unit vector: the normalised, decayed sum of a history's text vectors."""
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
        """The same without the earlier trend, as it is saved: for requests after the log only."""
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
        """The inverse of `to_arrays`; apply `with_all_signals` first to files of older releases."""
        fields: dict[str, Any] = {name: float(arrays[name][0]) for name in RECENCIES}
        for name, parts in _LINKS.items():
            fields[name] = ItemLinks(*(arrays[part] for part in parts))
        fields |= {name: arrays[name] for name in _ARRAYS}
        fields |= {name: bool(arrays[name][0]) for name in _FLAGS}
        fields["candidates"] = int(arrays["candidates"][0])
        return cls(**fields, network=Network.from_arrays(arrays))


def with_all_signals(arrays: dict[str, Array]) -> dict[str, Array]:
    """A blend's arrays, with neutral values for signals that its release did not have yet."""
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
