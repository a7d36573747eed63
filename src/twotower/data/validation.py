"""Validation rules of interactions."""

from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from twotower.data import columns
from twotower.data.readers import Check, Chunk, set_aside
from twotower.data.readers.values import RAW_TIME
from twotower.data.vocabulary import Vocabulary

UNKNOWN_ITEM: Final = "not in the catalogue"
UNKNOWN_REASON: Final = f"{columns.ITEM_ID}: {UNKNOWN_ITEM}"


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds of values.

    Attributes
    ----------
    now
        Milliseconds since 1970; later times are in the future.
    rating_scale
        Lowest and highest rating, or None where any number will do.
    min_rating
        Interactions of a lower rating are left out.
    events
        Kinds of events that are kept, or None for all.
    """

    now: int
    rating_scale: tuple[float, float] | None = None
    min_rating: float | None = None
    events: tuple[str, ...] | None = None


def validate_log(chunk: Chunk, rules: Rules, catalogue: Vocabulary | None = None) -> Chunk:
    """Reject the interactions that cannot be used; times become int64 milliseconds.

    Parameters
    ----------
    chunk
        Rows of a log as `readers.values.typed` leaves them: times in milliseconds.
    rules
        Bounds of ratings and times.
    catalogue
        Known items; an interaction with any other is rejected.
    """
    present = set(chunk.rows.columns)
    checks = []
    if columns.RATING in present:
        checks += _rating_checks(rules)
    if columns.EVENT in present and rules.events is not None:
        kept = pl.col(columns.EVENT).is_in(rules.events).fill_null(False)
        checks.append(Check(columns.EVENT, "not one of those kept", ~kept))
    if columns.TIMESTAMP in present:
        time = pl.col(columns.TIMESTAMP)
        checks += _number_checks(columns.TIMESTAMP, RAW_TIME)
        checks.append(Check(columns.TIMESTAMP, "negative", time < 0, RAW_TIME))
        checks.append(Check(columns.TIMESTAMP, "in the future", time > rules.now, RAW_TIME))
    if columns.ORDER in present:
        checks += _number_checks(columns.ORDER)
        checks.append(Check(columns.ORDER, "infinite", pl.col(columns.ORDER).is_infinite()))
    if catalogue is not None:
        unknown = pl.Series(catalogue.find(chunk.rows[columns.ITEM_ID]) < 0)
        checks.append(Check(columns.ITEM_ID, UNKNOWN_ITEM, pl.lit(unknown)))
    checked = set_aside(chunk, checks)
    if columns.TIMESTAMP in present:
        time = pl.col(columns.TIMESTAMP).round().cast(pl.Int64)
        checked = replace(checked, rows=checked.rows.drop(RAW_TIME).with_columns(time))
    return checked


def _rating_checks(rules: Rules) -> list[Check]:
    rating = pl.col(columns.RATING)
    # Ratings are kept as float32: what is above it is infinite too.
    infinite = rating.cast(pl.Float32, strict=False).is_infinite()
    checks = [Check(columns.RATING, "infinite", infinite)]
    if rules.rating_scale is not None:
        checks.append(
            Check(columns.RATING, "out of range", ~rating.is_between(*rules.rating_scale))
        )
    if rules.min_rating is not None:
        checks.append(Check(columns.RATING, "below the least", rating < rules.min_rating))
    return checks


def id_checks(name: str) -> list[Check]:
    """Checks that an id is present and not blank."""
    return [
        Check(name, "missing", pl.col(name).is_null()),
        Check(name, "empty", pl.col(name).str.strip_chars() == ""),
    ]


def _number_checks(name: str, shown: str | None = None) -> list[Check]:
    return [
        Check(name, "missing", pl.col(name).is_null(), shown),
        Check(name, "NaN", pl.col(name).is_nan(), shown),
    ]
