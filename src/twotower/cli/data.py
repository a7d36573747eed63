"""`twotower download`, `generate`, `inspect`, `prepare` and `hold-out`: commands that make data."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from twotower.cli.options import (
    DataFolder,
    Engine,
    JsonFile,
    Workers,
    mapper_of,
    notes,
    print_note,
    print_result,
    write_json,
)
from twotower.cli.source import Sources, declaration, sources, with_words
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
    """Fetch a category of Amazon Reviews 2023. An interrupted download is resumed.

    Example: `twotower download video-games --kind last_out --out data/video-games`
    """
    from twotower.console import downloading
    from twotower.data.download import download as fetch

    with downloading(notes()) as progress:
        files = fetch(category, kind, out, progress=progress)
    for file in files:
        print_result(f"✓ {file}")
    write_json(json_file, {"files": [str(file) for file in files]})


@with_words
def prepare(
    out: Annotated[Path, typer.Option("--out", help="Folder for the prepared data set.")],
    words: dict[str, Any],
    source: Sources = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the data set. Default: the folder's.")
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    json_file: JsonFile = None,
) -> None:
    """Read, validate, reduce and split a log.

    A `dataset.toml` beside the log holds the same as the options; `twotower inspect` writes it.

    Example: `twotower prepare purchases.csv --catalogue items.csv --column user=customer
    --column time=when --out data/shop`
    """
    from twotower.console import reporting
    from twotower.data.prepare import prepare as make

    paths, known = sources(source or ())
    described = known.overridden_by(declaration(words, name))
    with mapper_of(engine, workers) as mapper, reporting(notes()) as reporter:
        dataset = make(
            paths, declaration=described, out=out, progress=reporter.reading(), mapper=mapper
        )
    _print_summary(dataset.name, dict(dataset.summary))
    print_note(f"data set written to {out}")
    write_json(json_file, dict(dataset.summary))


@with_words
def inspect(
    words: dict[str, Any],
    source: Sources = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", help="Write a dataset.toml to edit: the file, or its folder."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Show what would be read of a folder or file, with guesses, and write a dataset.toml.

    Without SOURCE, list the published formats.

    Example: `twotower inspect data/shop --write data/shop/dataset.toml`
    """
    from twotower.data.atomic import atomic_file
    from twotower.data.formats import FORMATS
    from twotower.data.inspection import inspect as preview
    from twotower.data.inspection import inspection_lines

    if not source:
        for entry in FORMATS:
            print_result(f"{entry.name}: {entry.about}")
        write_json(json_file, [entry.model_dump(mode="json") for entry in FORMATS])
        return
    paths, known = sources(source)
    found = preview(paths, known.overridden_by(declaration(words)))
    for line in inspection_lines(found):
        print_result(line)
    if write is not None:
        if write.is_dir():
            write = write / "dataset.toml"
        if write.exists():
            raise InputError(f"{write} exists", "delete it first, or name another file")
        with atomic_file(write) as temporary:
            temporary.write_text(found.toml, encoding="utf-8")
        print_note(f"written to {write}")
    write_json(json_file, found.described)


def hold_out(
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder for the data set to train on.")],
    users: Annotated[float, typer.Option("--users", help="Share of users held out.")] = 0.05,
    items: Annotated[float, typer.Option("--items", help="Share of items held out.")] = 0.02,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the choice.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Hold users and items out of a prepared data set, for cold-start evaluation.

    Example: `twotower hold-out --data data/shop --out data/shop-cold`
    """
    from twotower.data import Dataset
    from twotower.data.holdouts import SUMMARY
    from twotower.data.holdouts import hold_out as without

    dataset = without(Dataset.load(data), users=users, items=items, seed=seed)
    dataset.save(out)
    record = dataset.summary[SUMMARY]
    print_result(
        f"held out: {record['held_out_users']:,} users, {record['held_out_items']:,} items, "
        f"{record['held_out_interactions']:,} interactions"
    )
    print_note(f"data set written to {out}")
    write_json(json_file, dict(dataset.summary))


def generate(
    out: Annotated[Path, typer.Option("--out", help="Folder for the log and its catalogue.")],
    interactions: Annotated[int, typer.Option("--interactions", min=1)] = 1_000_000,
    items: Annotated[int, typer.Option("--items", min=10)] = 50_000,
    users: Annotated[int, typer.Option("--users", min=1)] = 100_000,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    json_file: JsonFile = None,
) -> None:
    """Write a synthetic log of any size, to measure time and memory with.

    Example: `twotower generate --interactions 10000000 --items 200000 --users 800000
    --out data/growth`
    """
    from twotower.data.synthetic import LogSize, generate_log

    size = LogSize(interactions=interactions, items=items, users=users)
    log = generate_log(out, size, seed)
    print_note(f"{log.total:,} interactions written to {log.interactions}")
    write_json(json_file, {"interactions": log.total, **size.model_dump(exclude={"interactions"})})


def _print_summary(name: str, summary: dict[str, Any]) -> None:
    from twotower.data.summary import summary_lines

    parts = ", ".join(f"{count:,} {part}" for part, count in summary["parts"].items())
    print_result(
        f"{name}: {summary['users']:,} users, {summary['items']:,} items, "
        f"{summary['interactions']:,} interactions ({parts})"
    )
    for line in summary_lines(summary, cli=True):
        style = "yellow" if line.startswith("rejected") else None
        print_result(line, style=style)
