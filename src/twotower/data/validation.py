"""What an interaction must be to be used."""

from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from twotower.data import columns
from twotower.data.readers import Check, Chunk, set_aside
from twotower.data.vocabulary import Vocabulary

SECONDS_BELOW: Final = 1e11
"""Times of a smaller magnitude are seconds, others milliseconds.

As seconds it is the year 5138; as milliseconds it is March 1973, so that a log in
milliseconds is misread only before that.
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """Bounds that values must keep.

    Attributes
    ----------
    rating_range
        Lowest and highest rating.
    now
        Milliseconds since 1970; later times are in the future.
    """

    rating_range: tuple[float, float]
    now: int


def validate_log(chunk: Chunk, rules: Rules, catalogue: Vocabulary | None = None) -> Chunk:
    """Set aside the interactions that cannot be used; times become int64 milliseconds.

    Parameters
    ----------
    chunk
        Rows of a log, ids as text and numbers as float64.
    rules
        Bounds of ratings and times.
    catalogue
        Known items; an interaction with another is set aside.
    """
    present = set(chunk.rows.columns)
    time = _milliseconds(pl.col(columns.TIMESTAMP))
    checks = id_checks(columns.USER_ID) + id_checks(columns.ITEM_ID)
    if columns.RATING in present:
        low, high = rules.rating_range
        within = pl.col(columns.RATING).is_between(low, high)
        checks += _number_checks(columns.RATING)
        checks.append(Check(columns.RATING, "out of range", ~within))
    if columns.TIMESTAMP in present:
        checks += _number_checks(columns.TIMESTAMP)
        checks.append(Check(columns.TIMESTAMP, "negative", time < 0))
        checks.append(Check(columns.TIMESTAMP, "in the future", time > rules.now))
    if columns.ORDER in present:
        checks += _number_checks(columns.ORDER)
        checks.append(Check(columns.ORDER, "infinite", pl.col(columns.ORDER).is_infinite()))
    if catalogue is not None:
        unknown = pl.Series(catalogue.find(chunk.rows[columns.ITEM_ID]) < 0)
        checks.append(Check(columns.ITEM_ID, "not in the catalogue", pl.lit(unknown)))
    checked = set_aside(chunk, checks)
    if columns.TIMESTAMP in present:
        checked = replace(checked, rows=checked.rows.with_columns(time.cast(pl.Int64)))
    return checked


def _milliseconds(time: pl.Expr) -> pl.Expr:
    return pl.when(time.abs() < SECONDS_BELOW).then(time * 1000).otherwise(time).round()


def id_checks(name: str) -> list[Check]:
    """An id is there and is not blank."""
    return [
        Check(name, "missing", pl.col(name).is_null()),
        Check(name, "empty", pl.col(name).str.strip_chars() == ""),
    ]


def _number_checks(name: str) -> list[Check]:
    return [
        Check(name, "missing", pl.col(name).is_null()),
        Check(name, "NaN", pl.col(name).is_nan()),
    ]
