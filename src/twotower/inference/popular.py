"""Popular items: what users get of whom nothing is known."""

from typing import Final

import numpy as np

from twotower.inference.filters import ANY, Filters
from twotower.inference.item_table import ItemTable
from twotower.inference.ranking import Ranked, filled
from twotower.types import FloatArray

MODEL: Final = "model"
"""Source of items that the model ranked."""
POPULAR: Final = "popular"
"""Source of items that most users had, for users of whom nothing is known."""


class PopularItems:
    """Items by the number of events in the bundle's histories; equal counts in catalogue order.

    Parameters
    ----------
    table
        The items, the bundle's first.
    """

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        counts = np.bincount(table.contents.histories.items, minlength=len(table))
        self._counts: FloatArray = counts.astype(np.float32)

    def best(self, k: int, filters: Filters = ANY) -> Ranked:
        """The ``k`` that most users had among those that pass the filters; scores are counts."""
        counts = np.where(self._table.passing(filters), self._counts, -1)
        order = np.argsort(-counts, kind="stable")
        order = order[: int((counts >= 0).sum())]

        def first(count: int) -> Ranked:
            items = order[:count]
            return Ranked(items, counts[items])

        return filled(first, k, filters, self._table)
