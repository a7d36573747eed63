"""`EventRules`: weights of the event kinds in a log, and the target kinds to predict."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, Literal, Self

import numpy as np
import polars as pl
from pydantic import ConfigDict, Field, field_validator, model_validator

from twotower.config import Config
from twotower.data import columns
from twotower.errors import InputError
from twotower.types import Array, BoolArray, FloatArray, OffsetArray

MOST_KINDS: Final = 255
DAY_MS: Final = 86_400_000
LEAST: Final = 1e-6
"""Lower bound of decayed weights, since code divides by weights."""


class EventRules(Config):
    """Event kinds: the table ``[events]`` of a ``dataset.toml``."""

    model_config = ConfigDict(allow_inf_nan=True, ignored_types=(cached_property,))

    weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each kind: ``{"view": 0.2, "buy": 1, "return": -1}``. Events of other kinds are
    rejected. A kind with a negative weight cancels the user's earlier events with the item, and
    the item is not recommended to that user again."""
    target: tuple[str, ...] = ()
    """The kinds to predict: only these are held out for validation and test. By default all kinds
    with a positive weight."""
    seen: tuple[str, ...] | None = None
    """The kinds after which an item is not recommended again. By default all with a positive
    weight."""
    from_rating: dict[str, float] | None = None
    """Minimum rating of each kind, for a log whose kinds follow from ratings:
    ``{"like": 4, "dislike": 0}``. Ratings below all of them are rejected. An event without a
    rating keeps the kind given in the log."""
    half_life: float | None = Field(default=None, gt=0)
    """Days after which the weight of an event halves, counted back from the newest training
    event."""
    quantity_power: float = Field(default=0.0, ge=0, le=1)
    """The weight of an event is multiplied by this power of its quantity; 0 ignores all but the
    sign."""
    learn: Literal["target", "all"] = "all"
    """Kinds that models learn to predict: ``all`` positive kinds, by weight, or only ``target``
    kinds, with the others as inputs only."""

    @field_validator("target", "seen", mode="before")
    @classmethod
    def _one_or_many(cls, kinds: Any) -> Any:
        return (kinds,) if isinstance(kinds, str) else kinds

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not self.weights:
            return self  # may be part of a declaration; `check_complete` checks the whole
        if not any(weight > 0 for weight in self.weights.values()):
            raise ValueError(f"one kind must have a positive weight, got {self._listed()}")
        if len(self.weights) > MOST_KINDS:
            raise ValueError(f"there may be {MOST_KINDS} kinds, got {len(self.weights)}")
        for kind, weight in self.weights.items():
            if not kind.strip() or not math.isfinite(weight) or weight == 0:
                raise ValueError(
                    f"a weight must be a number other than 0, got {kind} = {weight}; "
                    "leave out a kind that is not to be read"
                )
        for field in ("target", "seen"):
            for kind in getattr(self, field) or ():
                if self.weights.get(kind, 0) <= 0:
                    raise ValueError(
                        f"{field} must be kinds of a positive weight, got {kind!r} of "
                        f"{self._listed()}"
                    )
        for kind, least in (self.from_rating or {}).items():
            if kind not in self.weights or not math.isfinite(least):
                raise ValueError(
                    f"from_rating must give ratings of kinds that have a weight, got "
                    f"{kind} = {least}; the kinds are {self._listed()}"
                )
        if self.from_rating and len({*self.from_rating.values()}) < len(self.from_rating):
            raise ValueError("two kinds of from_rating begin at the same rating")
        return self

    def check_complete(self) -> None:
        """Raise `InputError` if the kinds have no weights."""
        if not self.weights:
            raise InputError(
                "the kinds of events have no weights",
                "give them: EventRules(weights={'view': 0.2, 'buy': 1})",
                cli_fix="give them: --weight view=0.2 --weight buy=1",
            )

    def _listed(self) -> str:
        return ", ".join(f"{kind} = {weight:g}" for kind, weight in self.weights.items())

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds in the order of their codes."""
        return tuple(self.weights)

    @cached_property
    def positive(self) -> tuple[str, ...]:
        """Kinds with a positive weight."""
        return tuple(kind for kind, weight in self.weights.items() if weight > 0)

    @cached_property
    def weakest(self) -> str:
        """The kind with the smallest positive weight; the first one if tied."""
        return min(self.positive, key=lambda kind: self.weights[kind])

    def of_target(self, kinds: Array) -> BoolArray:
        """``(events,)`` mask of kind codes that are targets."""
        return self._are(kinds, self.target or self.positive)

    def of_seen(self, kinds: Array) -> BoolArray:
        """``(events,)`` mask of kind codes that count as seen."""
        return self._are(kinds, self.positive if self.seen is None else self.seen)

    def learned(self, kinds: Array, weights: FloatArray) -> FloatArray:
        """``(events,)`` float32 training weight of each event as a target; 0 for inputs only."""
        if self.learn == "all" or not self.target:
            return weights
        return np.where(self.of_target(kinds), weights, 0).astype(np.float32)

    def _are(self, kinds: Array, chosen: Sequence[str]) -> BoolArray:
        among = np.zeros(len(self.kinds), dtype=np.bool_)
        among[[self.kinds.index(kind) for kind in chosen]] = True
        found: BoolArray = among[kinds]
        return found

    def kind_of(self, kind: str | None, rating: float | None) -> str | None:
        """The kind of one event, from its rating if `from_rating` is set; None if unknown."""
        if self.from_rating and rating is not None:
            fitting = [(least, name) for name, least in self.from_rating.items() if rating >= least]
            return max(fitting)[1] if fitting else None
        return kind if kind in self.weights else None

    def weight_of(self, kind: str, quantity: float | None = None) -> float:
        """The weight of one event before decay; negative for a return."""
        weight, amount = self.weights[kind], 1.0 if quantity is None else quantity
        size = abs(weight) * float(abs(amount) ** self.quantity_power)
        return -size if weight < 0 or amount < 0 else size

    def kind_expr(self, present: frozenset[str]) -> pl.Expr:
        """Expression for the kind name of each row; null if it has none."""
        own = pl.col(columns.EVENT) if columns.EVENT in present else pl.lit(None, pl.String)
        if not self.from_rating or columns.RATING not in present:
            return own
        rating = pl.col(columns.RATING)
        found = pl.lit(None, pl.String)
        for kind, least in sorted(self.from_rating.items(), key=lambda pair: pair[1]):
            found = pl.when(rating >= least).then(pl.lit(kind)).otherwise(found)
        return pl.when(rating.is_null() | rating.is_nan()).then(own).otherwise(found)


def event_weight(
    rules: EventRules | None, kind: str, rating: float | None, quantity: float | None
) -> float | None:
    """The weight of an event, negative for a return; None if its kind is unknown.

    Without rules, every event has weight 1, or -1 if its quantity is negative.
    """
    if rules is None:
        return -1.0 if quantity is not None and quantity < 0 else 1.0
    known = rules.kind_of(kind, rating)
    return None if known is None else rules.weight_of(known, quantity)


def amount_expr(present: frozenset[str], rules: EventRules | None) -> pl.Expr:
    """Expression for the factor on a kind's weight, from a row's quantity and weight columns.

    Negative if either is, which makes the row a return.
    """
    size, away = pl.lit(1.0), pl.lit(False)
    for name, power in (
        (columns.QUANTITY, 0.0 if rules is None else rules.quantity_power),
        (columns.WEIGHT, 1.0),
    ):
        if name in present:
            value = pl.col(name).fill_null(1.0)
            size, away = size * value.abs().pow(power), away | (value < 0)
    return pl.when(away).then(-size).otherwise(size)


def kept_after_returns(pairs: OffsetArray, weights: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Cancel events that are followed by a negative event of the same user and item.

    ``pairs`` ``(events,)`` are user-item pair numbers, in time order.

    Returns
    -------
    kept
        ``(events,)`` mask of positive events without a later negative event of the pair.
    returned
        ``(events,)`` mask of the last negative event of each pair without any kept event.

    Examples
    --------
    >>> pairs = np.array([0, 1, 0, 0, 1])
    >>> kept, returned = kept_after_returns(pairs, np.array([1, 1, -1, 1, -1]))
    >>> kept.tolist(), returned.tolist()
    ([False, False, False, True, False], [False, False, False, False, True])
    """
    last = np.full(int(pairs.max(initial=-1)) + 1, -1, dtype=np.int64)
    places = np.arange(len(pairs))
    negative = weights < 0
    last[pairs[negative]] = places[negative]  # the last one wins
    kept = ~negative & (places > last[pairs])
    bought_again = np.zeros(len(last), dtype=np.bool_)
    bought_again[pairs[kept]] = True
    returned = negative & (last[pairs] == places) & ~bought_again[pairs]
    return kept, returned


def strongest_of_pairs(groups: OffsetArray, weights: FloatArray) -> BoolArray:
    """``(events,)`` mask of the first event with the greatest weight in each group.

    Examples
    --------
    >>> strongest_of_pairs(np.array([0, 0, 0, 1]), np.array([0.2, 1, 1, 0.2])).tolist()
    [False, True, False, True]
    """
    order = np.lexsort((-weights, groups))  # stable: ties keep their order
    first = np.ones(len(groups), dtype=np.bool_)
    first[1:] = groups[order][1:] != groups[order][:-1]
    chosen = np.zeros(len(groups), dtype=np.bool_)
    chosen[order[first]] = True
    return chosen


def decayed(
    weights: FloatArray, times: OffsetArray | None, newest: int, half_life: float
) -> FloatArray:
    """Time-decayed weights, halved for every ``half_life`` days before ``newest``.

    ``times`` and ``newest`` are in milliseconds.

    Raises
    ------
    InputError
        If the log has no times.
    """
    if times is None:
        raise InputError(
            f"half_life is {half_life:g} days, but the log has no times",
            "leave half_life out",
            cli_fix="leave --half-life out",
        )
    age = np.maximum(newest - times, 0) / DAY_MS
    aged: FloatArray = np.maximum(weights * 0.5 ** (age / half_life), LEAST).astype(np.float32)
    return aged
