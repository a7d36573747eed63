"""Validation of written ids, times and ratings by the rules of `prepare`, so no row is lost."""

import time
from datetime import datetime
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from twotower.data.readers.options import MISSING_IDS
from twotower.data.time_zones import checked_milliseconds
from twotower.inference.requests import checked_time, time_of_text
from twotower.service.state.records import Id

USUAL_RATINGS: Final = (0.0, 5.0)
"""Ratings accepted whatever the training log holds."""
USUAL_KINDS: Final = ("view", "cart", "buy", "rating")
"""Event kinds if the training log declares none."""
_ROUTES: Final = ("/similar", "/availability")
_CLOCKS_MS: Final = 60_000
"""Tolerated clock difference between sender and service."""


def _kept_id(value: str) -> str:
    if value != value.strip():
        what = "is blank" if not value.strip() else f"begins or ends with a blank: {value!r}"
        raise ValueError(f"an id {what}")
    if value in MISSING_IDS:
        raise ValueError(f"{value!r} stands for a missing value, and cannot be an id")
    if value in (".", ".."):
        raise ValueError(f"{value!r} cannot be an id: in an address it is another folder")
    return value


def check_reachable(item_id: str) -> str:
    """The id; `ValueError` if no URL could address the item."""
    for ending in _ROUTES:
        if item_id.endswith(ending):
            raise ValueError(f"an id must not end in {ending!r}, which means another request")
    return item_id


def _kept_time(value: int) -> int:
    checked_milliseconds(value)
    now = time.time_ns() // 1_000_000
    if value > now + _CLOCKS_MS:
        raise ValueError(
            f"{value} is in the future, now is {now}; send milliseconds since 1970-01-01 UTC"
        )
    return value


def _number(value: object) -> object:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise ValueError("Input should be a number")


WrittenId: TypeAlias = Annotated[Id, AfterValidator(_kept_id)]
"""A user or item id that `prepare` keeps unchanged."""
NewItemId: TypeAlias = Annotated[WrittenId, AfterValidator(check_reachable)]
"""The same for an item, which every request must be able to name."""
RequestTime: TypeAlias = Annotated[int | datetime, BeforeValidator(checked_time)]
"""Milliseconds since 1970-01-01 UTC, or ISO 8601 with an offset: ``2025-01-31T18:30:00+01:00``."""
AddressedTime: TypeAlias = Annotated[int | datetime, BeforeValidator(time_of_text)]
"""The same in a URL, where numbers are text."""
Time: TypeAlias = Annotated[int, AfterValidator(_kept_time)]
"""Milliseconds since 1970-01-01 UTC, neither too early for `prepare` nor in the future."""
NUMBER: Final = BeforeValidator(_number)
"""Rejects booleans and text."""


def rating_scale(log: tuple[float, float]) -> tuple[float, float]:
    """Lowest and highest rating if none was declared: the usual range, widened by the log's."""
    return min(USUAL_RATINGS[0], log[0]), max(USUAL_RATINGS[1], log[1])
