"""Options that several commands share, and how their results are written."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from twotower.data.atomic import atomic_file
from twotower.errors import InputError

if TYPE_CHECKING:
    from twotower.data.readers import ColumnMapping, ReadOptions
    from twotower.data.settings import PrepareSettings
    from twotower.evaluation.results import Row

console = Console()

DataFolder: TypeAlias = Annotated[
    Path, typer.Option("--data", help="A folder that 'prepare' wrote.")
]
JsonFile: TypeAlias = Annotated[
    Path | None, typer.Option("--json", help="Also write the result here, for machines.")
]
TextEncoderName: TypeAlias = Annotated[
    str, typer.Option("--text-encoder", help="minilm (extra 'text') or hashing.")
]
Track: TypeAlias = Annotated[
    bool, typer.Option("--track", help="Also write the models to MLflow (extra 'track').")
]
IndexKind: TypeAlias = Annotated[
    Literal[
        "auto", "exact", "flat", "hnsw", "hnsw-float16", "ivf", "ivf-float16", "ivf-int8", "pq"
    ],
    typer.Option("--kind", help="Kind of index; auto measures them and takes the fastest."),
]
KCore: TypeAlias = Annotated[
    int | None, typer.Option("--k-core", help="Least interactions of a user and an item.")
]
Column: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--column", help="A column's name, such as user=customer or time=when."),
]
Separator: TypeAlias = Annotated[
    str | None,
    typer.Option("--separator", help="Between fields: ';', '::', tab, whitespace …"),
]
ColumnNames: TypeAlias = Annotated[
    str | None,
    typer.Option("--columns", help="Names of all columns, of a file without a header: a,b,c."),
]
Header: TypeAlias = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether the first line holds the names."),
]
Encoding: TypeAlias = Annotated[
    str | None, typer.Option("--encoding", help="Of text files, such as latin-1.")
]
Quote: TypeAlias = Annotated[
    str | None, typer.Option("--quote", help="The quote mark; none where quotes are text.")
]
Escape: TypeAlias = Annotated[
    str | None, typer.Option("--escape", help="The mark before a quote that is text.")
]
DecimalComma: TypeAlias = Annotated[
    bool | None,
    typer.Option("--decimal-comma/--decimal-point", help="Whether 1,5 is one and a half."),
]
TimeFormat: TypeAlias = Annotated[
    str | None, typer.Option("--time-format", help="As of strptime: '%d.%m.%Y %H:%M'.")
]
TimeUnitName: TypeAlias = Annotated[
    Literal["d", "h", "min", "s", "ms", "us", "ns"] | None,
    typer.Option("--time-unit", help="Of times that are numbers since 1970."),
]
TimeZone: TypeAlias = Annotated[
    str | None, typer.Option("--time-zone", help="Of times that do not say it. Default: UTC.")
]
RatingScale: TypeAlias = Annotated[
    str | None,
    typer.Option("--rating-scale", help="Lowest and highest rating: 1,10. Default: any."),
]
MinRating: TypeAlias = Annotated[
    float | None, typer.Option("--min-rating", help="Leave out interactions rated lower.")
]
EventKinds: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--event", help="Kind of events to keep; may be given again. Default: all."),
]
Ignore: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--ignore", help="A column that is not to be read; may be given again."),
]
Missing: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--missing", help="A text that is no id and no rating, in place of NA and such."),
]
Compression: TypeAlias = Annotated[
    Literal["none", "gzip", "bz2", "zstd", "xz", "zip"] | None,
    typer.Option("--compression", help="Default: as the first bytes of the file say."),
]
FileFormat: TypeAlias = Annotated[
    Literal["csv", "json", "parquet"] | None,
    typer.Option("--format", help="csv is any text table, json lines or an array."),
]


def read_options(**said: Any) -> "ReadOptions":
    """How files are read, from options of the command line; None is not said.

    Parameters
    ----------
    said
        Fields of `ReadOptions`; ``names`` and ``rating_scale`` as texts with commas.
    """
    from twotower.data.readers import ReadOptions

    given = {name: value for name, value in said.items() if value not in (None, [])}
    if "names" in given:
        given["names"] = [name.strip() for name in given["names"].split(",")]
    if "rating_scale" in given:
        given["rating_scale"] = given["rating_scale"].split(",")
    options: ReadOptions = validated(ReadOptions, given)
    return options


def column_mapping(options: Sequence[str] | None) -> "ColumnMapping | None":
    """Names of columns, from options such as ``user=customer``."""
    from twotower.data.readers import ColumnMapping

    if not options:
        return None
    pairs: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise InputError(
                f"--column must be name=column, got {option!r}", "such as user=customer"
            )
        if name not in ColumnMapping.model_fields:
            raise InputError(
                f"--column {option}: there is no column {name!r}",
                f"name one of {', '.join(ColumnMapping.model_fields)}",
            )
        if name in pairs:
            raise InputError(f"--column {name} is given twice: {pairs[name]} and {value}")
        pairs[name] = value
    mapping: ColumnMapping = validated(ColumnMapping, pairs)
    return mapping


def changed_settings(settings: "PrepareSettings", **changes: object) -> "PrepareSettings":
    """The settings with what the user asked for; None leaves a value as it is."""
    wanted = {name: value for name, value in changes.items() if value is not None}
    changed: PrepareSettings = validated(type(settings), {**settings.model_dump(), **wanted})
    return changed


def validated(kind: type[BaseModel], values: dict[str, Any]) -> Any:
    """Build settings from options; an `InputError` names the option that does not fit."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{name}: {first['msg']}, got {first['input']!r}") from None


def write_json(path: Path | None, value: object) -> None:
    """Write a command's result, where ``--json`` asked for it."""
    if path is not None:
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(value, indent=2, default=str) + "\n")


def write_rows(path: Path | None, rows: Sequence["Row"], started: datetime) -> None:
    """Write a results file, where ``--json`` asked for it."""
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.results import write_results

    if path is not None:
        write_results(path, collect_meta(started), rows)
