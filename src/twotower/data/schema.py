"""`Schema`: declared columns of items, users and events, and their kinds."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from twotower.errors import InputError

Kind: TypeAlias = Literal[
    "number", "category", "list", "text", "flag", "date", "embedding", "image"
]
Side: TypeAlias = Literal["items", "users", "events"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
CONTEXT_KINDS: Final = ("number", "category", "flag")
"""Kinds of columns of events."""


class Column(BaseModel):
    """One declared column; ``"category"`` is short for ``{"kind": "category"}``.

    Attributes
    ----------
    kind
        ``number``, ``category``, ``list`` (of categories), ``text``, ``flag`` (true or false),
        ``date``, ``embedding`` (a vector of your own) or ``image`` (path or URL).
    feature
        Whether the towers read it. A column that they do not read can still be filtered by.
    stock
        Of a flag of items: an item for which it is false is not recommended.
    separator
        Between the parts of a ``list`` that is written as text; by default ``|``, ``;`` or ``,``,
        whichever occurs. A JSON list needs none.
    file, ids
        Of an ``embedding`` that is no column: a ``.npy`` file ``(n, d)`` and a text file with the
        ``n`` ids, one a line; relative to the folder of the data.
    encoder
        Of a ``text``: the encoder, ``minilm`` or ``hashing``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    feature: bool = True
    stock: bool = False
    separator: str | None = Field(None, min_length=1)
    file: str | None = None
    ids: str | None = None
    encoder: Literal["minilm", "hashing"] = "minilm"

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        for option, kind in _OPTIONS.items():
            if option in self.model_fields_set and self.kind != kind:
                raise ValueError(f"{option} is an option of the kind {kind}, not of {self.kind}")
        if (self.file is None) != (self.ids is None):
            raise ValueError("file and ids go together: give both or neither")
        return self


_OPTIONS: Final = {
    "stock": "flag", "separator": "list", "file": "embedding", "ids": "embedding",
    "encoder": "text",
}  # fmt: skip


class Schema(BaseModel):
    """Declared columns by name: the tables ``[schema.items]``, ``[schema.users]`` and
    ``[schema.events]`` of a file.

    Examples
    --------
    >>> schema = Schema(items={"brand": "category"}, events={"device": "category"})
    >>> schema.events["device"].kind
    'category'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: dict[str, Column] = {}
    """Columns of the catalogue."""
    users: dict[str, Column] = {}
    """Columns of the table of users."""
    events: dict[str, Column] = {}
    """Columns of the log: the context of an event that is known when a request is made, such as
    device, country or hour. Numbers, categories and flags."""

    def __bool__(self) -> bool:
        return bool(self.items or self.users or self.events)

    @model_validator(mode="after")
    def _context_is_of_few_kinds(self) -> Self:
        for name, column in self.events.items():
            if column.kind not in CONTEXT_KINDS or column.stock:
                what = "stock" if column.stock else f"a {column.kind}"
                raise ValueError(
                    f"events.{name} is {what}; a column of events must be a number, a category "
                    "or a flag"
                )
        return self

    def to_json(self) -> str:
        """As JSON; without columns of events as it was before there were any: fingerprints stay."""
        return self.model_dump_json(exclude=None if self.events else {"events"})

    @property
    def stock(self) -> tuple[str, ...]:
        """Flags of items that say whether an item can be had."""
        return tuple(name for name, column in self.items.items() if column.stock)

    @property
    def has_features(self) -> bool:
        """Whether there is any column that the towers can read."""
        return any(self.features(side) for side in get_args(Side))

    def without(self, side: Side, name: str) -> Self:
        """The same with one column that is no feature any more."""
        columns = dict(getattr(self, side))
        columns[name] = columns[name].model_copy(update={"feature": False})
        return self.model_copy(update={side: columns})

    def features(self, side: Side) -> dict[str, Column]:
        """Columns of a side that the towers can read; an image's path is only shown."""
        return {
            name: column
            for name, column in getattr(self, side).items()
            if column.feature and column.kind != "image"
        }


def unknown_column(name: str, where: object, present: Sequence[str]) -> InputError:
    """The error about a declared column that there is not."""
    shown = ", ".join(map(repr, present[:20])) or "no columns"
    return InputError(f"{where} has no column {name!r} that the schema declares, it has {shown}",
                      "correct the schema")  # fmt: skip


def value_of_request(name: str, value: Any, column: Column) -> Any:
    """A JSON value of a request, checked: a scalar, or a list for ``list`` and ``embedding``.

    Raises
    ------
    InputError
        Where it is of another kind than declared.
    """
    if value is None:
        return None
    if "\0" in str(value):
        raise InputError(f"{name} holds a NUL", "leave it out")
    kinds: dict[str, Any] = {
        "number": (int, float), "flag": bool, "date": (int, float, str), "list": list,
        "embedding": list,
    }  # fmt: skip
    wanted = kinds.get(column.kind, str)
    is_wrong = not isinstance(value, wanted) or (wanted is not bool and isinstance(value, bool))
    if column.kind == "list" and not is_wrong:
        is_wrong = not all(isinstance(part, str) for part in value)
    if column.kind == "embedding" and not is_wrong:
        is_wrong = not all(isinstance(part, int | float) and np.isfinite(part) for part in value)
    if not is_wrong and column.kind in ("number", "date") and not isinstance(value, str):
        is_wrong = not abs(value) <= _LARGEST[column.kind]  # nor is NaN
    if is_wrong:
        raise InputError(
            f"{name} is a {column.kind}, got {value!r}", f"send {_EXAMPLES[column.kind]}"
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
        At a name that is not declared, or a value of another kind.
    """
    for name in values:
        if name not in columns:
            known = ", ".join(map(repr, columns)) or "none"
            raise InputError(f"unknown field {name!r}", f"declared columns of {side}: {known}")
    return {name: value_of_request(name, value, columns[name]) for name, value in values.items()}


def known_values(
    values: Mapping[str, Any], columns: Mapping[str, Column], side: Side
) -> dict[str, Any]:
    """Those of some values that are declared and of their column's kind, see `checked`."""
    known: dict[str, Any] = {}
    for name, value in values.items():
        with suppress(InputError):
            known |= checked({name: value}, columns, side)
    return known


def values_of_texts(texts: Sequence[str], columns: Mapping[str, Column]) -> dict[str, Any]:
    """Values in texts such as ``device=phone``, by the kinds of the columns; to be `checked`.

    Raises
    ------
    InputError
        At a text of another form.

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
        elif kind == "number":
            with suppress(ValueError):
                value = float(text)
        values[name] = value
    return values


def rows_of_requests(
    described: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]
) -> pl.DataFrame:
    """Checked values of requests as a typed table; null for what a request leaves out."""
    data = {
        name: pl.Series(name, [row.get(name) for row in described], dtype=DTYPES[column.kind])
        for name, column in columns.items()
    }
    return pl.DataFrame(data, schema={name: values.dtype for name, values in data.items()})


DTYPES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "number": pl.Float64,
        "category": pl.String,
        "list": pl.List(pl.String),
        "text": pl.String,
        "flag": pl.Boolean,
        "date": pl.Int64,
        "embedding": pl.List(pl.Float32),
        "image": pl.String,
    }
)
"""Kind → type of its values. A date is in milliseconds since 1970-01-01 UTC."""

_LARGEST: Final = {"number": sys.float_info.max, "date": 2**63 - 1}
_EXAMPLES: Final = {
    "number": "a number such as 12.5", "category": 'a text such as "red"',
    "list": 'a list of texts such as ["red", "sale"]', "text": "a text", "flag": "true or false",
    "date": "a date such as 2025-01-31, or milliseconds since 1970",
    "embedding": "a list of numbers", "image": "a path or URL",
}  # fmt: skip
