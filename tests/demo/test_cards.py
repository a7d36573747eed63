import pytest

from twotower.demo import cards
from twotower.demo.loaded_bundle import Item

EVIL = "<img src=x onerror=alert(1)>\"'&"


@pytest.mark.parametrize(
    "html",
    [
        cards.tile(Item("1", EVIL, EVIL, 3.0), [EVIL], rank=1, why=EVIL, note=EVIL),
        cards.ranked_list(EVIL, EVIL, [Item("1", EVIL, None, None)], {"1": 2}, "1", {"1": EVIL}),
        cards.facts({EVIL: EVIL}),
        cards.table([EVIL], [[EVIL]], frozenset()),
        cards.hero(EVIL, EVIL),
        cards.step(1, EVIL),
        cards.lead(EVIL),
        cards.short(EVIL),
    ],
)
def test_text_from_data_is_escaped(html: str) -> None:
    assert "<img" not in html
    assert "&lt;" in html


def test_a_tile_shows_known_values_only() -> None:
    html = cards.tile(Item("1", "Dragon", None, None), [])
    assert "None" not in html
    assert "nan" not in html


def test_shared_titles_and_the_hidden_item_are_marked() -> None:
    items = [Item(str(one), f"T{one}", None, None) for one in range(3)]
    html = cards.ranked_list("Name", "note", items, {"0": 3, "2": 1}, "1", {"2": "↑ from 7"})
    assert html.count("tt-shared") == 1
    assert html.count("×3") == html.count("tt-badge") == 1
    assert html.count("came next") == 1
    assert html.count("↑ from 7") == 1


def test_an_empty_list_has_a_note() -> None:
    assert "No recommendations" in cards.ranked_list("Name", "", [], {})


def test_a_long_title_is_cut_for_charts() -> None:
    assert len(cards.short("x" * 80)) == 60
    first, second = (f"Dragon Saga: {'very ' * 20}long - {on}" for on in ("Kestrel", "Hexagon"))
    assert cards.short(first) != cards.short(second)


def test_prices_have_the_currency_that_is_known() -> None:
    assert "3.00 EUR" in cards.tile(Item("1", "Dragon", None, 3.0, None, "EUR"), [])


def test_a_cover_is_shown_where_there_is_an_image() -> None:
    html = cards.tile(Item("1", "Dragon", None, None, 'https://x/a.png?"><script>'), [])
    assert '<img src="https://x/a.png?&quot;&gt;&lt;script&gt;" alt=""' in html
