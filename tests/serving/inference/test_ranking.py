import numpy as np
import pytest

from twotower.inference import Pipeline
from twotower.inference.filters import Filters
from twotower.inference.ranking import RankedItems, filled


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(max_per_category=1), [0, 1, 2, 3]),
        (Filters(max_per_category=2), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Filters(max_per_category=1, max_per_franchise=5), [0, 1, 2, 3]),
    ],
)
def test_what_the_caps_cannot_give_is_not_looked_for(contents, filters, expected) -> None:
    """Four categories with a cap of one give four items, however many are asked for."""
    table = Pipeline(contents).items
    asked = []

    def best(count: int) -> RankedItems:
        asked.append(count)
        items = np.arange(min(count, len(table)))
        return RankedItems(items, -items.astype(np.float32))

    ranked = filled(best, 9, filters, table)
    assert ranked.items.tolist() == expected
    assert asked == [36]  # and not 144, of 60 items


def test_items_that_cannot_be_had_do_not_count(contents) -> None:
    table = Pipeline(contents).items
    gone = {f"item-{row:02}": False for row in range(60) if row % 4 == 0 and row < 56}
    table = table.with_availability(gone)
    rows = np.flatnonzero(table.eligible)

    def best(count: int) -> RankedItems:
        return RankedItems(rows[:count], -rows[:count].astype(np.float32))

    ranked = filled(best, 9, Filters(max_per_category=2), table)
    assert ranked.items.tolist() == [1, 2, 3, 5, 6, 7, 56]
