"""`Schema`: declared columns of items, users and events, and their kinds."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np
import polars as pl
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from twotower.config import Config
from twotower.data.time_zones import TIME_KINDS, checked_zone
from twotower.errors import InputError

Kind: TypeAlias = Literal[
    "number", "category", "list", "text", "flag", "date", "embedding", "image",
    "hour", "weekday", "month",
]  # fmt: skip
Side: TypeAlias = Literal["items", "users", "events"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)
KINDS: Final[tuple[str, ...]] = tuple(kind for kind in get_args(Kind) if kind not in TIME_KINDS)
"""Kinds of columns of items and users."""
CONTEXT_KINDS: Final = ("number", "category", "flag", *TIME_KINDS)
"""Kinds of columns of events."""
OWN: Final = "own"
"""A `Column.time_zone`: use the UTC offset written with each time."""


class Column(Config):
    """One declared column; ``"category"`` is short for ``{"kind": "category"}``."""

    kind: Kind
    """``number``, ``category``, ``list`` (of categories), ``text``, ``flag`` (true or false),
    ``date``, ``embedding`` (your own vector) or ``image`` (path or URL). For events also ``hour``
    (0 to 23), ``weekday`` (1, Monday, to 7) and ``month`` (1 to 12), derived from the event time
    if the log has no such column."""
    feature: bool = True
    """Whether the towers read it. Other columns can still be used as filters."""
    stock: bool = False
    """For a flag of items: items for which it is false are not recommended."""
    separator: str | None = Field(None, min_length=1)
    """Between the parts of a ``list`` that is written as text; by default ``|``, ``;`` or ``,``,
    whichever occurs. A JSON list needs none."""
    file: str | None = None
    ids: str | None = None
    """Of an ``embedding`` that is no column: a ``.npy`` file ``(n, d)`` and a text file with the
    ``n`` ids, one a line; relative to the folder of the data."""
    encoder: Literal["minilm", "hashing"] = "minilm"
    """Of a ``text``: the encoder, ``minilm`` or ``hashing``."""
    time_zone: str | None = None
    """For an ``hour``, ``weekday`` or ``month``: the zone, such as ``Europe/Berlin`` or
    ``+05:30``; ``own`` for the offset written with each time in the log. Default: ``own`` if times
    have offsets, else the zone the log is read with, else UTC; a data set records which."""

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, zone: str | None) -> str | None:
        return zone if zone in (None, OWN) else checked_zone(zone)

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        for option, kinds in _OPTIONS.items():
            if option in self.model_fields_set and self.kind not in kinds:
                *others, last = kinds
                named = f"kinds {', '.join(others)} and {last}" if others else f"kind {last}"
                raise ValueError(f"{option} is an option of the {named}, not of {self.kind}")
        if (self.file is None) != (self.ids is None):
            raise ValueError("file and ids go together: give both or neither")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_zone(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an unset zone, so that fingerprints from before time zones stay valid."""
        found: dict[str, Any] = dump(self)
        if self.time_zone is None:
            found.pop("time_zone", None)
        return found

    @property
    def is_of_time(self) -> bool:
        """Whether it can be derived from the time of an event or request."""
        return self.kind in TIME_KINDS


_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "stock": ("flag",), "separator": ("list",), "file": ("embedding",), "ids": ("embedding",),
    "encoder": ("text",), "time_zone": tuple(TIME_KINDS),
}  # fmt: skip


class Schema(Config):
    """Declared columns by name: the tables ``[schema.items]``, ``[schema.users]`` and
    ``[schema.events]`` of a file.

    Examples
    --------
    >>> schema = Schema(items={"brand": "category"}, events={"device": "category"})
    >>> schema.events["device"].kind
    'category'
    """

    items: dict[str, Column] = Field(default_factory=dict)
    """Columns of the catalogue."""
    users: dict[str, Column] = Field(default_factory=dict)
    """Columns of the users table."""
    events: dict[str, Column] = Field(default_factory=dict)
    """Context columns of the log, known at request time, such as device, country or hour:
    numbers, categories, flags, and kinds derived from the time."""

    def __bool__(self) -> bool:
        return bool(self.items or self.users or self.events)

    @model_validator(mode="after")
    def _context_is_of_few_kinds(self) -> Self:
        for name, column in self.events.items():
            if column.kind not in CONTEXT_KINDS or column.stock:
                what = "stock" if column.stock else with_article(column.kind)
                raise ValueError(
                    f"events.{name} is {what}; a column of events must be a number, a category, "
                    "a flag, or an hour, weekday or month"
                )
        for side, columns in (("items", self.items), ("users", self.users)):
            for name, column in columns.items():
                if column.is_of_time:
                    raise ValueError(
                        f"{side}.{name} is {with_article(column.kind)}, which only an event has; "
                        "declare it under events, or as a number or a date"
                    )
        return self

    def to_json(self) -> str:
        """As JSON; empty ``events`` are left out, so that older fingerprints stay valid."""
        return self.model_dump_json(exclude=None if self.events else {"events"})

    @property
    def time_columns(self) -> dict[str, Column]:
        """Columns of events that derive from the time."""
        return {name: column for name, column in self.events.items() if column.is_of_time}

    @property
    def stock(self) -> tuple[str, ...]:
        """Item flags that mark items as available."""
        return tuple(name for name, column in self.items.items() if column.stock)

    @property
    def has_features(self) -> bool:
        """Whether there is any column that the towers can read."""
        return any(self.features(side) for side in SIDES)

    def in_zones(self, zones: Mapping[str, str]) -> Self:
        """A copy with time zones set for some event columns."""
        if not zones:
            return self
        events = {
            name: self.events[name].model_copy(update={"time_zone": zone})
            for name, zone in zones.items()
        }
        return self.model_copy(update={"events": self.events | events})

    def without(self, side: Side, name: str) -> Self:
        """A copy in which one column is no longer a feature."""
        columns = dict(getattr(self, side))
        columns[name] = columns[name].model_copy(update={"feature": False})
        return self.model_copy(update={side: columns})

    def features(self, side: Side) -> dict[str, Column]:
        """Feature columns of a side; image paths are only for display."""
        return {
            name: column
            for name, column in getattr(self, side).items()
            if column.feature and column.kind != "image"
        }


def with_article(kind: str) -> str:
    """A kind with its article.

    >>> with_article("number"), with_article("hour")
    ('a number', 'an hour')
    """
    return f"{'an' if kind[0] in 'aeio' or kind == 'hour' else 'a'} {kind}"


def unknown_column(name: str, where: object, present: Sequence[str]) -> InputError:
    """The error about a declared column that does not exist."""
    shown = ", ".join(map(repr, present[:20])) or "no columns"
    return InputError(f"{where} has no column {name!r} that the schema declares, it has {shown}",
                      "correct the schema")  # fmt: skip


def value_of_request(name: str, value: Any, column: Column) -> Any:
    """A JSON value of a request, checked: a scalar, or a list for ``list`` and ``embedding``.

    Raises
    ------
    InputError
        If it is not of the declared kind.
    """
    if value is None:
        return None
    if "\0" in str(value):
        raise InputError(f"{name} holds a NUL", "leave it out")
    kinds: dict[str, Any] = {
        "number": (int, float), "flag": bool, "date": (int, float, str), "list": list,
        "embedding": list, **dict.fromkeys(TIME_KINDS, int),
    }  # fmt: skip
    wanted = kinds.get(column.kind, str)
    is_wrong = not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool))
    if column.kind == "list" and not is_wrong:
        is_wrong = not all(isinstance(part, str) for part in value)
    if column.kind == "embedding" and not is_wrong:
        is_wrong = not all(isinstance(part, int | float) and np.isfinite(part) for part in value)
    if not is_wrong and column.kind in ("number", "date") and not isinstance(value, str):
        is_wrong = not abs(value) <= _LARGEST[column.kind]  # nor is NaN
    if column.is_of_time and not is_wrong:
        low, high = TIME_KINDS[column.kind]
        is_wrong = not low <= value <= high
    if is_wrong:
        raise InputError(
            f"{name} is {with_article(column.kind)}, got {value!r}",
            f"send {_EXAMPLES[column.kind]}",
        )
    if column.kind != "date" or not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        fix = f"send {_EXAMPLES['date']}"
        raise InputError(f"{name} is a date, got {value!r}", fix) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def checked(values: Mapping[str, Any], columns: Mapping[str, Column], side: Side) -> dict[str, Any]:
    """Values of a request by column, see `value_of_request`.

    Raises
    ------
    InputError
        If a name is not declared, or a value is of another kind.
    """
    for name in values:
        if name not in columns:
            known = ", ".join(map(repr, columns)) or "none"
            raise InputError(f"unknown field {name!r}", f"declared columns of {side}: {known}")
    return {name: value_of_request(name, value, columns[name]) for name, value in values.items()}


def known_values(
    values: Mapping[str, Any], columns: Mapping[str, Column], side: Side
) -> dict[str, Any]:
    """The values that are declared and of their column's kind; see `checked`."""
    known: dict[str, Any] = {}
    for name, value in values.items():
        with suppress(InputError):
            known |= checked({name: value}, columns, side)
    return known


def values_of_texts(texts: Sequence[str], columns: Mapping[str, Column]) -> dict[str, Any]:
    """Parse texts such as ``device=phone`` by the kinds of the columns; still to be `checked`.

    Raises
    ------
    InputError
        If a text is not of this form.

    Examples
    --------
    >>> columns = {"hour": Column(kind="number"), "is_app": Column(kind="flag")}
    >>> values_of_texts(["hour=18", "is_app=true"], columns)
    {'hour': 18.0, 'is_app': True}
    """
    values: dict[str, Any] = {}
    for each in texts:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise InputError(f"a context is given as NAME=VALUE, got {each!r}", "as device=phone")
        if name in values:
            raise InputError(f"{name} is given twice: {texts}", "give each column once")
        kind = columns[name].kind if name in columns else "category"
        value: Any = text
        if kind == "flag":
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif kind == "number" or kind in TIME_KINDS:
            with suppress(ValueError):
                value = float(text) if kind == "number" else int(text)
        values[name] = value
    return values


def rows_of_requests(
    described: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]
) -> pl.DataFrame:
    """Checked request values as a typed table; null for values a request leaves out."""
    data = {
        name: pl.Series(name, [row.get(name) for row in described], dtype=DTYPES[column.kind])
        for name, column in columns.items()
    }
    return pl.DataFrame(data, schema={name: values.dtype for name, values in data.items()})


DTYPES: Final[Mapping[str, Any]] = {
    "number": pl.Float64, "category": pl.String, "list": pl.List(pl.String), "text": pl.String,
    "flag": pl.Boolean, "date": pl.Int64, "embedding": pl.List(pl.Float32), "image": pl.String,
    **dict.fromkeys(TIME_KINDS, pl.Int64),
}  # fmt: skip
"""Kind → type of its values. A date is in milliseconds since 1970-01-01 UTC."""

_LARGEST: Final = {"number": sys.float_info.max, "date": 2**63 - 1}
_EXAMPLES: Final = {
    "number": "a number such as 12.5", "category": 'a text such as "red"',
    "list": 'a list of texts such as ["red", "sale"]', "text": "a text", "flag": "true or false",
    "date": "a date such as 2025-01-31, or milliseconds since 1970",
    "embedding": "a list of numbers", "image": "a path or URL",
    "hour": "a whole number from 0 to 23", "weekday": "a whole number from 1 (Monday) to 7",
    "month": "a whole number from 1 to 12",
}  # fmt: skip
