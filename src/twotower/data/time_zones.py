"""Time zones by name or fixed offset, and conversion to local wall-clock time."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from zoneinfo import available_timezones

import polars as pl

from twotower.errors import InputError

TIME_KINDS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {"hour": (0, 23), "weekday": (1, 7), "month": (1, 12)}
)
"""Kinds of columns that derive from a time, and the least and largest value of each. A week begins
with Monday, 1, as in ISO 8601."""
LARGEST_TIME: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
SECONDS_BELOW: Final = 10**11
"""`prepare` takes smaller times for seconds: in milliseconds they are before March 1973."""


def checked_milliseconds(value: int) -> int:
    """A time since 1970; `InputError` if before March 1973, when it is likely in seconds."""
    if value < SECONDS_BELOW:
        when = datetime.fromtimestamp(value / 1000, UTC)
        raise InputError(
            f"{value} is {when:%B %Y}", "send milliseconds since 1970-01-01 UTC, not seconds"
        )
    return value


def offset_minutes(zone: str) -> int | None:
    """Minutes east of UTC of a fixed offset (``+05:30``), None where a zone has a name."""
    digits = zone[1:].replace(":", "")
    if zone[:1] not in ("+", "-") or len(digits) not in (2, 4) or not digits.isdecimal():
        return None
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return -minutes if zone[0] == "-" else minutes


def offset_name(minutes: int) -> str:
    """A fixed offset as text, the inverse of `offset_minutes`.

    >>> offset_name(330), offset_name(-480)
    ('+05:30', '-08:00')
    """
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02d}:{rest:02d}"


def checked_zone(zone: str) -> str:
    """The zone; `ValueError` if it does not exist."""
    if offset_minutes(zone) is None and zone not in available_timezones():
        raise ValueError("no such time zone; pass UTC, Europe/Berlin, +05:30 …")
    return zone


@lru_cache
def known_zone(zone: str) -> str | None:
    """The zone if polars knows it by this name; None for fixed offsets and others."""
    try:
        pl.Series([0], dtype=pl.Datetime("ms", "UTC")).dt.convert_time_zone(zone)
    except pl.exceptions.PolarsError:
        return None
    return zone


def wall_clock(times: pl.Series, zone: str) -> pl.Series:
    """Local wall-clock time in a zone: int64 milliseconds since 1970 UTC to naive datetimes.

    >>> wall_clock(pl.Series([1_600_000_000_000]), "Europe/Berlin").item()
    datetime.datetime(2020, 9, 13, 14, 26, 40)
    """
    minutes = offset_minutes(zone)
    if minutes is not None:
        return (times + minutes * 60_000).cast(pl.Datetime("ms"))
    there = times.cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(zone)
    return there.dt.replace_time_zone(None)


def time_value(clock: pl.Series, kind: str) -> pl.Series:
    """Int64 values of a kind of `TIME_KINDS` at datetimes without a zone; null stays null.

    >>> clock = wall_clock(pl.Series([1_600_000_000_000, None]), "Europe/Berlin")
    >>> [time_value(clock, kind).to_list() for kind in TIME_KINDS]
    [[14, None], [7, None], [9, None]]
    """
    part = {"hour": clock.dt.hour, "weekday": clock.dt.weekday, "month": clock.dt.month}
    return part[kind]().cast(pl.Int64)


@lru_cache(4096)
def time_value_at(second: int, kind: str, zone: str) -> int:
    """`time_value` at one second since 1970; kept, since requests of a moment share it."""
    value: int = time_value(wall_clock(pl.Series([second * 1000]), zone), kind).item()
    return value
