"""Sample tables: the simulated log and catalogue under the canonical column names."""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from twotower.data import columns
from twotower.data.sample.draws import Draws
from twotower.data.sample.products import Product, make_products
from twotower.data.sample.shoppers import DAY, Purchase, make_market, simulate
from twotower.data.sample.words import (
    ACCESSORIES,
    GENRES,
    LAST_DAY,
    ODD_TITLES,
    PLATFORMS,
    SETTINGS,
)

USERS, ITEMS = 3000, 1200
SEED = 7
DAY_0_MS = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp()) * 1000


@dataclass(frozen=True)
class Sample:
    """The two tables of the bundled sample, both synthetic."""

    interactions: pl.DataFrame
    """``user_id``, ``item_id`` (strings), ``rating`` (1 to 5, float32), ``timestamp``
    (milliseconds since 1970, int64); user by user, oldest first. Purchases of one basket
    share a timestamp, and their order is the order of buying."""
    catalogue: pl.DataFrame
    """The canonical columns, then ``franchise`` (null for accessories), ``entry`` (1 for the
    first game of a franchise, 0 for accessories), ``platform`` and ``released``
    (milliseconds since 1970)."""


def generate_sample(seed: int = SEED, *, odd_titles: bool = False) -> Sample:
    """Make the sample from nothing but a seed: equal seeds give equal tables, anywhere.

    Users like one to three genres, one or two settings, one or two console families and a few
    franchises; they buy the entries of a franchise in order, follow new releases, and rate by
    the quality of the product and their taste. See ``docs/sample.md``. With ``odd_titles``, to test
    with, one title in forty is one of `ODD_TITLES`; all else is the same.
    """
    draws = Draws(seed)
    products = make_products(ITEMS, draws)
    log = simulate(make_market(products), USERS, draws)
    return Sample(_interactions(log), _catalogue(products, draws, odd_titles))


def _item_id(item: int) -> str:
    return f"G{item + 1:04d}"


def _interactions(log: list[Purchase]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            columns.USER_ID: [f"U{purchase.user + 1:04d}" for purchase in log],
            columns.ITEM_ID: [_item_id(purchase.item) for purchase in log],
            columns.RATING: pl.Series([p.rating for p in log], dtype=pl.Float32),
            columns.TIMESTAMP: [DAY_0_MS + purchase.second * 1000 for purchase in log],
        }
    )


def _catalogue(products: list[Product], draws: Draws, odd_titles: bool) -> pl.DataFrame:
    rows = []
    for item, product in enumerate(products):
        votes = product.appeal * draws.between(3, 40)
        rows.append(
            {
                columns.ITEM_ID: _item_id(item),
                columns.TITLE: _title(product, draws, odd_titles),
                columns.DESCRIPTION: None if draws.chance(40) else _description(product),
                columns.PRICE: None if draws.chance(120) else _cents(product, draws) / 100,
                columns.CATEGORY: _category(product),
                columns.AVERAGE_RATING: (22 + product.quality * 28 // 100) / 10,
                columns.RATING_COUNT: votes,
                columns.IMAGE: None if draws.chance(10) else f"covers/{_item_id(item)}.png",
                "franchise": product.franchise_name,
                "entry": product.entry,
                "platform": PLATFORMS[product.platform].name,
                "released": DAY_0_MS + product.released * DAY * 1000,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _category(product: Product) -> str:
    return "Accessories" if product.genre == ACCESSORIES else GENRES[product.genre].name


def _title(product: Product, draws: Draws, odd_titles: bool) -> str:
    # Drawn in any case, so that all that is drawn later is the same.
    odd = ODD_TITLES[draws.below(len(ODD_TITLES))] if draws.chance(25) else None
    if odd is not None and odd_titles:
        return odd.format(product.name)
    return f"{product.name} - {PLATFORMS[product.platform].name}"


def _description(product: Product) -> str:
    platform = PLATFORMS[product.platform].name
    if product.franchise_name is None:
        return f"{product.name}, made for {platform}. Easy to set up, one year of warranty."
    part = "The first game" if product.entry == 1 else f"Part {product.entry}"
    return (
        f"{part} of the {product.franchise_name} series: {_category(product).lower()} "
        f"{SETTINGS[product.setting].place}. {GENRES[product.genre].goal.capitalize()}. "
        f"For {platform}."
    )


def _cents(product: Product, draws: Draws) -> int:
    """Price in cents: newer games cost more; accessories are priced at random."""
    if product.genre == ACCESSORIES:
        return 100 * draws.between(8, 90) - 1
    age_years = (LAST_DAY - product.released) // 365
    return max(499, 6999 - 900 * age_years - 500 * draws.below(4))
