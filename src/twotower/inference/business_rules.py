"""Business rules: items that are pinned, boosted, buried or blocked for all users."""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from twotower.config import Config, refusal
from twotower.errors import InputError
from twotower.inference.answers import RuleName
from twotower.inference.eligibility import EligibilityMask
from twotower.inference.filters import ItemConditions, check_categories
from twotower.inference.item_table import ItemTable
from twotower.inference.ranking import RankedItems
from twotower.types import BoolArray, FloatArray, IndexArray, OffsetArray

_NAMES: Final[tuple[RuleName | None, ...]] = (None, "boosted", "buried")


class Pin(Config):
    """An item at a fixed position of every answer in which it is eligible."""

    item: str
    """Item id."""
    position: int = Field(ge=1, strict=True)
    """From 1."""


class Rule(ItemConditions):
    """The items that a rule applies to: those that meet all of its conditions."""

    items: tuple[str, ...] = ()
    """Only items with these ids; empty for any."""

    @model_validator(mode="after")
    def _is_for_some_items(self) -> Self:
        if not (self.items or self.narrows):
            raise ValueError("a rule without items or conditions is for the whole catalogue")
        return self


class _Weighted(Rule):
    name: ClassVar[RuleName]
    """How answers name the rule."""
    sign: ClassVar[int]
    """Sign of its offset."""

    factor: float | None = Field(None, gt=0)
    """Multiplies a positive score and divides a negative one: a larger factor always ranks
    higher."""
    offset: float | None = Field(None, gt=0)
    """Instead of a factor: added to the score of a boosted item, subtracted from a buried
    one's."""

    @model_validator(mode="after")
    def _has_one_weight(self) -> Self:
        if (self.factor is None) == (self.offset is None):
            raise ValueError("give either a factor or an offset")
        return self


class Boost(_Weighted):
    """Items that rank higher than the model says."""

    name: ClassVar[RuleName] = "boosted"
    sign: ClassVar[int] = 1

    factor: float | None = Field(None, gt=1)


class Bury(_Weighted):
    """Items that rank lower than the model says."""

    name: ClassVar[RuleName] = "buried"
    sign: ClassVar[int] = -1

    factor: float | None = Field(None, gt=0, lt=1)


class BusinessRules(Config):
    """The rules of a file: arrays of tables ``pin``, ``boost``, ``bury`` and ``block``.

    Examples
    --------
    >>> rules = BusinessRules.model_validate(
    ...     {
    ...         "pin": [{"item": "G0885", "position": 1}],
    ...         "boost": [{"where": {"brand": "Lumen"}, "factor": 1.2}],
    ...         "bury": [{"max_price": 5, "offset": 0.1}],
    ...         "block": [{"items": ["G0001", "G0002"]}],
    ...     }
    ... )
    >>> rules.pin[0].position
    1
    """

    pin: tuple[Pin, ...] = ()
    boost: tuple[Boost, ...] = ()
    bury: tuple[Bury, ...] = ()
    block: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _pins_are_apart(self) -> Self:
        for name in ("item", "position"):
            values = [getattr(pin, name) for pin in self.pin]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"{name} {twice!r} is pinned twice")
        return self


def read_rules(path: Path) -> BusinessRules:
    """Read a rules file: JSON if its name ends in ``.json``, else TOML.

    Raises
    ------
    InputError
        If it cannot be read, or at the first invalid rule, with its position in the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:  # bad UTF-8, TOML and JSON are ValueErrors
        raise InputError(f"rules {path} cannot be read ({error})", "correct the file") from error
    try:
        return BusinessRules.model_validate(values)
    except ValidationError as error:
        raise refusal(error, BusinessRules, f"rules {path}") from None


@dataclass(frozen=True)
class ActiveRules:
    """Business rules resolved against the served items; rebuilt whenever those change."""

    rules: BusinessRules
    """The rules as configured."""
    table: ItemTable
    """The items."""
    unknown: tuple[str, ...]
    """Item ids in the rules that no item has; they have no effect until such an item is added."""
    open: BoolArray
    """``(rows,)`` False for blocked items."""
    pins: Mapping[int, int]
    """Position of each pinned row."""
    group: IndexArray
    """``(rows,)`` the group of each row. All rows of a group have the same weight, so the model's
    order holds within it. Group 0 is untouched by rules; pinned rows have groups of their own."""
    weights: FloatArray
    """``(groups, 2)`` factor and offset."""
    names: tuple[RuleName | None, ...]
    """Rule name that answers give for each group."""

    @classmethod
    def of(cls, rules: BusinessRules, table: ItemTable) -> Self:
        """Resolve rules against these items.

        Raises
        ------
        InputError
            If a rule names a category or column that no item has.
        """
        named = [*(pin.item for pin in rules.pin)]
        named += [item for rule in (*rules.boost, *rules.bury, *rules.block) for item in rule.items]
        rows = {item: table.find(item) for item in dict.fromkeys(named)}
        pins = {row: pin.position for pin in rules.pin if (row := rows[pin.item]) is not None}
        weights, names = np.tile([1.0, 0.0], (len(table), 1)), np.zeros(len(table), dtype=np.int64)
        weighing: list[tuple[str, Boost | Bury]] = [
            *((f"boost.{number}", rule) for number, rule in enumerate(rules.boost)),
            *((f"bury.{number}", rule) for number, rule in enumerate(rules.bury)),
        ]
        for place, rule in weighing:
            at = _rows_of(place, rule, table)
            weights[at] *= rule.factor or 1.0, 1.0
            weights[at] += 0.0, rule.sign * (rule.offset or 0.0)
            names[at] = _NAMES.index(rule.name)
        is_pinned = np.zeros(len(table), dtype=np.bool_)
        is_pinned[list(pins)] = True
        moved = np.flatnonzero(is_pinned | (names > 0))
        groups, numbers = np.unique(
            np.column_stack([weights[moved], names[moved], is_pinned[moved]]),
            axis=0,
            return_inverse=True,
        )
        group = np.zeros(len(table), dtype=np.int32)
        group[moved] = numbers.reshape(-1) + 1
        is_open = np.ones(len(table), dtype=np.bool_)
        for number, blocked in enumerate(rules.block):
            is_open[_rows_of(f"block.{number}", blocked, table)] = False
        return cls(
            rules,
            table,
            tuple(item for item, row in rows.items() if row is None),
            is_open,
            pins,
            group,
            np.concatenate([[[1.0, 0.0]], groups[:, :2]]).astype(np.float32),
            (None, *(_NAMES[int(name)] for name in groups[:, 2])),
        )

    def over(self, table: ItemTable) -> Self:
        """The same rules resolved against other items."""
        return self if table is self.table else type(self).of(self.rules, table)

    def parts(self, eligible: EligibilityMask) -> list[EligibilityMask]:
        """Eligible items by group, to rank separately: the overall best are among each one's."""
        if eligible.mask is self.table.eligibility.mask:
            return self._parts
        return self._split(eligible.mask)

    @cached_property
    def _parts(self) -> list[EligibilityMask]:
        return self._split(self.table.eligibility.mask)

    def _split(self, mask: BoolArray) -> list[EligibilityMask]:
        mask = mask & self.open
        first, *others = (
            EligibilityMask.of(mask & (self.group == group)) for group in range(len(self.weights))
        )
        return [first, *(part for part in others if part.count)]

    def ranking(self, best: Callable[[int], RankedItems], k: int) -> Callable[[int], RankedItems]:
        """Rank items by the model's scores as adjusted by the rules, pinned items first.

        Parameters
        ----------
        best
            Given a count, returns at least that many best items of each group, or all of them.
        k
            Length of the answer: pins beyond it are ignored.
        """
        pinned = [row for row, position in self.pins.items() if position <= k]

        def first(count: int) -> RankedItems:
            ranked = best(max(count, len(self.pins)))
            scores = self._weighed(ranked)
            others = ~np.isin(ranked.items, pinned)
            order = np.lexsort((-scores, others))[:count]
            return ranked._replace(scores=scores).take(order)

        return first

    def placed(self, ranked: RankedItems, k: int) -> RankedItems:
        """A list of `ranking` with the pinned items moved from its head to their positions."""
        positions = [self._position(row, k) for row in ranked.items.tolist()]
        places = [place for place, position in enumerate(positions) if position is None]
        pinned = [(position, place) for place, position in enumerate(positions) if position]
        for position, place in sorted(pinned):
            places.insert(position - 1, place)
        return ranked.take(np.asarray(places, dtype=np.int64))

    def names_of(self, items: OffsetArray, k: int) -> list[RuleName | None]:
        """The rule that moved each item of an answer of length ``k``, or None."""
        return [
            "pinned" if self._position(row, k) else self.names[self.group[row]]
            for row in items.tolist()
        ]

    def _position(self, row: int, k: int) -> int | None:
        position = self.pins.get(row)
        return position if position is not None and position <= k else None

    def _weighed(self, ranked: RankedItems) -> FloatArray:
        factors, offsets = self.weights[self.group[ranked.items]].T
        powers = np.where(ranked.scores > 0, factors, 1 / factors)
        scores: FloatArray = ranked.scores * powers + offsets
        return scores


def _rows_of(place: str, rule: Rule, table: ItemTable) -> BoolArray:
    """``(rows,)`` which items a rule applies to; errors name ``place``, where the file has it."""
    try:
        check_categories(rule, table.names)
        mask = table.meeting(rule)
    except InputError as error:
        what = f"business rules: {place}: {error.what}"
        raise InputError(what, error.fix, cli_fix=error.cli_fix) from None
    if not rule.items:
        return mask
    named = np.zeros(len(mask), dtype=np.bool_)
    named[[row for item in rule.items if (row := table.find(item)) is not None]] = True
    return mask & named
