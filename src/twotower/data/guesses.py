"""Column guesses for `inspect` from first values: times, events, ids, categories."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twotower.data import columns
from twotower.data.columns import folded
from twotower.data.readers.mapping import LOG_NAMES, folded_names, named_alike
from twotower.data.readers.source import LogFile

_MOST_KINDS: Final = 12
_FLAGS: Final = frozenset(("true", "false", "True", "False", "0", "1"))
_SURE: Final = 0.9
_DATE: Final = re.compile(
    r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|"
    r"([A-Z][a-z]{2},? )?([A-Z][a-z]{2} \d{1,2}|\d{1,2} [A-Z][a-z]{2})\b)"
)
_DAY: Final = re.compile(
    r"^(\d{4}([-/.]\d{1,2}){2}|(\d{1,2}[-/.]){2}\d{2}(\d{2})?|(19|20)\d{6}|"
    r"\d{1,2}\.?[ /-]?[^\W\d_]{3,}\.?[ /-]\d{4}|[^\W\d_]{3,}\.? \d{1,2}, \d{4})( 00:00(:00)?)?$"
)
_KIND_NAMES: Final = frozenset(map(folded, LOG_NAMES[columns.EVENT]))
_ACTION: Final = re.compile(
    r"view|click|visit|impression|expos|detail|bought|purchas|transact|checkout|cart|basket|wish|"
    r"favou?rit|bookmark|comment|review|listen|stream|watch|complet|download|install|search|"
    r"subscri|refund|cancel|kauf|bestell|ansicht|warenkorb|achat|panier|compra|carrito|"
    r"(?<![a-z])(open|buy|order|sale|sold|like|save|share|rat(e|ing)|play|read|skip|finish|follow|"
    r"book|add|remove|return)|^(pv|fav|uv)$",
    re.IGNORECASE,
)
"""User actions as they appear in event kinds."""
_CLOCK: Final = re.compile(r"^\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?( Uhr)?$")
"""A time of day without a date."""
_HOURS: Final = ("hour", "hours", "stunde", "hh")
_NUMBER: Final = re.compile(r"^\W{0,2}[A-Z]{0,3} ?[+-]?\d[\d.,]*\W{0,2}$")
_VECTOR: Final = re.compile(r"^\[[-+\d.eE,\s]{20,}\]?$")
_IMAGE: Final = re.compile(r"\.(jpe?g|png|webp|gif)(\?|$)", re.IGNORECASE)
_STOCK: Final = re.compile(r"stock|available|buyable", re.IGNORECASE)
_COUNTED: Final = re.compile(
    r"rating|review|vote|popular|positive|sold|sales|purchases|orders|downloads|members|subscri|"
    r"favou?rite|like|view|play|listen|click|scrobble|rank|trend|bestseller",
    re.IGNORECASE,
)
"""Names of numeric columns that count or average interactions."""
_ID: Final = re.compile(r"(^|_)(id|code|zip|sku|ean|number)(_|$)|[a-z]Id$", re.IGNORECASE)
_LABELS: Final = frozenset(
    ("label", "click", "clicked", "isclick", "isclicked", "like", "liked", "islike", "isliked",
     "purchase", "purchased", "ispurchased", "buy", "bought", "isbuy", "converted", "conversion",
     "interaction", "interacted", "target", "response", "y")
)  # fmt: skip
"""Names of label columns: 1 if an impression led to an interaction, else 0."""
_LONG: Final = 40
"""A text longer than this (characters) is more than a name."""
_EPOCH: Final = re.compile(r"^1\d{9}(\d{3}|\d{6}|\d{9})?(\.\d+)?$")


def _mostly(texts: Sequence[str], fits: Callable[[str], object]) -> bool:
    """Whether nearly all texts fit; False if there are none."""
    return bool(texts) and sum(bool(fits(text)) for text in texts) >= _SURE * len(texts)


def _is_hour(text: str) -> bool:
    return text.isdecimal() and int(text) < 24


def guessed_time(values: Mapping[str, Sequence[str]]) -> str | None:
    """The first column of dates, or of numbers that are plausible times since 1970.

    Columns named like times come first, and ids last.

    >>> sessions = ["1506825423271737"] * 3
    >>> guessed_time({"session_id": sessions, "click_timestamp": ["1506826800026"] * 3})
    'click_timestamp'
    """
    times = [
        name
        for name, texts in values.items()
        if _mostly(texts, lambda text: _DATE.match(text) or _EPOCH.match(text))
    ]
    others = sorted(times, key=lambda name: bool(_ID.search(name)))
    return named_alike(times, "time") or next(iter(others), None)


def is_clock(text: str) -> bool:
    """Whether a text is a time of day without a date."""
    return _CLOCK.match(text.strip()) is not None


def guessed_pair(
    values: Mapping[str, Sequence[str]], time: str | None = None
) -> tuple[str, str] | None:
    """The date column and the time-of-day column, if there is exactly one of each, else None.

    ``time`` is the column currently read as the time; it must be one of the two.
    """
    dates = [name for name, texts in values.items() if _mostly(texts, _DAY.match)]
    clocks = [name for name, texts in values.items() if _mostly(texts, _CLOCK.match)]
    clocks = clocks or [
        name
        for name, texts in values.items()
        if folded(name) in _HOURS and _mostly(texts, _is_hour)
    ]
    dates = [time] if time in dates else dates
    clocks = [time] if time in clocks else clocks
    if len(dates) != 1 or len(clocks) != 1:
        return None
    pair = (dates[0], clocks[0])
    return pair if time is None or time in pair else None


def parts_of_date(present: Sequence[str]) -> tuple[str, ...]:
    """Columns named year, month, day and, if present, hour; empty unless the first three exist.

    >>> parts_of_date(["user", "Year", "Month", "Day"])
    ('Year', 'Month', 'Day')
    """
    by_folded = folded_names(present)
    found = [by_folded.get(part) for part in ("year", "month", "day", "hour")]
    if None in found[:3]:
        return ()
    return tuple(name for name in found if name is not None)


def date_and_clock(log: LogFile) -> tuple[str, str] | None:
    """The date and time-of-day columns of a log that reads only one of them as its time."""
    time = log.columns.get(columns.TIMESTAMP)
    if time is None or columns.TIME_PARTS[0] in log.columns:
        return None
    return guessed_pair(log.sampled([time, *log.found.ignored]), time)


def guessed_kinds(values: Mapping[str, Sequence[str]]) -> tuple[str, list[str]] | None:
    """The first column of event kinds, and its kinds, most frequent first.

    Such a column has few distinct values, and either a common name or mostly values that are user
    actions; a device or a country is not an event kind.

    >>> guessed_kinds({"device": ["web", "app"] * 5, "what": ["view", "view", "buy"] * 3})
    ('what', ['view', 'buy'])
    """
    for name, texts in values.items():
        counts = Counter(texts)
        if not 1 < len(counts) <= _MOST_KINDS or len(texts) <= 2 * len(counts):
            continue
        actions = sum(bool(_ACTION.search(word)) for word in counts)
        if folded(name) in _KIND_NAMES or 2 * actions > len(counts):
            return name, [word for word, _ in counts.most_common()]
    return None


def likely_time(log: LogFile) -> str | None:
    """An unread log column of dates or plausible times."""
    return guessed_time(log.sampled(log.found.ignored))


def ratings_or_labels(log: LogFile) -> list[str]:
    """Log columns that may be 1/0 labels of whether an interaction took place: the rating, or
    without one the columns named like labels; none if a minimum rating is set.
    """
    if log.options.min_rating is not None:
        return []
    rating = log.columns.get(columns.RATING)
    return [rating] if rating else [name for name in log.found.ignored if folded(name) in _LABELS]


def says_yes_or_no(texts: Sequence[str]) -> bool:
    """Whether the values of a column are exactly 1 and 0.

    >>> says_yes_or_no(["1.0", "0.0", "1.0"]), says_yes_or_no(["1", "1"])
    (True, False)
    """
    return {text.removesuffix(".0") for text in texts} == {"0", "1"}


def guessed_items(values: Mapping[str, Sequence[str]], read: Mapping[str, str]) -> dict[str, str]:
    """Catalogue columns that are likely release dates or categories."""
    guesses: dict[str, str] = {}
    for name, texts in values.items():
        if not texts:
            continue
        counts = Counter(texts)
        if columns.RELEASED not in read and _mostly(texts, _DATE.match):
            guesses.setdefault("released", name)
        elif columns.CATEGORY not in read and not set(counts) <= _FLAGS:
            listed, few = texts[0].startswith("["), 1 < len(counts) <= len(texts) / 10
            if listed or few:
                guesses.setdefault("category", name)
    return guesses


def guessed_ids(values: Mapping[str, Sequence[str]], missing: Sequence[str]) -> dict[str, str]:
    """Columns that could hold the missing user and item ids: those with similar names, and the
    remaining candidates in order if there are exactly as many as are still missing.
    """
    fields = [field for field in ("user", "item") if field in missing]
    could = [name for name, texts in values.items() if texts and not any("." in x for x in texts)]
    guesses: dict[str, str] = {}
    for field in fields:
        if name := named_alike(could, field):
            guesses[field] = name
            could.remove(name)
    left = [field for field in fields if field not in guesses]
    if len(could) == len(left):
        guesses |= zip(left, could, strict=True)
    return guesses


def guessed_columns(values: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Likely declarations of a table's columns, by name; ids and the like are left out."""
    guesses = {name: _guessed_column(name, texts) for name, texts in values.items() if texts}
    return {name: guess for name, guess in guesses.items() if guess is not None}


def counts_interactions(name: str, guess: Mapping[str, Any]) -> bool:
    """Whether a guessed column likely aggregates interactions, including those to predict.

    >>> counts_interactions("vote_count", {"kind": "number"})
    True
    >>> counts_interactions("age_rating", {"kind": "category"})
    False
    """
    return guess["kind"] == "number" and _COUNTED.search(name) is not None


def _guessed_column(name: str, texts: Sequence[str]) -> dict[str, Any] | None:
    distinct, count = set(texts), len(texts)
    if len(distinct) <= 2 and distinct <= _FLAGS:
        return {"kind": "flag", "stock": True} if _STOCK.search(name) else {"kind": "flag"}
    if _mostly(texts, _DATE.match):
        return {"kind": "date"}
    if _mostly(texts, _IMAGE.search):
        return {"kind": "image"}
    if texts[0].startswith("[") or sum("|" in text for text in texts) > count / 4:
        return {"kind": "embedding" if _mostly(texts, _VECTOR.match) else "list"}
    all_differ = len(distinct) == count and count > _MOST_KINDS
    if _mostly(texts, _NUMBER.match):
        if not _ID.search(name):
            return {"kind": "number"}
        return None if all_differ else {"kind": "category"}
    if _mostly(texts, lambda text: len(text) > _LONG):
        return {"kind": "text"}
    return {"kind": "category"} if len(distinct) <= max(count / 2, _MOST_KINDS) else None
