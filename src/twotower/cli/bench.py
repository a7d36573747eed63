"""`twotower bench`: time, recall and memory of index kinds on the vectors of a bundle."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twotower.cli.options import JsonFile, console, notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from twotower.evaluation.results import Row

bench = typer.Typer(no_args_is_help=True, help="Measure a bundle on this machine.")


@bench.callback()
def group() -> None:
    """Measure a bundle on this machine."""


@bench.command()
def index(
    bundle: Annotated[Path, typer.Option("--bundle", help="Folder of a bundle.")],
    k: Annotated[
        list[int] | None, typer.Option("-k", "--k", min=1, help="Items asked for; again for more.")
    ] = None,
    sizes: Annotated[
        list[int] | None,
        typer.Option("--sizes", min=2, help="Items; again for more. Default: the bundle's."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Kinds to measure. Default: all.")
    ] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Users to ask for.")] = 200,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed rounds of each kind.")] = 5,
    build_limit: Annotated[
        float, typer.Option("--build-limit", help="Most seconds to build one index.")
    ] = 600.0,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Published figures to compare with.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Time, recall, build time and memory of each kind of index, on one thread.

    With `--sizes` the catalogue is grown by copies of real items, moved a little.

    Example: `twotower bench index --bundle bundle --k 10 --k 1000 --json index.json`
    """
    from twotower.console import reporting
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.results import write_results
    from twotower.reporting.study_results import Reference
    from twotower.study.index_benchmark import KINDS, IndexBench, bench_index

    started = datetime.now(UTC)
    settings = IndexBench(
        kinds=tuple(kind or KINDS),
        ks=tuple(dict.fromkeys(k or (10, 1000))),
        sizes=tuple(sizes or ()),
        queries=queries,
        rounds=rounds,
        build_limit=build_limit,
    )
    published = None if reference is None else Reference.read(reference)
    with reporting(notes()) as reporter:
        figures = bench_index(bundle, settings, reference=published, note=reporter.note)
    for name in dict.fromkeys(row.protocol for row in figures.rows):
        for asked in settings.ks:
            console().print(_table(figures.rows, name, asked))
    if json_file is not None:
        write_results(
            json_file,
            collect_meta(started, threads=1),
            figures.rows,
            absent=figures.absent,
            models=figures.models,
        )


def _table(rows: "Sequence[Row]", protocol: str, k: int) -> "Table":
    """Table with a row per kind and a column per figure."""
    from twotower.console import table_of_figures

    chosen = [row for row in rows if row.protocol == protocol]
    values = {(row.model, row.metric): row.value for row in chosen}
    measured = {row.metric for row in chosen}
    columns = {
        f"us@{k}": "us",
        f"p99-us@{k}": "p99 us",
        f"queries/s@{k}": "queries/s",
        f"recall@{k}": "recall",
        f"times-as-fast-as-exact@{k}": "× exact",
        f"published-us@{k}": "published us",
        "build-seconds": "build s",
        "memory-mb": "MB",
    }
    table = table_of_figures(f"{protocol}, k = {k}, one thread")
    table.add_column("kind")
    shown = [metric for metric in columns if metric in measured]
    for metric in shown:
        table.add_column(columns[metric], justify="right")
    for model in dict.fromkeys(row.model for row in chosen):
        cells = [values.get((model, metric)) for metric in shown]
        table.add_row(model, *("–" if value is None else f"{value:,.4g}" for value in cells))
    return table
