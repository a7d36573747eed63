"""Canonical column names of logs and catalogues."""

import re
import unicodedata
from typing import Final

_ACCENT: Final = re.compile(r"[\u0300-\u036f]")

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
RATING: Final = "rating"
TIMESTAMP: Final = "timestamp"
"""Milliseconds since 1970-01-01 UTC, int64."""
TIME_PARTS: Final = ("time part 2", "time part 3", "time part 4")
"""Further columns of a time in several columns (date, time of day), until they are joined."""
ORDER: Final = "order"
"""Position within the user's history, for logs with an order but no time."""
EVENT: Final = "event"
"""Kind of an interaction, such as a view or a purchase; read if kinds are used."""
QUANTITY: Final = "quantity"
"""Number of units; negative for a return."""
WEIGHT: Final = "weight"
"""Weight of an event, multiplied by that of its kind; negative for a return."""
KIND: Final = "kind"
"""Code of an event's kind: its index in `EventRules.kinds`."""
CONTEXT: Final = "context"
"""Row of an event's declared columns in the context table."""
UTC_OFFSET: Final = "UTC offset"
"""UTC offset written with an event's time, in minutes east; read if columns derive from the
time."""
TIME_ZONE: Final = "time zone"
"""Time zone of the time column."""
LINE: Final = "line"
"""The line (1-based) or row of the source file, kept for the rejects file."""

TITLE: Final = "title"
DESCRIPTION: Final = "description"
PRICE: Final = "price"
CATEGORY: Final = "category"
AVERAGE_RATING: Final = "average_rating"
RATING_COUNT: Final = "rating_count"
IMAGE: Final = "image"
"""URL or path of the main image."""

CATALOGUE: Final = (
    ITEM_ID, TITLE, DESCRIPTION, PRICE, CATEGORY, AVERAGE_RATING, RATING_COUNT, IMAGE,
)  # fmt: skip
"""Catalogue columns, in this order; all but the id may be entirely null."""

FEATURES: Final = "features"
"""Bullet points about the item, one per line."""
STORE: Final = "store"
"""Brand or seller."""
CATALOGUE_EXTRA: Final = (FEATURES, STORE)
"""Optional text columns: a catalogue has them only if its source does."""
RELEASED: Final = "released"
"""Release time of the item, float64: a number that grows with time, in the unit of the source.
Optional, like `CATALOGUE_EXTRA`."""


_CONTEXT: Final = "context "


def of_context(name: str) -> str:
    """The canonical name of a declared context column of a log."""
    return _CONTEXT + name


def is_context(canonical: str) -> bool:
    """Whether this is the canonical name of a declared context column."""
    return canonical.startswith(_CONTEXT)


def folded(name: str) -> str:
    """A name without case, punctuation and accents, for comparison with common names.

    >>> folded("Customer ID"), folded("review/userId"), folded("Quantité")
    ('customerid', 'userid', 'quantite')
    """
    plain = name if name.isascii() else _ACCENT.sub("", unicodedata.normalize("NFD", name))
    return re.sub(r"[\s_.\-]|^.*/", "", plain).lower()
