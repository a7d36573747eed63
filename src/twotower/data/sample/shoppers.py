"""Simulated shoppers of the synthetic store: their tastes and their purchases in order."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from twotower.data.sample.draws import Draws
from twotower.data.sample.products import Product
from twotower.data.sample.words import ACCESSORIES, FAMILIES, GENRES, LAST_DAY, LOG_START, SETTINGS
from twotower.types import Array, BoolArray, OffsetArray

DAY = 86_400
"""Seconds."""
MONTH = 30
"""Days, as the popularity of a product is counted."""
FEWEST, MOST = 5, 60
"""Purchases per user."""

FRESHNESS = (64, 52, 42, 34, 28, 24, 20, 17, 15, 13, 12, 11) + (9,) * 12 + (6,) * 12 + (4,)
"""Demand by months since release: a launch, a decline, and a long tail."""


class Purchase(NamedTuple):
    """One row of the log: internal numbers, ``second`` counted from day 0."""

    user: int
    item: int
    rating: int
    second: int


@dataclass(frozen=True, slots=True)
class Market:
    """The products as arrays, and the demand for them in each month."""

    demand: OffsetArray
    """``(months, items)`` int64: appeal times freshness, 0 before the release."""
    sequel: OffsetArray
    """``(items,)`` int64: the next entry on the same console family, -1 where there is none."""
    first: BoolArray
    """``(items,)`` bool: can be bought without owning an earlier entry."""
    genre: OffsetArray
    setting: OffsetArray
    family: OffsetArray
    franchise: OffsetArray
    quality: OffsetArray
    """``(items,)`` int64, as in `Product`."""


def make_market(products: list[Product]) -> Market:
    """Arrays of the products, and their demand month by month."""

    def column(name: str) -> OffsetArray:
        return np.array([getattr(product, name) for product in products], dtype=np.int64)

    months = np.arange(LAST_DAY // MONTH + 1)[:, None]
    # A month in which a product appears counts only from the next, so that no shopper is early.
    age = months - (-(-column("released") // MONTH))[None, :]
    freshness = np.array((0, *FRESHNESS), dtype=np.int64)
    place = {
        (product.franchise, product.family, product.entry): item
        for item, product in enumerate(products)
        if product.entry
    }
    return Market(
        demand=column("appeal") * freshness[np.clip(age + 1, 0, len(FRESHNESS))],
        sequel=np.array(
            [place.get((p.franchise, p.family, p.entry + 1), -1) for p in products], dtype=np.int64
        ),
        first=column("entry") <= 1,
        **{name: column(name) for name in ("genre", "setting", "family", "franchise", "quality")},
    )


def simulate(market: Market, users: int, draws: Draws) -> list[Purchase]:
    """Purchases of ``users`` shoppers, user by user, in order of time."""
    numbers = np.arange(FEWEST, MOST + 1, dtype=np.int64)
    number_weights = 1_000_000 // numbers**2
    log: list[Purchase] = []
    for user in range(users):
        count = int(numbers[draws.pick(number_weights)])
        log.extend(_shop(user, _times(count, draws), market, draws))
    return log


def _times(count: int, draws: Draws) -> list[int]:
    """Seconds of ``count`` purchases, ascending; some share a basket and so a timestamp."""
    start = draws.between(LOG_START, LAST_DAY - 4 * count - 20)
    span = min(LAST_DAY - start, count * draws.between(8, 60) + 10)
    seconds = np.sort(draws.many_below(span * DAY, count)) + start * DAY
    times = [int(seconds[0])]
    for second in seconds[1:]:
        times.append(times[-1] if draws.chance(50) else int(second))
    return times


def _taste(market: Market, draws: Draws) -> tuple[OffsetArray, BoolArray]:
    """What one user likes: weight of every item, and whether the item's genre is a favourite.

    One to three genres, one or two settings, one or two console families, and one to three
    franchises among the items that these leave.
    """
    genres = np.ones(len(GENRES) + 1, dtype=np.int64)
    liked = draws.shuffled(len(GENRES))[: 1 + draws.pick(np.array([4, 4, 2]))]
    genres[liked] = np.array([12, 8, 5])[: len(liked)]
    genres[ACCESSORIES] = 2
    settings = np.ones(len(SETTINGS) + 1, dtype=np.int64)
    settings[draws.shuffled(len(SETTINGS))[: 1 + draws.below(2)]] = 6
    settings[-1] = 2  # accessories, whose setting is -1
    families = np.zeros(FAMILIES, dtype=np.int64)
    families[draws.shuffled(FAMILIES)[: 1 + draws.below(2)]] = 1
    taste = genres[market.genre] * settings[market.setting] * families[market.family]
    favourites = [market.franchise[draws.pick(taste)] for _ in range(1 + draws.below(3))]
    taste[np.isin(market.franchise, favourites) & (market.franchise >= 0)] *= 3
    return taste, np.isin(market.genre, liked)


def _shop(user: int, times: list[int], market: Market, draws: Draws) -> list[Purchase]:
    """Purchases of a user: sequels only after the earlier entry, nothing before its release."""
    taste, liked = _taste(market, draws)
    open_to = market.first.copy()  # not owned, and every earlier entry is
    waiting: list[int] = []  # sequels of owned games, the latest purchase last
    log: list[Purchase] = []
    for second in times:
        demand = market.demand[second // DAY // MONTH]
        if len(log) >= 8 and draws.chance(10):  # the same again: a gift, a lost disc
            item = log[draws.below(len(log))].item
        else:
            item = _choose(taste, demand, open_to, waiting, log, market, draws)
            open_to[item] = False
            waiting = [sequel for sequel in waiting if sequel != item]
            sequel = int(market.sequel[item])
            if sequel >= 0:
                open_to[sequel] = True
                waiting.append(sequel)
        log.append(Purchase(user, item, _rating(item, liked, market, draws), second))
    return log


def _choose(
    taste: OffsetArray,
    demand: OffsetArray,
    open_to: BoolArray,
    waiting: list[int],
    log: list[Purchase],
    market: Market,
    draws: Draws,
) -> int:
    """The next item: a sequel (30%, where available), by demand (15% of the rest), or by taste."""
    out = [sequel for sequel in waiting if demand[sequel]]
    if out and draws.chance(300):
        return out[draws.pick(np.arange(1, len(out) + 1) ** 2)]
    if draws.chance(150):
        return draws.pick(demand * open_to)
    weights: Array = taste * demand * open_to
    if log:  # shoppers stay with a genre for a while
        weights[market.genre == market.genre[log[-1].item]] *= 3
    return draws.pick(weights)


def _rating(item: int, liked: BoolArray, market: Market, draws: Draws) -> int:
    """1 to 5: the product's quality, the user's taste, luck, and sometimes a broken parcel."""
    points = int(market.quality[item]) + draws.below(80) + (15 if liked[item] else 0)
    if draws.chance(70):
        points -= 75
    return 1 + sum(points >= step for step in (30, 50, 72, 100))
