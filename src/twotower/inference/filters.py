"""Request filters: categories, prices, declared columns, blocked items and per-group caps."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, Final, Self, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, model_validator

from twotower.config import Config
from twotower.errors import InputError
from twotower.types import Array, BoolArray, IndexArray

SEPARATOR: Final = "|"
"""Separates the categories of an item that has several."""


Scalar: TypeAlias = StrictBool | StrictInt | StrictFloat | str


class Condition(Config):
    """A condition on a declared column; ``"red"`` is short for ``{"is": ["red"]}``.

    A list column meets ``is`` if any of its values matches, and ``not`` if none does. A missing
    value never meets ``is``, ``min`` or ``max``.
    """

    is_: tuple[Scalar, ...] = Field((), alias="is")
    """Any of these."""
    not_: tuple[Scalar, ...] = Field((), alias="not")
    """None of these."""
    min: Scalar | None = None
    """Lowest number or earliest date."""
    max: Scalar | None = None
    """Highest number or latest date."""

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _from_values(cls, given: Any) -> Any:
        if isinstance(given, Condition):
            return given
        if not isinstance(given, dict):
            given = {"is": given}
        return {
            key: [value] if key in ("is", "not") and not isinstance(value, list | tuple) else value
            for key, value in given.items()
        }


class ItemConditions(Config):
    """Conditions on items, all of which must hold; without any, every item passes."""

    categories: tuple[str, ...] = ()
    """Only items of any of these categories; empty for any. An item whose category is
    ``Drama|Comedy`` has both."""
    not_categories: tuple[str, ...] = ()
    """No items of any of these categories."""
    min_price: float | None = Field(None, ge=0, strict=True)
    """Lowest price. Items without a price do not pass a price limit."""
    max_price: float | None = Field(None, ge=0, strict=True)
    """Highest price."""
    where: dict[str, Condition] = Field(default_factory=dict)
    """Conditions on declared columns, all of which must hold: ``{"brand": "Lumen",
    "tags": {"is": ["sale", "bio"], "not": "premium"}, "launch_date": {"min": "2025-01-01"}}``."""

    @model_validator(mode="after")
    def _prices_are_in_order(self) -> Self:
        low, high = self.min_price, self.max_price
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_price must be at most max_price {high:g}, got {low:g}")
        return self

    @property
    def narrows(self) -> bool:
        """Whether there is any condition."""
        return bool(self.categories or self.not_categories or self.where) or not (
            self.min_price is None and self.max_price is None
        )


class Filters(ItemConditions):
    """Filters on which items may be recommended, and caps per group. Empty filters pass all."""

    block: tuple[str, ...] = ()
    """Item ids that must not appear. Unknown ids block nothing."""
    max_per_category: int | None = Field(None, ge=1, strict=True)
    """Most items of one category in an answer; items without a category are not capped."""
    max_per_franchise: int | None = Field(None, ge=1, strict=True)
    """Most items of one franchise, derived from titles: see `franchise`."""
    max_per: dict[str, Annotated[int, Field(ge=1, strict=True)]] = Field(default_factory=dict)
    """Most items per value of a declared category or list column: ``{"brand": 2}``. Items without
    a value are not capped."""

    @property
    def has_caps(self) -> bool:
        """Whether the number of items per group is limited."""
        own = self.max_per_category is not None or self.max_per_franchise is not None
        return own or bool(self.max_per)


ANY = Filters.model_construct()  # unchecked: most processes build no schema of filters
"""Passes every item."""


def passing(
    filters: ItemConditions, categories: Array, names: Sequence[str], prices: Array
) -> BoolArray:
    """``(items,)`` which items pass the category and price conditions.

    Parameters
    ----------
    categories
        ``(items,)`` position of each item's category in ``names``, -1 for none.
    prices
        ``(items,)`` NaN where unknown.
    """
    passes = np.ones(len(categories), dtype=np.bool_)
    if filters.categories:
        passes &= np.isin(categories, _codes(filters.categories, names))
    if filters.not_categories:
        passes &= ~np.isin(categories, _codes(filters.not_categories, names))
    if filters.min_price is not None:
        passes &= prices >= filters.min_price  # NaN compares false
    if filters.max_price is not None:
        passes &= prices <= filters.max_price
    return passes


def categories_of(name: str) -> tuple[str, ...]:
    """The categories in one category field: ``Drama|Comedy`` is two.

    Examples
    --------
    >>> categories_of("Drama | Comedy")
    ('Drama', 'Comedy')
    """
    parts = (part.strip() for part in name.split(SEPARATOR))
    return tuple(dict.fromkeys(part for part in parts if part)) or (name,)


@lru_cache(maxsize=8)
def category_groups(names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """For each category field, the numbers of its categories, shared across all fields."""
    numbers: dict[str, int] = {}
    return tuple(
        tuple(numbers.setdefault(part, len(numbers)) for part in categories_of(name))
        for name in names
    )


def check_categories(filters: ItemConditions, names: Sequence[str]) -> None:
    """`InputError` at a category that no item has; it suggests similar ones."""
    wanted = (*filters.categories, *filters.not_categories)
    if not wanted:
        return
    known = _known(tuple(names))
    for category in wanted:
        if category in known:
            continue
        folded = {name.casefold(): name for name in sorted(known)}
        near = get_close_matches(category.casefold(), folded, n=3, cutoff=0.6)
        shown = [folded[name] for name in near] or sorted(known)[:3]
        if not shown:
            raise InputError(
                f"unknown category {category!r}", "leave it out: no item has a category"
            )
        raise InputError(
            f"unknown category {category!r}",
            f"pass one of the {len(known):,} known, "
            f"{'near ones are' if near else 'for example'} {', '.join(map(repr, shown))}",
        )


@lru_cache(maxsize=8)
def _known(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names).union(*map(categories_of, names))


def within_caps(caps: Sequence[tuple[Sequence[Sequence[int]], int]], k: int) -> list[int]:
    """The first ``k`` positions of a ranked list that remain under per-group caps.

    Parameters
    ----------
    caps
        Pairs of the groups at each position, best first, and the cap per group. A position may
        belong to several groups and count for each, or to none.

    Examples
    --------
    >>> within_caps([([(7,), (7, 3), (3,), (7,), (), ()], 1)], k=4)
    [0, 2, 4, 5]
    """
    counts: list[Counter[int]] = [Counter() for _ in caps]
    chosen: list[int] = []
    for place, groups in enumerate(zip(*(groups for groups, _ in caps), strict=True)):
        if len(chosen) == k:
            break
        full = any(
            count[group] >= most
            for of_cap, count, (_, most) in zip(groups, counts, caps, strict=True)
            for group in of_cap
        )
        if not full:
            chosen.append(place)
            for of_cap, count in zip(groups, counts, strict=True):
                for group in of_cap:
                    count[group] += 1
    return chosen


def _codes(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    chosen = frozenset(wanted)
    return [
        code
        for code, name in enumerate(names)
        if name in chosen or not chosen.isdisjoint(categories_of(name))
    ]


_BREAK: Final = re.compile(r"\s*(?::|\(|\[|,| - | – | — |\|).*$", re.DOTALL)
"""Start of a subtitle, edition or platform."""
_TAIL: Final = re.compile(
    r"\s+(?:[ivx]{1,5}|[0-9]{1,4}|hd|remastered|remake|deluxe|edition|collection|"
    r"special|limited|collector'?s|ultimate|complete|standard|game of the year|goty)$"
)
"""A trailing series number or edition name."""


def franchise(title: str | None) -> str | None:
    """The start of a title that its sequels and editions share, or None if there is none.

    Examples
    --------
    >>> franchise("Dragon Saga III: The Return (Deluxe Edition)")
    'dragon saga'
    >>> franchise("Dragon Saga 2 Remastered - Kestrel 2")
    'dragon saga'
    >>> franchise("2048")
    '2048'
    """
    if title is None:
        return None
    whole = " ".join(title.casefold().split())
    name = _BREAK.sub("", whole) or whole
    while (shorter := _TAIL.sub("", name)) != name:
        name = shorter
    return name or None


class FranchiseCodes:
    """Assigns numbers to franchises; parses each title once, even if the items change."""

    def __init__(self) -> None:
        self._of_name: dict[str, int] = {}
        self._of_title: dict[str | None, int] = {None: -1}

    def codes(self, titles: Iterable[str | None]) -> IndexArray:
        """``(titles,)`` the franchise number of each title, -1 for none."""
        known = self._of_title
        return np.asarray(
            [known[title] if title in known else self._parsed(title) for title in titles],
            dtype=np.int32,
        )

    def _parsed(self, title: str | None) -> int:
        name = franchise(title)
        code = -1 if name is None else self._of_name.setdefault(name, len(self._of_name))
        return self._of_title.setdefault(title, code)
