"""Commands that make data: download, prepare and hold-out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from twotower.cli.options import (
    Column,
    ColumnNames,
    Compression,
    DataFolder,
    DecimalComma,
    Encoding,
    Escape,
    EventKinds,
    FileFormat,
    Header,
    Ignore,
    JsonFile,
    KCore,
    MinRating,
    Missing,
    Quote,
    RatingScale,
    Separator,
    TimeFormat,
    TimeUnitName,
    TimeZone,
    changed_settings,
    column_mapping,
    console,
    read_options,
    write_json,
)


def download(
    category: Annotated[str, typer.Argument(help="Such as video-games.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    kind: Annotated[
        Literal["raw", "rating_only", "last_out", "last_out_w_his"],
        typer.Option("--kind", help="Raw reviews and products, or a benchmark set."),
    ] = "raw",
    json_file: JsonFile = None,
) -> None:
    """Fetch a category of Amazon Reviews 2023. An interrupted download goes on.

    Example: `twotower download video-games --kind last_out --out data/video-games`
    """
    from twotower.console import downloading
    from twotower.data.download import download as fetch

    with downloading(console) as progress:
        files = fetch(category, kind, out, progress=progress)
    for file in files:
        console.print(f"[green]✓[/] {file}", highlight=False)
    write_json(json_file, {"files": [str(file) for file in files]})


def prepare(
    source: Annotated[
        str,
        typer.Argument(help="A folder or file, or a name: sample, video-games, official, ml-100k."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the prepared data set.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the data set. Default: the folder's.")
    ] = None,
    k_core: KCore = None,
    split: Annotated[
        Literal["leave-last-two", "global-time", "given"] | None,
        typer.Option("--split", help="Default: what the files say, else leave-last-two."),
    ] = None,
    keep_repeats: Annotated[
        bool, typer.Option("--keep-repeats", help="Keep repeats of a user and an item.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
    catalogue: Annotated[
        Path | None, typer.Option("--catalogue", help="The catalogue, if not beside the log.")
    ] = None,
    keep_unknown_items: Annotated[
        bool,
        typer.Option(
            "--keep-unknown-items", help="Keep items that the catalogue lacks, without a row of it."
        ),
    ] = False,
    columns: Column = None,
    separator: Separator = None,
    names: ColumnNames = None,
    header: Header = None,
    encoding: Encoding = None,
    quote: Quote = None,
    escape: Escape = None,
    file_format: FileFormat = None,
    compression: Compression = None,
    decimal_comma: DecimalComma = None,
    time_format: TimeFormat = None,
    time_unit: TimeUnitName = None,
    time_zone: TimeZone = None,
    rating_scale: RatingScale = None,
    min_rating: MinRating = None,
    events: EventKinds = None,
    ignore: Ignore = None,
    missing: Missing = None,
    json_file: JsonFile = None,
) -> None:
    """Read, validate, reduce and split a log.

    Example: `twotower prepare purchases.csv --catalogue items.csv --column user=customer
    --column time=when --out data/shop`
    """
    from twotower.console import reporting
    from twotower.data.prepare import prepare as make
    from twotower.workflow.datasets import find_dataset

    path, settings = find_dataset(source)
    settings = changed_settings(
        settings,
        k_core=k_core,
        split=None if split is None else {"kind": split},
        keep_repeats=keep_repeats or None,
        strict=strict or None,
        keep_unknown_items=keep_unknown_items or None,
    )
    options = read_options(
        format=file_format,
        compression=compression,
        encoding=encoding,
        separator=separator,
        header=header,
        names=names,
        quote=quote,
        escape=escape,
        decimal_comma=decimal_comma,
        time_format=time_format,
        time_unit=time_unit,
        time_zone=time_zone,
        rating_scale=rating_scale,
        min_rating=min_rating,
        events=events,
        ignore=ignore,
        missing=missing,
    )
    mapping = column_mapping(columns)
    with reporting(console) as reporter:
        dataset = make(
            path,
            name=name,
            settings=settings,
            mapping=mapping,
            catalogue=catalogue,
            options=options,
            out=out,
            progress=reporter.reading(),
        )
    _print_summary(dataset.name, dict(dataset.summary))
    console.print(f"data set written to {out}", highlight=False)
    write_json(json_file, dict(dataset.summary))


def hold_out(
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder for the data set to train on.")],
    users: Annotated[float, typer.Option("--users", help="Share of users held out.")] = 0.05,
    items: Annotated[float, typer.Option("--items", help="Share of items held out.")] = 0.02,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which ones.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Hold users and items out of a prepared data set, to be new to what is trained on it.

    Example: `twotower hold-out --data data/shop --out data/shop-cold`
    """
    from twotower.data import Dataset
    from twotower.data.holdouts import SUMMARY
    from twotower.data.holdouts import hold_out as without

    dataset = without(Dataset.load(data), users=users, items=items, seed=seed)
    dataset.save(out)
    record = dataset.summary[SUMMARY]
    console.print(
        f"held out: {record['held_out_users']:,} users, {record['held_out_items']:,} items, "
        f"{record['held_out_interactions']:,} interactions",
        highlight=False,
    )
    console.print(f"data set written to {out}", highlight=False)
    write_json(json_file, dict(dataset.summary))


def _print_summary(name: str, summary: dict[str, Any]) -> None:
    from twotower.data.summary import summary_lines

    parts = ", ".join(f"{count:,} {part}" for part, count in summary["parts"].items())
    console.print(
        f"[bold]{name}[/]: {summary['users']:,} users, {summary['items']:,} items, "
        f"{summary['interactions']:,} interactions ({parts})",
        highlight=False,
    )
    for line in summary_lines(summary, cli=True):
        style = "yellow" if line.startswith("rejected") else None
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
