import polars as pl
import pytest

from twotower.features import item_texts
from twotower.features.item_text import MAX_CHARACTERS


def one(**fields: str | None) -> pl.DataFrame:
    return pl.DataFrame({name: [value] for name, value in fields.items()})


FULL = one(
    title="Kart  8",
    description="Race.\nDrift.",
    category="Racing",
    features="Loud\nFast",
    store="Acme",
    price="9.99",
)


def test_the_title_is_taken_as_it_is() -> None:
    assert item_texts(FULL) == ["Kart  8"]
    assert item_texts(one(title=None)) == [""]


def test_an_item_without_a_title_is_described_by_its_other_fields() -> None:
    assert item_texts(FULL, "title-or-rich") == ["Kart  8"]
    for title in (None, " "):
        rows = one(title=title, category="Racing", store="Acme")
        assert item_texts(rows, "title-or-rich") == ["Acme. Racing"]
    assert item_texts(FULL.drop("title"), "title-or-rich")[0].startswith("Acme. Racing")
    assert item_texts(one(title=None), "title-or-rich") == [""]


def test_rich_text_is_every_field_in_words() -> None:
    assert item_texts(FULL, "rich") == ["Kart 8. Acme. Racing. Loud Fast. Race. Drift"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (one(title="Kart", category="Racing"), "Kart. Racing"),
        (one(title="Kart"), "Kart"),
        (one(title=None, category="Racing"), "Racing"),
        (one(title=" ", description=None), ""),
        (one(title="Kart.", description="Kart."), "Kart."),
        (one(title="Kart  8.", category=None), "Kart  8."),
        (one(title="Kart", features="Loud\nFast", description="Loud\nFast"), "Kart. Loud Fast"),
    ],
)
def test_what_is_missing_or_repeated_is_left_out(row: pl.DataFrame, text: str) -> None:
    assert item_texts(row, "rich") == [text]


def test_rich_text_is_cut_at_its_end() -> None:
    (text,) = item_texts(one(title="Kart", description="very " * 5000), "rich")
    assert len(text) == MAX_CHARACTERS
    assert text.startswith("Kart. very very")


def test_ratings_and_counts_are_no_text() -> None:
    """They are a snapshot that may hold the ratings to be predicted."""
    row = FULL.with_columns(average_rating=pl.lit(4.5), rating_count=pl.lit(12), price=pl.lit(3.0))
    assert item_texts(row, "rich") == item_texts(FULL, "rich")
