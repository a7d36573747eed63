"""What a request leaves out, as masks over the items and caps on a ranked list."""

from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from twotower.config import Config
from twotower.types import Array, BoolArray


class Filters(Config):
    """Which items may be recommended, for what they are. The empty filter lets all through."""

    categories: tuple[str, ...] = ()
    """Only items of these categories; none named means any."""
    not_categories: tuple[str, ...] = ()
    """No items of these."""
    min_price: float | None = Field(None, ge=0)
    """Least price. Items without a price do not pass a price limit."""
    max_price: float | None = Field(None, ge=0)
    """Highest price."""
    block: tuple[str, ...] = ()
    """Item ids that must not appear. Unknown ids block nothing."""
    max_per_category: int | None = Field(None, ge=1)
    """Most items of one category in an answer; items without a category are not counted."""
    max_per_franchise: int | None = Field(None, ge=1)
    """Most items of one franchise, as titles tell: see `twotower.inference.franchise`."""

    @model_validator(mode="after")
    def _prices_are_in_order(self) -> Self:
        low, high = self.min_price, self.max_price
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_price must be at most max_price {high:g}, got {low:g}")
        return self

    @property
    def has_caps(self) -> bool:
        """Whether the number of items of a kind is limited."""
        return self.max_per_category is not None or self.max_per_franchise is not None

    @property
    def narrows(self) -> bool:
        """Whether items are left out for what they are."""
        return bool(self.categories or self.not_categories) or not (
            self.min_price is None and self.max_price is None
        )


ANY = Filters()
"""Lets everything through."""


def passing(filters: Filters, categories: Array, names: Sequence[str], prices: Array) -> BoolArray:
    """``(items,)`` which items a filter's categories and prices let through.

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


def within_caps(caps: Sequence[tuple[Array, int]], k: int) -> list[int]:
    """The first ``k`` places of a ranked list of which no kind has more than it may.

    Parameters
    ----------
    caps
        Pairs of ``(places,)`` kinds, best place first, and the most places of one kind. Kind -1
        is no kind, and not counted.

    Examples
    --------
    >>> within_caps([(np.array([7, 7, 3, 7, -1, -1, 3]), 1)], k=4)
    [0, 2, 4, 5]
    """
    counts: list[Counter[int]] = [Counter() for _ in caps]
    chosen: list[int] = []
    for place, kinds in enumerate(zip(*(kinds.tolist() for kinds, _ in caps), strict=True)):
        if len(chosen) == k:
            break
        full = any(
            kind >= 0 and count[kind] >= most
            for kind, count, (_, most) in zip(kinds, counts, caps, strict=True)
        )
        if not full:
            chosen.append(place)
            for kind, count in zip(kinds, counts, strict=True):
                count[kind] += 1
    return chosen


def _codes(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    return [code for code, name in enumerate(names) if name in wanted]
