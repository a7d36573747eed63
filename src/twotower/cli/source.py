"""Shared data set options of commands, in the words of ``dataset.toml``."""

import inspect
from collections.abc import Callable, Collection, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import typer

from twotower.cli.options import with_parameters
from twotower.errors import InputError

if TYPE_CHECKING:
    from twotower.data.declaration import Declaration

Sources: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        help="A folder, a file or its dataset.toml, several files or a pattern of one log, as "
        "paths or URLs; a prepared data set; or a name: sample, video-games, official, ml-100k, "
        "gowalla.",
        show_default=False,
    ),
]
_file = partial(typer.Option, rich_help_panel="Files of the data set")
_read = partial(typer.Option, rich_help_panel="How files are read")
_kept = partial(typer.Option, rich_help_panel="Filtering and split")
_kind = partial(typer.Option, rich_help_panel="Kinds of events")
_KINDS_WORDS: Final = ("half_life", "quantity_power", "learn")
_SPLIT_WORDS: Final = ("validation", "test", "seed", "folds", "fold")
_KEPT_WORDS: Final = ("keep_repeats", "keep_unknown_items", "strict")
_READ_WORDS: Final = (
    "compression", "encoding", "separator", "header", "quote", "escape", "decimal_comma",
    "time_format", "time_unit", "time_zone", "min_rating", "unrated",
)  # fmt: skip


def _words(
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", hidden=True, help="Another way to say SOURCE.")
    ] = None,
    format: Annotated[
        str | None,
        _file("--as", help="A published format, such as movielens-1m; 'inspect' lists them."),
    ] = None,
    catalogue: Annotated[
        str | None,
        _file(
            "--catalogue",
            help="The catalogue, if not beside the log; 'log' where columns of the log describe "
            "the items, 'none' for none.",
        ),
    ] = None,
    users: Annotated[str | None, _file("--users", help="A table of users.")] = None,
    join: Annotated[
        list[str] | None,
        _file(
            "--join",
            help="A table whose columns each row of the log gets, and the key of both, such as "
            "orders.csv=order_id; customers.csv=customer_id:id where it is called id there. May be "
            "repeated, in order.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        _file(
            "--column",
            help="A column's name, such as user=customer or time=when; time=date,clock where "
            "they are two. May be repeated.",
        ),
    ] = None,
    split: Annotated[
        Literal["leave-last-two", "global-time", "rolling", "file-order", "random", "given"] | None,
        _kept(
            "--split",
            help="Default: the split of the files, else leave-last-two. A log without times is "
            "split by 'random' or 'file-order'.",
        ),
    ] = None,
    validation: Annotated[
        float | None,
        _kept(
            "--validation", help="Share for validation: of random, global-time, rolling and given."
        ),
    ] = None,
    test: Annotated[
        float | None,
        _kept("--test", help="Share for test: of random, global-time and each fold of rolling."),
    ] = None,
    folds: Annotated[int | None, _kept("--folds", help="Windows of rolling. Default: 3.")] = None,
    fold: Annotated[
        int | None,
        _kept("--fold", help="The window to hold out, 1 is the oldest. Default: the newest."),
    ] = None,
    seed: Annotated[int | None, _kept("--split-seed", help="Which interactions are drawn.")] = None,
    k_core: Annotated[
        int | None, _kept("--k-core", help="Least interactions of a user and an item.")
    ] = None,
    keep_repeats: Annotated[
        bool, _kept("--keep-repeats", help="Keep repeats of a user and an item.")
    ] = False,
    keep_unknown_items: Annotated[
        bool,
        _kept(
            "--keep-unknown-items", help="Keep interactions with items that the catalogue lacks."
        ),
    ] = False,
    strict: Annotated[bool, _kept("--strict", help="Stop at the first bad row.")] = False,
    events: Annotated[
        list[str] | None,
        _kept(
            "--event", help="A kind of event to keep, such as buy; may be repeated. Default: all."
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        _kind(
            "--weight",
            help="What an event of a kind is worth: view=0.2 or return=-1; may be repeated.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        _kind("--target", help="A kind to predict, such as buy; may be repeated. Default: all."),
    ] = None,
    seen: Annotated[
        list[str] | None,
        _kind(
            "--seen",
            help="A kind after which an item is not recommended again; may be repeated. "
            "Default: all.",
        ),
    ] = None,
    from_rating: Annotated[
        list[str] | None,
        _kind("--from-rating", help="The least rating of a kind, such as like=4; may be repeated."),
    ] = None,
    half_life: Annotated[
        float | None, _kind("--half-life", help="Days after which an event is worth half.")
    ] = None,
    quantity_power: Annotated[
        float | None,
        _kind(
            "--quantity-power",
            help="Power of the quantity that an event's weight is multiplied by.",
        ),
    ] = None,
    learn: Annotated[
        Literal["target", "all"] | None,
        _kind("--learn", help="Predict target kinds in training, or all kinds by their weights."),
    ] = None,
    min_rating: Annotated[
        float | None, _kept("--min-rating", help="Leave out lower ratings.")
    ] = None,
    unrated: Annotated[
        float | None, _read("--unrated", help="The rating that means none, such as 0 or -1.")
    ] = None,
    rating_scale: Annotated[
        str | None,
        _read(
            "--rating-scale", help="Lowest and highest rating, such as 1,10; others are rejected."
        ),
    ] = None,
    file_format: Annotated[
        Literal["csv", "json", "parquet"] | None, _read("--format", help="Of the log's files.")
    ] = None,
    compression: Annotated[
        Literal["none", "gzip", "bz2", "zstd", "xz", "zip"] | None,
        _read("--compression", help="Of the files."),
    ] = None,
    encoding: Annotated[str | None, _read("--encoding", help="Such as latin-1.")] = None,
    separator: Annotated[
        str | None, _read("--separator", help=r"Such as ';', '::', '\t' or whitespace.")
    ] = None,
    header: Annotated[
        bool | None, _read("--header/--no-header", help="Whether the first line holds the names.")
    ] = None,
    names: Annotated[
        str | None,
        _read("--names", "--columns", help="Names of the columns in order: user,item,time."),
    ] = None,
    quote: Annotated[str | None, _read("--quote", help="The quote mark, or none.")] = None,
    escape: Annotated[
        str | None, _read("--escape", help="The mark before a quote that is text.")
    ] = None,
    decimal_comma: Annotated[
        bool | None, _read("--decimal-comma/--decimal-point", help="1,5 or 1.5.")
    ] = None,
    time_format: Annotated[
        str | None, _read("--time-format", help="Such as '%d.%m.%Y %H:%M'.")
    ] = None,
    time_unit: Annotated[
        Literal["d", "h", "min", "s", "ms", "us", "ns"] | None,
        _read("--time-unit", help="Of times that are numbers since 1970."),
    ] = None,
    time_zone: Annotated[
        str | None, _read("--time-zone", help="Time zone of times without one. Default: UTC.")
    ] = None,
    ignore: Annotated[
        list[str] | None, _read("--ignore", help="A column that is not read; may be repeated.")
    ] = None,
    explode: Annotated[
        list[str] | None,
        _read(
            "--explode",
            help="A key of JSON or a column that holds lists, such as line_items: each element "
            "becomes a row. May be repeated.",
        ),
    ] = None,
    missing: Annotated[
        list[str] | None,
        _read("--missing", help="A text that means a missing id; may be repeated."),
    ] = None,
    read_catalogue: Annotated[
        list[str] | None,
        _read(
            "--read-catalogue",
            help="How the catalogue is read, where it is read otherwise: separator=; and so on.",
        ),
    ] = None,
    read_users: Annotated[
        list[str] | None, _read("--read-users", help="The same of the table of users.")
    ] = None,
) -> None:
    """Data set options as parameters, whose annotations `with_words` copies."""


def with_words(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_words`; it gets them as ``words``, by name.

    ``--dataset`` adds to its ``source``.
    """
    own, added = inspect.signature(command).parameters, inspect.signature(_words).parameters

    @wraps(command)
    def run(**options: Any) -> None:
        words = {name: options.pop(name) for name in added}
        options["source"] = [*(options["source"] or ()), *(words.pop("dataset") or ())]
        command(**options, words=words)

    kept = [parameter for name, parameter in own.items() if name != "words"]
    return with_parameters(run, [*kept, *added.values()])


def declaration(words: dict[str, Any], name: str | None = None) -> "Declaration":
    """The options as a `Declaration`.

    Raises
    ------
    InputError
        At the option that does not fit.
    """
    from twotower.data.declaration import declared
    from twotower.data.readers import ColumnMapping, ReadOptions

    read = {word: words[word] for word in _READ_WORDS} | {
        "format": words["file_format"],
        "names": _listed(words["names"]),
        "rating_scale": _scale(words["rating_scale"]),
        "events": words["events"] or None,
        "ignore": words["ignore"] or None,
        "missing": words["missing"] or None,
        "explode": words["explode"] or None,
        "join": words["join"] or None,
    }
    shares = {word: words[word] for word in _SPLIT_WORDS if words[word] is not None}
    if shares and words["split"] is None:
        raise InputError(
            f"--{next(iter(shares))} needs --split, which is not given",
            "pass --split random, global-time, rolling or given",
        )
    split = {"kind": words["split"], **shares} if shares else words["split"]
    kept = {word: words[word] or None for word in _KEPT_WORDS}
    columns: dict[str, Any] = dict(
        _pairs("--column", words["columns"], ColumnMapping.model_fields, "user=customer")
    )
    if "," in columns.get("time", ""):
        columns["time"] = _listed(columns["time"])
    kinds = {word: words[word] for word in _KINDS_WORDS} | {
        "weights": _numbers("--weight", words["weights"], "view=0.2"),
        "from_rating": _numbers("--from-rating", words["from_rating"], "like=4") or None,
        "target": words["target"] or None,
        "seen": words["seen"] or None,
    }
    said = {word: value for word, value in kinds.items() if value or value == 0}
    values = {
        "name": name,
        "as": words["format"],
        "catalogue": words["catalogue"],
        "users": words["users"],
        "columns": columns,
        "events": said,
        "read": _without_none(read),
        "prepare": _without_none({**kept, "k_core": words["k_core"], "split": split}),
        **{
            word: _read_words(f"--{word.replace('_', '-')}", words[word], ReadOptions.model_fields)
            for word in ("read_catalogue", "read_users")
        },
    }
    return declared({key: value for key, value in values.items() if value}, "the options")


def sources(given: Sequence[str]) -> "tuple[list[str | Path], Declaration]":
    """Paths of a data set given by name or paths, and the declaration of a named data set.

    Raises
    ------
    InputError
        If none is given, or a name is not known.
    """
    from twotower.data.declaration import Declaration
    from twotower.data.readers.discovery import with_kinds
    from twotower.data.remote import is_url
    from twotower.workflow.datasets import find_dataset, is_known

    if not given:
        raise InputError("no data set is given", "name a folder, the files of a log, or 'sample'")
    if len(given) == 1 and is_known(given[0]):
        path, settings = find_dataset(given[0])
        return [path], Declaration(prepare=settings)
    for pattern in given:
        if not is_url(pattern) and not any(mark in pattern for mark in "*?["):
            path = with_kinds([pattern])[0][1]
            within = any(parent.is_file() for parent in path.parents)  # of an archive
            if not (path.exists() or within or any(path.parent.glob(f"{path.name}.*"))):
                find_dataset(pattern)  # raises with the known names
    return [*given], Declaration()


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _scale(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.replace("-", ",").split(","))
    except ValueError:
        raise InputError(
            f"--rating-scale must be lowest,highest, got {text!r}", "such as 1,10"
        ) from None
    return [low, high]


def _numbers(option: str, given: Sequence[str] | None, example: str) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for pair in given or ():
        name, _, text = pair.rpartition("=")
        try:
            numbers[name.strip()] = float(text)
        except ValueError:
            name = ""
        if not name.strip():
            raise InputError(f"{option} must be KIND=NUMBER, got {pair!r}", f"such as {example}")
    return numbers


def _pairs(
    option: str, given: Sequence[str] | None, known: Collection[str], example: str
) -> dict[str, str]:
    pairs: dict[str, str] = {}
    kind = "name=column" if option == "--column" else "word=value"
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option} must be {kind}, got {pair!r}", f"such as {example}")
        if name in pairs:
            raise InputError(f"{option} {name} is given twice: {pairs[name]} and {value}")
        if name not in known:
            what = "column" if option == "--column" else "word"
            raise InputError(
                f"{option} {pair}: there is no {what} {name!r}", f"name one of {', '.join(known)}"
            )
        pairs[name] = value
    return pairs


def _read_words(option: str, given: Sequence[str] | None, known: Collection[str]) -> dict[str, Any]:
    values: dict[str, Any] = dict(_pairs(option, given, known, "separator=;"))
    for word in ("names", "ignore", "missing", "events", "explode"):
        if word in values:
            values[word] = _listed(values[word])
    if "rating_scale" in values:
        values["rating_scale"] = _scale(values["rating_scale"])
    return values
