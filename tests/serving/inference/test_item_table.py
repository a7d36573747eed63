from dataclasses import replace

import numpy as np
import pytest

from twotower.bundle.append_only import GrowingRows, roomy
from twotower.errors import InputError
from twotower.inference import filters
from twotower.inference.filters import Filters
from twotower.inference.item_encoder import EncodedItems
from twotower.inference.item_table import Descriptions, ItemTable


def described(*ids, title="Game 100", category="genre-1", price=9.0) -> Descriptions:
    count = len(ids)
    return Descriptions(list(ids), [title] * count, [category] * count, [price] * count)


def encoded(count=1, value=1.0) -> EncodedItems:
    def rows(width):
        return np.full((count, width), value, dtype=np.float32)

    return EncodedItems(rows(8), rows(12), rows(4), None)


@pytest.fixture
def table(contents) -> ItemTable:
    return ItemTable.of(contents)


def test_it_begins_as_the_bundle(table, contents) -> None:
    assert len(table) == table.bundled == 60
    assert table.eligible.all()
    assert table.row("item-07") == 7
    assert table.indices(["item-03", "item-00"]).tolist() == [3, 0]
    assert table.names == tuple(f"genre-{number}" for number in range(4))
    assert table.describe(5).categories == ["genre-1"]
    assert table.franchises[0] == table.franchises[1] >= 0  # "Game 0", "Game 1"
    assert table.franchises[59] == -1  # no title


def test_a_new_item_stands_behind_the_others(table) -> None:
    grown = table.with_items(described("n1", "n2", category="new genre"), encoded(2))
    assert len(grown) == 62
    assert grown.row("n2") == 61
    assert grown.describe(61) == described("n2", category="new genre")
    np.testing.assert_array_equal(grown.vectors.rows[61], np.ones(8))
    assert grown.history.rows.shape == (63, 4)
    assert len(table) == 60  # the older table is what it was
    assert "n1" not in table


def test_replacing_an_added_item_retires_its_row(table) -> None:
    grown = table.with_items(described("n1"), encoded()).with_items(
        described("n1", title="Other"), encoded(value=2.0)
    )
    assert grown.row("n1") == 61
    assert grown.listed[60:].tolist() == [False, True]
    assert grown.titles.rows[61] == "Other"


def test_a_bundled_item_is_described_anew_and_keeps_its_vector(table) -> None:
    changed = table.redescribed(described("item-05", title="Renamed", price=3.0))
    assert changed.describe(5) == described("item-05", title="Renamed", price=3.0)
    assert changed.vectors is table.vectors
    assert table.describe(5).titles == ["Game 5"]


def test_what_is_deleted_is_unlisted_but_still_known(table) -> None:
    less = table.without(["item-05", "never heard of"])
    assert not less.eligible[5]
    assert less.indices(["item-05"]).tolist() == [5]  # a history may hold it
    with pytest.raises(InputError, match=r"unknown item 'item-05'; pass one of the 59 known"):
        less.row("item-05")
    back = less.redescribed(described("item-05"))
    assert back.eligible[5]


def test_availability_comes_and_goes_and_may_come_first(table) -> None:
    shut = table.with_availability({"item-05": False, "n1": False, "item-06": True})
    assert np.flatnonzero(~shut.eligible).tolist() == [5]
    assert shut.row("item-05") == 5  # it still exists
    grown = shut.with_items(described("n1"), encoded())
    assert np.flatnonzero(~grown.eligible).tolist() == [5, 60]
    assert grown.with_availability({"n1": True, "item-05": True}).eligible.all()


def test_a_title_is_parsed_once_for_all_tables(table, monkeypatch) -> None:
    parsed: list[str | None] = []
    franchise = filters.franchise
    monkeypatch.setattr(
        filters, "franchise", lambda title: (parsed.append(title), franchise(title))[1]
    )
    before = table.franchises
    assert len(parsed) == 59  # one has no title
    grown = table.with_availability({"item-05": False}).with_items(
        described("n1", title="New Saga 2"), encoded()
    )
    assert grown.franchises.tolist() == [*before.tolist(), before.max() + 1]
    assert parsed[59:] == ["New Saga 2"]
    assert table.without(["item-03"]).franchises is before


def test_the_mask_of_a_filter(table) -> None:
    mask = table.without(["item-00"]).passing(
        Filters(categories=("genre-0",), block=("item-04", "never heard of"))
    )
    assert np.flatnonzero(mask).tolist() == list(range(8, 60, 4))


def test_growing_shares_memory_and_older_values_stay(monkeypatch) -> None:
    first = GrowingRows.of(np.arange(6.0).reshape(3, 2))
    grown = [first]
    for value in range(200):
        grown.append(grown[-1].with_rows(np.full((1, 2), float(value))))
    assert [len(one.rows) for one in grown] == list(range(3, 204))
    np.testing.assert_array_equal(grown[50].rows[:3], first.rows)
    np.testing.assert_array_equal(grown[50].rows[3:, 0], np.arange(50))
    assert len({id(one.buffer) for one in grown}) < 8


def test_a_table_grows_into_the_room_behind_it() -> None:
    rows = roomy((8, 3), np.float32)
    rows[:] = 1
    table = GrowingRows.of(rows, room=True)
    grown = table.with_rows(np.full((60, 3), 2, np.float32))
    assert np.shares_memory(grown.rows, rows)
    assert grown.rows[:, 0].tolist() == [1] * 8 + [2] * 60
    assert np.shares_memory(GrowingRows.of(rows).rows, rows)


@pytest.mark.parametrize("room", [True, False])
def test_what_stands_behind_other_rows_is_not_written_to(room) -> None:
    several = np.zeros((8, 3))
    grown = GrowingRows.of(several[:4], room).with_rows(np.ones((2, 3)))
    assert len(grown.rows) == 6
    assert not several.any()


def test_two_tables_grown_from_the_same_do_not_see_each_other() -> None:
    first = GrowingRows.of(np.zeros((3, 2)), room=True)
    one = first.with_rows(np.ones((2, 2)))
    two = first.with_rows(np.full((1, 2), 2.0))
    three = one.with_rows(np.full((1, 2), 3.0))
    assert first.rows[:, 0].tolist() == [0, 0, 0]
    assert one.rows[:, 0].tolist() == [0, 0, 0, 1, 1]
    assert two.rows[:, 0].tolist() == [0, 0, 0, 2]
    assert three.rows[:, 0].tolist() == [0, 0, 0, 1, 1, 3]
    assert np.shares_memory(one.rows, three.rows)  # the newest does not copy


def test_the_room_behind_loaded_rows_is_taken_once() -> None:
    rows = roomy((4, 2), np.float32)
    rows[:] = 0
    one, two = GrowingRows.of(rows, room=True), GrowingRows.of(rows, room=True)
    grown = one.with_rows(np.ones((1, 2))), two.with_rows(np.full((1, 2), 2))
    assert [table.rows[:, 0].tolist() for table in grown] == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 2]]
    assert np.shares_memory(one.rows, rows)
    assert not np.shares_memory(two.rows, rows)


def test_an_older_table_may_change_too(contents) -> None:
    table = ItemTable.of(contents, room=True)
    one = table.with_items(described("n1", title="First"), encoded())
    two = table.with_items(described("n2", title="Second"), encoded(value=2.0))
    assert "n2" not in one
    assert one.describe(one.row("n1")).titles == ["First"]
    assert two.describe(two.row("n2")).titles == ["Second"]
    np.testing.assert_array_equal(one.vectors.rows[60], np.ones(8))
    np.testing.assert_array_equal(two.vectors.rows[60], np.full(8, 2))


def test_a_change_that_fails_can_be_made_again(contents) -> None:
    table = ItemTable.of(contents, room=True)
    broken = replace(encoded(), history=None)
    with pytest.raises(InputError, match="lacks what the bundle's items have"):
        table.with_items(described("n1"), broken)
    again = table.with_items(described("n1", title="Again"), encoded())
    assert again.describe(again.row("n1")).titles == ["Again"]
