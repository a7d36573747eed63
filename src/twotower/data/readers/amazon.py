"""Amazon Reviews 2023 catalogue rows: as published, from Hugging Face, or as Parquet."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from twotower.data import columns
from twotower.data.readers.mapping import Columns

ASIN_COLUMNS: Final = ("parent_asin", "asin")
"""Lower-case names of item columns that hold Amazon product numbers (ASINs)."""

META_KEYS: Final[Mapping[str, str]] = {
    columns.ITEM_ID: "parent_asin", columns.TITLE: "title", columns.DESCRIPTION: "description",
    columns.PRICE: "price", columns.CATEGORY: "categories",
    columns.AVERAGE_RATING: "average_rating", columns.RATING_COUNT: "rating_number",
    columns.IMAGE: "images", columns.FEATURES: "features", columns.STORE: "store",
}  # fmt: skip
"""Canonical catalogue column → Amazon's key."""
MAIN_CATEGORY: Final = "main_category"


def amazon_columns(found: Columns) -> Columns:
    """Amazon's own catalogue columns, plus any others found in the file."""
    amazon_keys = {*META_KEYS.values(), MAIN_CATEGORY}
    others = {name: key for name, key in found.canonical.items() if key not in amazon_keys}
    return Columns({**META_KEYS, **others}, [*found.present], also=(MAIN_CATEGORY,))


def meta_reader(keys: Mapping[str, str]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    """Return a function that extracts the values of ``keys`` from a product; see `meta_row`."""
    others = [column for column, key in keys.items() if META_KEYS.get(column) != key]
    if not others:
        return meta_row
    names = list(keys)

    def take(row: dict[str, Any]) -> tuple[Any, ...]:
        values = dict(zip(META_KEYS, meta_row(row), strict=True))
        values.update((column, row.get(keys[column])) for column in others)
        return tuple(values[name] for name in names)

    return take


def meta_row(row: dict[str, Any]) -> tuple[Any, ...]:
    """The canonical catalogue values of one product, in the order of `META_KEYS`.

    The category is the second entry of ``categories`` (the first is the same for the whole file),
    else ``main_category``. The description is the paragraphs of ``description``, else the bullet
    points of ``features``, which also have their own column. The image is the main image in its
    largest size.
    """
    return (
        row.get("parent_asin"),
        row.get("title"),
        paragraphs(row.get("description")) or paragraphs(row.get("features")),
        row.get("price"),
        _category(row),
        row.get("average_rating"),
        row.get("rating_number"),
        _image(row.get("images")),
        paragraphs(row.get("features")),
        row.get("store"),
    )


def listing_numbers(ids: pl.Series) -> pl.Series:
    """Listing order on Amazon: the serial number in an ASIN (float64); null for other ids.

    Amazon assigns ASINs roughly in listing order: ``B`` and nine characters that count up in
    base 36. The float64 number is exact, is known before the first purchase, and is the only
    trace of time in a file without dates. A parent created later than its variants has the later
    number. Other ids, such as the ISBNs of books, have none.

    Examples
    --------
    >>> listing_numbers(pl.Series(["B00000000Z", "B000000010", "0375869026"])).to_list()
    [35.0, 36.0, None]
    """
    digits = ids.str.extract("^B([0-9A-Z]{9})$")
    return digits.str.to_integer(base=36, strict=False).cast(pl.Float64)


def paragraphs(value: Any) -> str | None:
    """The strings of a list joined by newlines, or a single string; None if there is none."""
    if isinstance(value, list):
        return "\n".join(part for part in value if isinstance(part, str)) or None
    return value if isinstance(value, str) else None


def _category(row: dict[str, Any]) -> str | None:
    levels = row.get("categories")
    if isinstance(levels, list) and len(levels) > 1 and isinstance(levels[1], str):
        return levels[1]
    main = row.get("main_category")
    return main if isinstance(main, str) else None


def _image(value: Any) -> str | None:
    if isinstance(value, dict):  # Hugging Face stores one list per size
        sizes = {size: links for size, links in value.items() if isinstance(links, list)}
        most = max(map(len, sizes.values()), default=0)
        value = [
            {size: links[place] for size, links in sizes.items() if place < len(links)}
            for place in range(most)
        ]
    listed = value if isinstance(value, list) else []
    images = [image for image in listed if isinstance(image, dict)]
    images.sort(key=lambda image: image.get("variant") != "MAIN")
    links = (image.get(size) for image in images for size in ("hi_res", "large", "thumb"))
    return next((link for link in links if isinstance(link, str) and link), None)
