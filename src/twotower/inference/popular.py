"""Popular items: the fallback for users without a history."""

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Self

import numpy as np

from twotower.inference.filters import ANY, Filters
from twotower.inference.item_table import ItemTable
from twotower.inference.ranking import RankedItems, filled

if TYPE_CHECKING:
    from twotower.inference.business_rules import ActiveRules


class PopularItems:
    """Ranks items by their number of events in the bundle's histories; ties in catalogue order.

    Items added later have no events and come last.
    """

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        self._counts = table.contents.event_counts.astype(np.float32)
        self._order = np.argsort(-self._counts, kind="stable")  # once: it takes milliseconds

    def over(self, table: ItemTable) -> Self:
        """The same over a changed table of the same bundle."""
        other = copy(self)
        other._table = table
        return other

    def best(
        self,
        k: int,
        filters: Filters = ANY,
        without: Sequence[int] = (),
        rules: "ActiveRules | None" = None,
    ) -> RankedItems:
        """The ``k`` items with the most events that pass the filters; scores are event counts.

        Rows ``without`` are left out.
        """
        passing, bundled = self._table.passing(filters), len(self._order)
        passing[list(without)] = False
        if rules is not None:
            passing &= rules.open
        order = self._order[passing[self._order]]
        late = np.flatnonzero(passing[bundled:]) + bundled
        order = np.concatenate([order, late])

        def first(count: int) -> RankedItems:
            items = order[:count]
            scores = np.zeros(len(items), dtype=np.float32)
            old = items < bundled
            scores[old] = self._counts[items[old]]
            return RankedItems(items, scores)

        if rules is None:
            return filled(first, k, filters, self._table)
        ranking = rules.ranking(lambda _: first(len(order)), k)
        return rules.placed(filled(ranking, k, filters, self._table), k)
