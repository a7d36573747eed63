"""`Declaration`: description of a data set, from ``dataset.toml``, Python or the command line."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from twotower.config import Config, refusal
from twotower.data.events import EventRules
from twotower.data.readers.mapping import ColumnMapping
from twotower.data.readers.options import ReadOptions
from twotower.data.schema import Schema
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError

DECLARATION_FILE: Final = "dataset.toml"
"""File name of a declaration, in the data folder or beside the log."""

Model = TypeVar("Model", bound=BaseModel)


class Declaration(Config):
    """Description of a data set; values left out are detected from the files.

    Attributes
    ----------
    name
        Name of the data set.
    format
        A published format by its name (``as`` in the file, ``--as`` on the command line).
    log
        Files of the log: paths or patterns, relative to the folder. Several are one log.
    catalogue
        The catalogue file; ``log`` if log columns describe the items, ``none`` for none.
    users
        The users table.
    columns
        Column names.
    declared
        Further columns of items, users and events, and their kinds: the tables ``[schema.items]``,
        ``[schema.users]`` and ``[schema.events]`` of the file.
    events
        Weights of the event kinds, and which kinds to predict.
    read, read_catalogue, read_users
        How the files are read.
    prepare
        What to keep and how to split.
    """

    model_config = ConfigDict(populate_by_name=True)

    name: str | None = None
    format: str | None = Field(default=None, alias="as")
    log: tuple[str, ...] | None = None
    catalogue: str | None = None
    users: str | None = None
    columns: ColumnMapping = ColumnMapping()
    declared: Schema = Field(default=Schema(), alias="schema")
    events: EventRules | None = None
    read: ReadOptions = ReadOptions()
    read_catalogue: ReadOptions | None = None
    read_users: ReadOptions | None = None
    prepare: PrepareSettings = PrepareSettings()

    @field_validator("log", mode="before")
    @classmethod
    def _one_or_many(cls, log: Any) -> Any:
        return (log,) if isinstance(log, str) else log

    @property
    def catalogue_options(self) -> ReadOptions:
        """How the catalogue is read: with its own options, else like the log."""
        return self.read.for_catalogue() if self.read_catalogue is None else self.read_catalogue

    def overridden_by(self, over: Self) -> Self:
        """The declaration with every value that ``over`` sets in place of its own."""
        merged = {name: getattr(self, name) for name in self.model_fields_set}
        for name in over.model_fields_set:
            own, other = getattr(self, name), getattr(over, name)
            both = isinstance(own, BaseModel) and isinstance(other, BaseModel)
            merged[name] = overlaid(own, other) if both else other
        return type(self)(**merged)

    def to_toml(self) -> str:
        """As ``dataset.toml``."""
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        tables = {name: value for name, value in values.items() if isinstance(value, dict)}
        lines = [_line(name, value) for name, value in values.items() if name not in tables]
        declared = tables.pop("schema", {})
        tables |= {f"schema.{side}": _short(columns) for side, columns in declared.items()}
        for name, table in tables.items():
            entries = [_line(key, value) for key, value in table.items() if value is not None]
            if entries:
                lines += ["", f"[{name}]", *entries]
        return "\n".join(line for line in lines if line is not None).strip() + "\n"


def overlaid(under: Model, over: Model) -> Model:
    """``under``, with every field that ``over`` sets taken from it."""
    fields = {
        name: getattr(model, name)
        for model in (under, over)
        for name in sorted(model.model_fields_set)
    }
    return type(under)(**fields)


def read_declaration(path: Path) -> Declaration:
    """Read a ``dataset.toml``.

    Raises
    ------
    InputError
        If it is not TOML, or has an unknown key (the known ones are listed) or a bad value.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})", "correct it") from error
    return declared(values, str(path))


def declared(values: Mapping[str, Any], where: str) -> Declaration:
    """A declaration from plain values; ``where`` names their origin in messages."""
    try:
        return Declaration.model_validate(dict(values))
    except ValidationError as error:
        raise refusal(error, Declaration, where) from None


def _line(name: str, value: Any) -> str | None:
    return None if value is None else f"{_key(name)} = {_toml(value)}"


def _key(name: str) -> str:
    """A TOML key, quoted if necessary."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _short(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns with only a kind in short form, such as ``genre = "category"``."""
    return {
        name: column["kind"] if set(column) == {"kind"} else column
        for name, column in columns.items()
    }


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(element) for element in value)}]"
    if isinstance(value, dict):
        inner = ", ".join(
            _line(key, element) or "" for key, element in value.items() if element is not None
        )
        return f"{{ {inner} }}"
    marks = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(marks.get(mark, mark) for mark in str(value)) + '"'
