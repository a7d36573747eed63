"""First picks for somebody who does not know what to pick, found in the catalogue itself."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from twotower.data import columns
from twotower.serving.franchise import franchise
from twotower.serving.item_table import ItemTable
from twotower.types import Array

PICKS: Final = 3
"""Items of a scenario."""
_FEWEST: Final = 3
_LONGEST: Final = 28
_KINDS: Final = (("series", 4), ("brand", 2), ("category", 4))
"""How many of each are offered."""


@dataclass(frozen=True)
class Scenario:
    """Items that belong together.

    Attributes
    ----------
    kind
        ``series``, ``brand`` or ``category``.
    name
        Its name, as the catalogue has it.
    rows
        Rows of its most bought items.
    """

    kind: str
    name: str
    rows: tuple[int, ...]


def scenarios(items: ItemTable, counts: Array) -> list[Scenario]:
    """The most bought series, brands and categories, of each its most bought items.

    Series are told from titles (see `twotower.serving.franchise`), brands and categories are
    columns of the catalogue. What has fewer than three items is no scenario, nor is a series or
    brand of which nearly everything in the catalogue is.

    Parameters
    ----------
    items
        The items.
    counts
        ``(items,)`` how often each was bought.
    """
    bundled = slice(items.bundled)
    titles = items.titles.rows[bundled]
    catalogue = items.contents.catalogue
    brands: Sequence[str | None] = [None] * len(titles)
    if columns.STORE in catalogue.columns:
        brands = catalogue[columns.STORE].cast(pl.String).to_list()
    codes = items.categories.rows[bundled].tolist()
    series = items.franchises[bundled].tolist()
    named = {
        "series": _series(series, titles),
        "brand": brands,
        "category": [items.names[code] if code >= 0 else None for code in codes],
    }
    # Of a brand or a category, three different series say more than three of one.
    alike = {"series": range(len(titles)), "brand": series, "category": series}
    found = [
        scenario
        for kind, most in _KINDS
        for scenario in _most_bought(kind, named[kind], counts, most, alike[kind])
    ]
    named_once: dict[str, Scenario] = {}
    for one in found:
        named_once.setdefault(one.name.casefold(), one)
    return list(named_once.values())


def _most_bought(
    kind: str, names: Iterable[str | None], counts: Array, most: int, alike: Sequence[int]
) -> list[Scenario]:
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        if name and len(name) <= _LONGEST:
            members[name].append(row)
    totals = {
        name: int(counts[rows].sum())
        for name, rows in members.items()
        if len(rows) >= _FEWEST and (kind == "category" or 2 * len(rows) <= len(counts))
    }
    chosen = sorted(totals, key=lambda name: (-totals[name], name))[:most]
    return [Scenario(kind, name, _first(members[name], counts, alike)) for name in chosen]


def _first(rows: Sequence[int], counts: Array, alike: Sequence[int]) -> tuple[int, ...]:
    """The most bought rows, no two alike as far as there are others."""
    ranked = [rows[place] for place in np.argsort(-counts[list(rows)], kind="stable").tolist()]
    firsts: dict[int, int] = {}
    for row in ranked:
        firsts.setdefault(alike[row] if alike[row] >= 0 else -2 - row, row)
    chosen = list(firsts.values())
    return tuple([*chosen, *(row for row in ranked if row not in chosen)][:PICKS])


def _series(codes: Sequence[int], titles: Array) -> list[str | None]:
    """A name for each number of a series: the beginning that the first of its titles has."""
    names: dict[int, str] = {}
    for code, title in zip(codes, titles, strict=True):
        if code >= 0 and code not in names:
            names[code] = title
    whole = {code: franchise(title) or "" for code, title in names.items()}
    shown = {code: " ".join(names[code].split())[: len(name)] for code, name in whole.items()}
    return [shown.get(code) for code in codes]
