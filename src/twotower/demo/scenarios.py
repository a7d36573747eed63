"""Suggested first picks: popular series, brands and categories of the catalogue."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.inference.filters import categories_of, franchise
from twotower.inference.item_table import ItemTable
from twotower.types import Array

PICKS: Final = 3
"""Items of a scenario."""
_READ: Final = 5000
"""Most popular items that are read."""
_SHOWN: Final = 120
"""Longest title of a showcase."""
_MARKUP: Final = re.compile(r"<[/a-zA-Z!]|&\w+;|[\t\n\r]")
_SYMBOL: Final = "So"
"""Unicode's category of marks such as ™ and of emoji."""
_EDITION: Final = re.compile(r"\s*(?:\(|\[| - | – | — |\|).*$")
_LONGEST: Final = 28
_KINDS: Final = (("series", 4), ("brand", 2), ("category", 4))
"""Kind → number of suggestions."""


@dataclass(frozen=True)
class Scenario:
    """A group of popular items to start from."""

    kind: str
    """``series``, ``brand`` or ``category``."""
    name: str
    rows: tuple[int, ...]
    """Of its most popular items."""


def scenarios(items: ItemTable, counts: Array) -> list[Scenario]:
    """The most popular series, brands and categories, each with its most popular items.

    Series are derived from titles (see `twotower.inference.filters.franchise`), brands and
    categories are columns of the catalogue. Groups of fewer than three different products are left
    out (two platforms of one game are one), and so are series and brands that hold most of the
    catalogue, and titles that are not `presentable`.

    Parameters
    ----------
    items
        The items.
    counts
        ``(items,)`` interactions of each.
    """
    rows = np.argsort(-counts[: items.bundled], kind="stable")[:_READ]
    most_of_all = len(rows) // 2
    rows = rows[[presentable(title) for title in items.titles.rows[rows]]]
    titles = items.titles.rows[rows].tolist()
    catalogue = items.contents.catalogue
    brands: Sequence[str | None] = [None] * len(rows)
    if columns.STORE in catalogue.columns:
        brands = catalogue[columns.STORE].cast(pl.String)[rows].to_list()
    codes = items.categories.rows[rows].tolist()
    series = [franchise(title) for title in titles]
    named = {
        "series": _series(series, titles),
        "brand": brands,
        "category": [categories_of(items.names[code])[0] if code >= 0 else None for code in codes],
    }
    products = [product(title) for title in titles]
    # Three different series show more of a brand or category than three items of one series.
    alike: dict[str, Sequence[str | None]] = {
        "series": [None] * len(rows),
        "brand": series,
        "category": series,
    }
    found = [
        Scenario(kind, name, tuple(rows[list(places)].tolist()))
        for kind, most in _KINDS
        for name, places in _most_popular(
            named[kind],
            counts[rows],
            most,
            alike[kind],
            products,
            largest=len(rows) if kind == "category" else most_of_all,
        )
    ]
    named_once: dict[str, Scenario] = {}
    for scenario in found:
        named_once.setdefault(scenario.name.casefold(), scenario)
    return list(named_once.values())


def _most_popular(
    names: Iterable[str | None],
    counts: Array,
    most: int,
    alike: Sequence[str | None],
    products: Sequence[str],
    *,
    largest: int,
) -> list[tuple[str, tuple[int, ...]]]:
    """Names with the places of their first items; places are in the order of the counts.

    A name of more than ``largest`` items is left out.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        if name and len(name) <= _LONGEST:
            members[name].append(place)
    totals = {
        name: int(counts[places].sum())
        for name, places in members.items()
        if len({products[place] for place in places}) >= PICKS and len(places) <= largest
    }
    chosen = sorted(totals, key=lambda name: (-totals[name], name))[:most]
    return [(name, _first(members[name], alike, products)) for name in chosen]


def _first(
    places: Sequence[int], alike: Sequence[str | None], products: Sequence[str]
) -> tuple[int, ...]:
    """The first positions of different products, of different series as far as there are."""
    by_product: dict[str, int] = {}
    for place in places:
        by_product.setdefault(products[place], place)
    firsts: dict[str | int, int] = {}
    for place in by_product.values():
        firsts.setdefault(alike[place] or place, place)
    chosen = list(firsts.values())
    return tuple(
        [*chosen, *(place for place in by_product.values() if place not in chosen)][:PICKS]
    )


def presentable(title: str | None) -> bool:
    """Whether a title may stand in a showcase: there, not overlong, without markup and symbols.

    Examples
    --------
    >>> presentable("Dragon Saga 2"), presentable(None), presentable("<b>GOTY</b>")
    (True, False, False)
    """
    return (
        title is not None
        and 0 < len(title.strip()) <= _SHOWN
        and not _MARKUP.search(title)
        and all(unicodedata.category(letter) != _SYMBOL for letter in title)
    )


def product(title: str) -> str:
    """A title without its platform or edition: what stands behind a dash or in brackets.

    Examples
    --------
    >>> product("Dragon Saga 2: The Return - Kestrel 2"), product("Dragon Saga 2 (Hexagon)")
    ('dragon saga 2: the return', 'dragon saga 2')
    """
    folded = " ".join(title.casefold().split())
    return _EDITION.sub("", folded) or folded


def _series(names: Sequence[str | None], titles: Sequence[str | None]) -> list[str | None]:
    """The name of each title's series, written as the most popular of its titles has it."""
    shown: dict[str, str] = {}
    for name, title in zip(names, titles, strict=True):
        if name is not None and title is not None:
            shown.setdefault(name, " ".join(title.split())[: len(name)])
    return [None if name is None else shown[name] for name in names]
