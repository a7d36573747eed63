"""Validation rules for interactions."""

from dataclasses import replace
from typing import Final, NamedTuple

import polars as pl

from twotower.data import columns
from twotower.data.events import EventRules, amount_expr
from twotower.data.ids import Vocabulary
from twotower.data.readers import Check, Chunk, ReadOptions, set_aside
from twotower.data.readers.values import RAW_TIME

UNKNOWN_ITEM: Final = "not in the catalogue"
UNKNOWN_REASON: Final = f"{columns.ITEM_ID}: {UNKNOWN_ITEM}"


class Rules(NamedTuple):
    """Rules that the rows of a log are checked against."""

    now: int
    """Milliseconds since 1970; later times are in the future."""
    options: ReadOptions
    """Rating scale, minimum rating, and event kinds to keep."""
    kinds: EventRules | None = None
    """Declared rules of the event kinds, or None."""


def validate_log(chunk: Chunk, rules: Rules, catalogue: Vocabulary | None = None) -> Chunk:
    """Reject unusable interactions; times become int64 milliseconds.

    ``chunk`` is the result of `readers.values.typed`. Interactions with items that ``catalogue``
    lacks are rejected.
    """
    present = set(chunk.rows.columns)
    checks = []
    if columns.RATING in present:
        checks += _rating_checks(rules.options)
    if columns.EVENT in present and rules.options.events is not None:
        kept = pl.col(columns.EVENT).is_in(rules.options.events).fill_null(False)
        checks.append(Check(columns.EVENT, "not one of those kept", ~kept))
    checks += _amount_checks(present)
    if rules.kinds is not None:
        checks += _kind_checks(present, rules.kinds)
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
    return _weighed(checked, rules.kinds)


def _weighed(chunk: Chunk, kinds: EventRules | None) -> Chunk:
    """The chunk with the kind code and weight of each row, if there are any."""
    present = frozenset(chunk.rows.columns)
    amount = amount_expr(present, kinds)
    if kinds is not None:
        names = {name: code for code, name in enumerate(kinds.kinds)}
        kind = kinds.kind_expr(present)
        code = kind.replace_strict(names, default=None, return_dtype=pl.UInt8)
        own = kind.replace_strict(kinds.weights, default=None, return_dtype=pl.Float64)
        away = (own < 0) | (amount < 0)
        weight = pl.when(away).then(-(own * amount).abs()).otherwise((own * amount).abs())
        rows = chunk.rows.with_columns(code.alias(columns.KIND), weight.alias(columns.WEIGHT))
    elif {columns.QUANTITY, columns.WEIGHT} & present:
        rows = chunk.rows.with_columns(amount.alias(columns.WEIGHT))
    else:
        return chunk
    return replace(chunk, rows=rows.drop({columns.QUANTITY, columns.EVENT} & present))


def _amount_checks(present: set[str]) -> list[Check]:
    """Checks of quantities and weights; a missing one is 1."""
    checks = []
    for name in (columns.QUANTITY, columns.WEIGHT):
        if name in present:
            amount = pl.col(name)
            checks.append(Check(name, "not finite", ~amount.is_finite()))
            checks.append(Check(name, "zero", amount == 0))
    return checks


def _kind_checks(present: set[str], kinds: EventRules) -> list[Check]:
    kind = kinds.kind_expr(frozenset(present))
    by_rating = bool(kinds.from_rating) and columns.RATING in present
    shown = columns.EVENT if columns.EVENT in present else columns.RATING
    checks = []
    if by_rating:
        least = min((kinds.from_rating or {}).values())
        checks.append(Check(columns.RATING, "of no kind", pl.col(columns.RATING) < least))
    checks.append(Check(columns.EVENT, "missing", kind.is_null(), shown))
    checks.append(Check(columns.EVENT, "without a weight", ~kind.is_in(kinds.kinds), shown))
    return checks


def _rating_checks(options: ReadOptions) -> list[Check]:
    rating = pl.col(columns.RATING)
    # Ratings are kept as float32, so values beyond its range count as infinite too.
    infinite = rating.cast(pl.Float32, strict=False).is_infinite()
    checks = [Check(columns.RATING, "infinite", infinite)]
    if options.rating_scale is not None:
        outside = ~rating.is_between(*options.rating_scale)
        checks.append(Check(columns.RATING, "out of range", outside))
    if options.min_rating is not None:
        checks.append(Check(columns.RATING, "below the least", rating < options.min_rating))
    return checks


def _number_checks(name: str, shown: str | None = None) -> list[Check]:
    return [
        Check(name, "missing", pl.col(name).is_null(), shown),
        Check(name, "NaN", pl.col(name).is_nan(), shown),
    ]
