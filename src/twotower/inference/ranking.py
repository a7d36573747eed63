"""Ranked lists of items, and per-group caps on them."""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple, Self

import numpy as np

from twotower.inference.filters import Filters, category_groups, within_caps
from twotower.inference.item_table import ItemTable
from twotower.types import Array, FloatArray, OffsetArray

_MARGIN: Final = 4
"""Over-fetch factor under per-group caps: this many times ``k`` items are ranked first, and this
many times more again while the answer is too short."""


class RankedItems(NamedTuple):
    """Items, best first; each array has one entry per item."""

    items: OffsetArray
    """Rows of the item table."""
    scores: FloatArray
    """Scores that they are ranked by."""
    retrieval: FloatArray | None = None
    rerank: FloatArray | None = None
    """Scores of the first and second stage, or None."""

    def take(self, places: Array | slice) -> Self:
        """The items at these positions."""
        return type(self)(
            self.items[places],
            self.scores[places],
            None if self.retrieval is None else self.retrieval[places],
            None if self.rerank is None else self.rerank[places],
        )


def filled(
    best: Callable[[int], RankedItems], k: int, filters: Filters, table: ItemTable
) -> RankedItems:
    """The first ``k`` items that the filters' caps allow; fewer only if no more exist.

    Parameters
    ----------
    best
        Given a count, returns at least that many best items, or fewer if there are no more.
    """
    if not filters.has_caps:
        return best(k).take(slice(k))
    wanted = k * _MARGIN
    while True:
        ranked = best(wanted)
        places = within_caps(_caps(filters, table, ranked.items), k)
        if len(places) < k:  # spares a search of all items if the caps allow no more
            k = min(k, _reachable(filters, table))
        if len(places) >= k or len(ranked.items) < wanted:
            return ranked.take(np.asarray(places, dtype=np.int64))
        wanted *= _MARGIN


def _reachable(filters: Filters, table: ItemTable) -> int:
    """Upper bound of the number of eligible items that fit the caps together."""
    bounds: list[int] = []
    for groups, most in (
        (table.categories.rows, filters.max_per_category),
        (table.franchises, filters.max_per_franchise),
    ):
        if most is not None:
            ungrouped, *sizes = np.bincount(groups[table.eligible] + 1, minlength=1).tolist()
            bounds.append(ungrouped + sum(min(size, most) for size in sizes))
    eligible_rows = np.flatnonzero(table.eligible)
    for name, most in filters.max_per.items():
        of_rows = table.columns.find(name).groups(name, eligible_rows)
        counts = Counter(group for groups in of_rows for group in groups)
        ungrouped = sum(not groups for groups in of_rows)
        bounds.append(ungrouped + sum(min(size, most) for size in counts.values()))
    return min(bounds)


def _caps(
    filters: Filters, table: ItemTable, items: OffsetArray
) -> list[tuple[list[tuple[int, ...]], int]]:
    caps = []
    if filters.max_per_category is not None:
        groups = (*category_groups(table.names), ())  # the last for -1, no category
        codes = table.categories.rows[items].tolist()
        caps.append(([groups[code] for code in codes], filters.max_per_category))
    if filters.max_per_franchise is not None:
        franchises = table.franchises[items].tolist()
        groups_of = [(code,) if code >= 0 else () for code in franchises]
        caps.append((groups_of, filters.max_per_franchise))
    for name, most in filters.max_per.items():
        caps.append((table.columns.find(name).groups(name, items), most))
    return caps
