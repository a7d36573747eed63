"""Commands that make data: download, prepare and hold-out."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from twotower.cli.options import (
    DataFolder,
    JsonFile,
    KCore,
    changed_settings,
    console,
    validated,
    write_json,
)
from twotower.errors import InputError


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
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", help="A column's name, such as user=customer or time=when."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Read, validate, reduce and split a log.

    Example: `twotower prepare purchases.csv --catalogue items.csv --column user=customer
    --column time=when --out data/shop`
    """
    from twotower.console import reporting
    from twotower.data.prepare import prepare as make
    from twotower.data.readers import ColumnMapping
    from twotower.workflow.datasets import find_dataset

    path, settings = find_dataset(source)
    settings = changed_settings(
        settings,
        k_core=k_core,
        split=None if split is None else {"kind": split},
        keep_repeats=keep_repeats or None,
        strict=strict or None,
    )
    mapping = (
        validated(ColumnMapping, _pairs(columns, ColumnMapping.model_fields)) if columns else None
    )
    with reporting(console) as reporter:
        dataset = make(
            path,
            name=name,
            settings=settings,
            mapping=mapping,
            catalogue=catalogue,
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


def _pairs(options: Sequence[str], known: Collection[str]) -> dict[str, str]:
    pairs = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise InputError(
                f"--column must be name=column, got {option!r}", "such as user=customer"
            )
        if name not in known:
            raise InputError(
                f"--column has no {name!r}; it is one of {', '.join(known)}",
                "such as user=customer, the name here before the one in the file",
            )
        pairs[name] = value
    return pairs


def _print_summary(name: str, summary: dict[str, Any]) -> None:
    parts = ", ".join(f"{count:,} {part}" for part, count in summary["parts"].items())
    rejected = summary["rejected"]
    console.print(
        f"[bold]{name}[/]: {summary['users']:,} users, {summary['items']:,} items, "
        f"{summary['interactions']:,} interactions ({parts})",
        highlight=False,
    )
    console.print(f"read {summary['read']:,}, repeats {summary['repeats']:,}", highlight=False)
    for reason, count in rejected.items():
        console.print(f"[yellow]rejected {count:,}: {reason}[/]", highlight=False)
