from twotower.demo.opened import Opened


def test_scenarios_come_from_the_catalogue(opened: Opened) -> None:
    found = {one.name: one for one in opened.scenarios}
    assert set(found) == {"Dragon Saga", "Racing Saga", "role-playing", "sport"}
    assert {one.kind for one in opened.scenarios} == {"series", "category"}


def test_a_scenario_holds_the_most_bought_of_its_kind(opened: Opened) -> None:
    one = next(one for one in opened.scenarios if one.name == "Racing Saga")
    rows = [
        row for row in range(len(opened.items))
        if (opened.items.titles.rows[row] or "").startswith("Racing Saga")
    ]  # fmt: skip
    best = sorted(rows, key=lambda row: (-opened.counts[row], row))[:3]
    assert list(one.rows) == best


def test_a_category_offers_different_series(opened: Opened) -> None:
    one = next(one for one in opened.scenarios if one.name == "role-playing")
    series = opened.items.franchises[list(one.rows)].tolist()
    assert len(set(series)) == 3
