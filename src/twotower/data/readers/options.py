"""`ReadOptions`: how files are read; what is None is detected."""

import codecs
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, field_validator, model_validator

from twotower.config import Config
from twotower.data.time_zones import checked_zone

Format: TypeAlias = Literal["csv", "json", "parquet"]
"""``csv`` is any text table, ``json`` lines, an array or Python dicts."""

Compression: TypeAlias = Literal["none", "gzip", "bz2", "zstd", "xz", "zip"]
TimeUnit: TypeAlias = Literal["d", "h", "min", "s", "ms", "us", "ns"]

MISSING_IDS: tuple[str, ...] = (
    "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None",
    "n/a", "nan", "null", r"\N",
    "(not set)", "(null)", "<null>", "[NULL]", "[null]", "undefined",
)  # fmt: skip
"""Texts that mean a missing id: those of pandas, of databases and of JavaScript."""

_OF_ONE_FILE = (
    "format", "compression", "separator", "header", "names", "quote", "escape", "explode", "join",
)  # fmt: skip


class ReadOptions(Config):
    r"""How the files of a log or a catalogue are read. What is None is found in the file."""

    model_config = ConfigDict(allow_inf_nan=True)  # a scale may be open

    format: Format | None = None
    """``csv`` for any text table, ``json`` for JSON lines, arrays and Python dicts, ``parquet``."""
    compression: Compression | None = None
    """``none``, ``gzip``, ``bz2``, ``zstd``, ``xz`` or ``zip``."""
    encoding: str | None = None
    """Of text: a name that Python knows, such as ``latin-1`` or ``utf-16``."""
    separator: str | None = Field(default=None, min_length=1)
    r"""Of a text table: one or more characters; ``\t`` is the tab, ``whitespace`` any blanks."""
    header: bool | None = None
    """Whether the first line of a text table holds the names."""
    names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of a text table's columns, in order: for a file without a header, or in place of it
    where ``header`` is True."""
    quote: str | None = None
    """The quote mark of a text table; ``none`` where quotes are text."""
    escape: str | None = None
    r"""The character before a quote that is text, such as ``\``; ``none`` where there is none."""
    decimal_comma: bool | None = None
    """Whether ``1,5`` is one and a half."""
    time_format: str | None = None
    """As of ``strptime``: ``%d.%m.%Y %H:%M``; ``excel`` for day numbers of a spreadsheet
    (45123.5 is noon of 2023-07-16)."""
    time_unit: TimeUnit | None = None
    """Of times that are numbers since 1970: ``d``, ``h``, ``min``, ``s``, ``ms``, ``us``,
    ``ns``."""
    time_zone: str | None = None
    """Of times without one, such as ``Europe/Berlin`` or ``+05:30``. UTC by default."""
    rating_scale: tuple[float, float] | None = None
    """Lowest and highest rating; rows with another are rejected. By default any number will do."""
    min_rating: float | None = None
    """Rows with a lower rating are left out."""
    unrated: float | None = None
    """The rating that means none, such as 0 or -1: the interaction is kept without a rating."""
    events: tuple[str, ...] | None = None
    """Kinds of events that are kept, where a log has a column of them. By default all are."""
    ignore: tuple[str, ...] = ()
    """Columns of the files that are not read, whatever their names."""
    explode: tuple[str, ...] | None = None
    """Keys of JSON objects that hold lists, such as the items of an order: each object of the
    list becomes a row, with the other keys of the object that it is in. Several are applied
    one after the other: ``("orders", "line_items")``; ``properties.products`` is within.
    Of a table columns of lists, or of texts such as ``A12;B7``, ``A12|B7``, ``A12,B7`` or
    ``["A12", "B7"]``: each element becomes a row. Several go side by side. Where no column is
    recognised as the item, the first of these is."""
    join: Mapping[str, str] | None = None
    """Other tables whose columns each row gets: a file's name and the column that both have, such
    as ``{"orders.csv": "order_id"}``, or ``order_id:id`` where the file calls it ``id``. The key
    is unique there. They are joined in order, so that a later one may go by a column that an
    earlier one brings. A column of a name that is there already becomes ``orders.created_at``."""
    missing: tuple[str, ...] | None = None
    """Texts that mean a missing id or rating. By default those of `MISSING_IDS`."""

    @property
    def missing_ids(self) -> tuple[str, ...]:
        """Texts that mean a missing id."""
        return MISSING_IDS if self.missing is None else self.missing

    def for_catalogue(self) -> "ReadOptions":
        """Options that also apply to a catalogue without its own."""
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
        """``FILE=KEY``, or several, as a command line has them."""
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
