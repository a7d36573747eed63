from twotower.demo import cards
from twotower.demo.loaded_bundle import Item, LoadedBundle
from twotower.demo.scenarios import _first, product


def test_scenarios_come_from_the_catalogue(loaded: LoadedBundle) -> None:
    found = {one.name: one for one in loaded.scenarios}
    assert set(found) == {"Dragon Saga", "Racing Saga", "role-playing", "sport"}
    assert {one.kind for one in loaded.scenarios} == {"series", "category"}


def test_a_scenario_holds_the_most_bought_of_its_kind(loaded: LoadedBundle) -> None:
    one = next(one for one in loaded.scenarios if one.name == "Racing Saga")
    rows = [
        row for row in range(len(loaded.items))
        if (loaded.items.titles.rows[row] or "").startswith("Racing Saga")
    ]  # fmt: skip
    best = sorted(rows, key=lambda row: (-loaded.counts[row], row))[:3]
    assert list(one.rows) == best


def test_a_category_offers_different_series(loaded: LoadedBundle) -> None:
    one = next(one for one in loaded.scenarios if one.name == "role-playing")
    series = loaded.items.franchises[list(one.rows)].tolist()
    assert len(set(series)) == 3


def test_platforms_of_one_product_are_picked_once() -> None:
    places = _first(range(6), [None] * 6, ["a", "a", "b", "b", "c", "d"])
    assert places == (0, 2, 4)
    assert product("Dragon Saga 2 - Kestrel 2") == product("Dragon Saga 2 (Hexagon)")
    assert product("Dragon Saga 2: Return") != product("Dragon Saga 3: Return")


def test_an_item_of_several_categories_is_in_each() -> None:
    html = cards.tile(Item("1", "Zelt", "tent|winter", 3.0), ["winter", "tent"])
    assert "tent, winter" in html
