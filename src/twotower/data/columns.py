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
"""Further columns of a time in several, until they are joined: a date, and a time of day."""
ORDER: Final = "order"
"""A position within the user's history, for logs that have an order and no time."""
EVENT: Final = "event"
"""Kind of an interaction, such as a view or a purchase; read where kinds are chosen."""
QUANTITY: Final = "quantity"
"""How many; negative for a return."""
WEIGHT: Final = "weight"
"""What an event is worth, beside its kind; negative where it takes away."""
KIND: Final = "kind"
"""Code of an event's kind: its place in `EventRules.kinds`."""
CONTEXT: Final = "context"
"""Row of an event's declared columns in the table of contexts."""
UTC_OFFSET: Final = "UTC offset"
"""Minutes east of UTC that the time of an event has of its own; read where columns derive from the
time."""
TIME_ZONE: Final = "time zone"
"""The zone that a column of times has, beside it."""
LINE: Final = "line"
"""The line (1-based) or row of the source file, kept for the rejects file."""

TITLE: Final = "title"
DESCRIPTION: Final = "description"
PRICE: Final = "price"
CATEGORY: Final = "category"
AVERAGE_RATING: Final = "average_rating"
RATING_COUNT: Final = "rating_count"
IMAGE: Final = "image"
"""URL or path of the main picture."""

CATALOGUE: Final = (
    ITEM_ID, TITLE, DESCRIPTION, PRICE, CATEGORY, AVERAGE_RATING, RATING_COUNT, IMAGE,
)  # fmt: skip
"""Columns of a catalogue, in this order; all but the id may be null throughout."""

FEATURES: Final = "features"
"""Bullet points about the item, one a line."""
STORE: Final = "store"
"""Brand or seller."""
CATALOGUE_EXTRA: Final = (FEATURES, STORE)
"""Columns that a catalogue has only where its source has them; they are text."""
RELEASED: Final = "released"
"""When the item came out, float64: a number that grows with time, in whatever unit the source
has. As of `CATALOGUE_EXTRA`, a catalogue has it only where its source does."""


_CONTEXT: Final = "context "


def of_context(name: str) -> str:
    """The canonical name of a declared column of a log."""
    return _CONTEXT + name


def is_context(canonical: str) -> bool:
    """Whether that is the canonical name of a declared column."""
    return canonical.startswith(_CONTEXT)


def folded(name: str) -> str:
    """A name without case, marks and accents, as usual names are compared.

    >>> folded("Customer ID"), folded("review/userId"), folded("Quantité")
    ('customerid', 'userid', 'quantite')
    """
    plain = name if name.isascii() else _ACCENT.sub("", unicodedata.normalize("NFD", name))
    return re.sub(r"[\s_.\-]|^.*/", "", plain).lower()
