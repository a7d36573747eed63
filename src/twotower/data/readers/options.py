"""`ReadOptions`: how files are read; None means detect."""

import codecs
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, field_validator, model_validator

from twotower.config import Config
from twotower.data.time_zones import checked_zone

Format: TypeAlias = Literal["csv", "json", "parquet"]
"""``csv`` is any text table; ``json`` is JSON lines, an array or Python dicts."""

Compression: TypeAlias = Literal["none", "gzip", "bz2", "zstd", "xz", "zip"]
TimeUnit: TypeAlias = Literal["d", "h", "min", "s", "ms", "us", "ns"]

MISSING_IDS: tuple[str, ...] = (
    "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None",
    "n/a", "nan", "null", r"\N",
    "(not set)", "(null)", "<null>", "[NULL]", "[null]", "undefined",
)  # fmt: skip
"""Texts for a missing id, as written by pandas, databases and JavaScript."""

_OF_ONE_FILE = (
    "format", "compression", "separator", "header", "names", "quote", "escape", "explode", "join",
)  # fmt: skip


class ReadOptions(Config):
    r"""How the files of a log or a catalogue are read. None means detect from the file."""

    model_config = ConfigDict(allow_inf_nan=True)  # a rating scale may be unbounded

    format: Format | None = None
    """``csv`` for any text table, ``json`` for JSON lines, arrays and Python dicts, ``parquet``."""
    compression: Compression | None = None
    """``none``, ``gzip``, ``bz2``, ``zstd``, ``xz`` or ``zip``."""
    encoding: str | None = None
    """Text encoding by its Python name, such as ``latin-1`` or ``utf-16``."""
    separator: str | None = Field(default=None, min_length=1)
    r"""Field separator of a text table: one or more characters; ``\t`` is the tab, ``whitespace``
    any run of blanks."""
    header: bool | None = None
    """Whether the first line of a text table holds the column names."""
    names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Column names of a text table, in order: for a file without a header, or to replace it if
    ``header`` is True."""
    quote: str | None = None
    """Quote character of a text table; ``none`` if quotes are plain text."""
    escape: str | None = None
    r"""Character that escapes a quote, such as ``\``; ``none`` for no escape."""
    decimal_comma: bool | None = None
    """Whether ``1,5`` means 1.5."""
    time_format: str | None = None
    """``strptime`` format, such as ``%d.%m.%Y %H:%M``; ``excel`` for spreadsheet day numbers
    (45123.5 is noon of 2023-07-16)."""
    time_unit: TimeUnit | None = None
    """Unit of numeric times since 1970: ``d``, ``h``, ``min``, ``s``, ``ms``, ``us`` or ``ns``."""
    time_zone: str | None = None
    """Zone of times without one, such as ``Europe/Berlin`` or ``+05:30``. UTC by default."""
    rating_scale: tuple[float, float] | None = None
    """Lowest and highest valid rating; rows outside are rejected. By default any is valid."""
    min_rating: float | None = None
    """Rows with a lower rating are left out."""
    unrated: float | None = None
    """Rating that means "not rated", such as 0 or -1: the interaction is kept without a rating."""
    events: tuple[str, ...] | None = None
    """Event kinds to keep, for logs with an event column. All by default."""
    ignore: tuple[str, ...] = ()
    """Columns that are not read, whatever their names."""
    explode: tuple[str, ...] | None = None
    """Keys of JSON objects that hold lists, such as the items of an order: each list element
    becomes a row, with the other keys of the enclosing object. Several keys are applied in turn,
    as in ``("orders", "line_items")``; ``properties.products`` names a nested key.
    For tables: columns of lists, or of texts such as ``A12;B7``, ``A12|B7``, ``A12,B7`` or
    ``["A12", "B7"]``; each element becomes a row. Several columns are exploded in parallel. If no
    column is recognised as the item, the first of these is the item."""
    join: Mapping[str, str] | None = None
    """Other tables to join: file name → shared key column, such as ``{"orders.csv": "order_id"}``,
    or ``order_id:id`` if the file calls it ``id``. The key must be unique in the file. Joins are
    applied in order, and a later one may use a column added by an earlier one. A column whose
    name is already taken becomes ``orders.created_at``."""
    missing: tuple[str, ...] | None = None
    """Texts that mean a missing id or rating. `MISSING_IDS` by default."""

    @property
    def missing_ids(self) -> tuple[str, ...]:
        """Texts that mean a missing id."""
        return MISSING_IDS if self.missing is None else self.missing

    def for_catalogue(self) -> "ReadOptions":
        """The options that also apply to a catalogue that has none of its own."""
        return self.model_copy(update=dict.fromkeys(_OF_ONE_FILE))

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str | None) -> str | None:
        if name is None:
            return None
        try:
            codec = codecs.lookup(name)
        except (LookupError, ValueError):
            raise ValueError("no such encoding; pass utf-8, latin-1, cp1252, utf-16 …") from None
        if not codec._is_text_encoding:
            raise ValueError("is no encoding of text; pass utf-8, latin-1, cp1252, utf-16 …")
        return codec.name

    @field_validator("separator")
    @classmethod
    def _separator_by_name(cls, separator: str | None) -> str | None:
        named = {r"\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "space": " "}
        separator = named.get(separator or "", separator)
        if separator is not None and set(separator) & set('"\r\n'):
            raise ValueError("a separator has no quote and no line end")
        return separator

    @field_validator("quote", "escape")
    @classmethod
    def _is_one_character(cls, mark: str | None) -> str | None:
        if mark not in (None, "none") and (len(mark or "") != 1 or mark in "\r\n"):
            raise ValueError("must be one character, or 'none'")
        return mark

    @field_validator("join", mode="before")
    @classmethod
    def _join_as_pairs(cls, join: Any) -> Any:
        """Accept one or several ``FILE=KEY`` strings, as given on the command line."""
        if join is None or isinstance(join, Mapping):
            return join
        pairs = [text.rpartition("=")[::2] for text in ((join,) if isinstance(join, str) else join)]
        if not all(file and key for file, key in pairs):
            raise ValueError("a join is FILE=KEY, such as orders.csv=order_id")
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a file is joined once")
        return dict(pairs)

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, zone: str | None) -> str | None:
        return None if zone is None else checked_zone(zone)

    @model_validator(mode="after")
    def _values_agree(self) -> Self:
        if self.rating_scale is not None and not self.rating_scale[0] < self.rating_scale[1]:
            low, high = self.rating_scale
            raise ValueError(f"rating_scale must be lowest, highest, got {low:g}, {high:g}")
        if self.names is not None and len(set(self.names)) != len(self.names):
            raise ValueError(f"names must differ, got {', '.join(self.names)}")
        return self
