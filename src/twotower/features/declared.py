"""Feature declarations: names in column order, required source, formula."""

from dataclasses import dataclass
from typing import Final

NUM_CATEGORIES: Final = 8
"""Category columns: the seven most frequent categories of the catalogue, and all others."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a feature matrix."""

    name: str
    """Column name."""
    needs: str
    """The part of the source without which the column is constant."""
    doc: str
    """Formula in one line."""
    indicator: bool = False
    """True where the column is 0 or 1 and is not standardised."""


_EVENTS: Final = "training interactions"
_RATINGS: Final = "ratings"
_TIMES: Final = "timestamps"
_PRICES: Final = "prices"
_CATEGORIES: Final = "categories"

ITEM_FEATURES: Final = (
    Feature("log_price", _PRICES, "log(1 + price)"),
    Feature("price_missing", _PRICES, "1 where the price is unknown", indicator=True),
    Feature("average_rating", _RATINGS, "mean rating in train, else the catalogue's average"),
    Feature("log_rating_count", _RATINGS, "log(1 + ratings in train), else the catalogue's count"),
    Feature("log_popularity", _EVENTS, "log(1 + events in train)"),
    Feature("age", _TIMES, "log(1 + days from the first event to the end of training)"),
    Feature("recent_share", _TIMES, "share of the item's events in the newest tenth of train"),
    *(
        Feature(f"category_{rank}", _CATEGORIES, f"1 in category number {rank} by frequency", True)
        for rank in range(1, NUM_CATEGORIES)
    ),
    Feature("category_other", _CATEGORIES, "1 in any other category or in none", True),
)
"""The 15 item features."""

LAUNCH_FEATURES: Final = tuple(
    column
    for column, feature in enumerate(ITEM_FEATURES)
    if feature.needs in (_PRICES, _CATEGORIES)
)
"""Columns of `ITEM_FEATURES` that are known before the first purchase of an item."""

USER_FEATURES: Final = (
    Feature("log_activity", _EVENTS, "log(1 + events)"),
    Feature("mean_rating", _RATINGS, "mean rating given"),
    Feature("rating_spread", _RATINGS, "population standard deviation of the ratings given"),
    Feature("recency", _TIMES, "log(1 + days from the last event to the end of training)"),
    Feature("tenure", _TIMES, "log(1 + days from the first event to the last)"),
    Feature("mean_log_price", _PRICES, "mean log(1 + price) over events with a known price"),
    Feature("mean_log_popularity", _EVENTS, "mean log(1 + events in train) over known items"),
    Feature("category_entropy", _CATEGORIES, "entropy of the 8 category shares, in nats"),
)
"""The 8 user features."""
