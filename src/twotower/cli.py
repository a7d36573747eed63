"""The command line: parse, call, print. Heavy imports happen inside the commands."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from twotower import __version__
from twotower.errors import InputError, TwoTowerError

if TYPE_CHECKING:
    from twotower.data.settings import PrepareSettings
    from twotower.evaluation.results import Row
    from twotower.serving.pipeline import Recommendation

app = typer.Typer(
    name="twotower",
    help="From an interaction log and a catalogue to a served recommender.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
console = Console()

DataFolder = Annotated[Path, typer.Option("--data", help="A folder that 'prepare' wrote.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Also write the result here, for machines.")
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="Name of a model; may be given again. Default: all."),
]
TextEncoderName = Annotated[
    str, typer.Option("--text-encoder", help="minilm (extra 'text') or hashing.")
]
IndexKind = Annotated[
    Literal["exact", "flat", "hnsw", "ivf"], typer.Option("--kind", help="Kind of index.")
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: a user's mistake is one line and exit code 2, never a traceback."""
    try:
        app(args=None if arguments is None else list(arguments))
    except TwoTowerError as error:
        print(f"twotower: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("twotower: interrupted; run the same command to go on", file=sys.stderr)
        raise SystemExit(130) from None


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """From an interaction log and a catalogue to a served recommender."""
    if show:
        print(__version__)
        raise typer.Exit


@app.command()
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
    _write_json(json_file, {"files": [str(file) for file in files]})


@app.command()
def prepare(
    source: Annotated[
        str, typer.Argument(help="A folder or file, or a name: sample, video-games, ml-100k.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the prepared data set.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the data set. Default: the folder's.")
    ] = None,
    k_core: Annotated[
        int | None, typer.Option("--k-core", help="Least interactions of a user and an item.")
    ] = None,
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
    from twotower.experiments.datasets import find_dataset

    path, settings = find_dataset(source)
    settings = _settings(
        settings,
        k_core=k_core,
        split=None if split is None else {"kind": split},
        keep_repeats=keep_repeats or None,
        strict=strict or None,
    )
    mapping = _validated(ColumnMapping, _pairs(columns)) if columns else None
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
    _write_json(json_file, dict(dataset.summary))


@app.command()
def train(
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder for the trained model.")],
    model: Annotated[str, typer.Option("--model", help="mf, lightgcn, v1, v4, v5 …")] = "v5",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Most epochs.")] = None,
    text_encoder: TextEncoderName = "minilm",
    json_file: JsonFile = None,
) -> None:
    """Train one model. An interrupted training goes on from its checkpoint.

    Example: `twotower train --data data/shop --model v5 --out models/v5`
    """
    from twotower.console import reporting
    from twotower.data import Dataset
    from twotower.experiments.models import named_variant, trained_model

    variant = named_variant(model, text_encoder)
    if epochs is not None:
        variant = variant.vary(training=variant.training.vary(epochs=epochs))
    with reporting(console) as reporter:
        trained = trained_model(
            variant,
            Dataset.load(data),
            out,
            name=model,
            seed=seed,
            reporter=reporter,
        )
    console.print(f"model written to {out}", highlight=False)
    _write_json(json_file, asdict(trained.state))


@app.command()
def evaluate(
    data: DataFolder,
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders of trained models.")] = None,
    baselines: Annotated[bool, typer.Option(help="Also popularity and item-kNN.")] = True,
    part: Annotated[Literal["validation", "test"], typer.Option("--part")] = "test",
    protocol: Annotated[
        list[str] | None,
        typer.Option("--protocol", help="full, full-unmasked, sampled-100; may be repeated."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Evaluate trained models on the held-out part.

    Example: `twotower evaluate --data data/shop models/v5 models/mf --json results.json`
    """
    from twotower.console import reporting, results_table
    from twotower.data import Dataset, Part
    from twotower.evaluation.protocols import PROTOCOLS
    from twotower.experiments.scoring import evaluate_models

    started = datetime.now(UTC)
    with reporting(console) as reporter:
        rows = evaluate_models(
            Dataset.load(data),
            folders or [],
            baselines=baselines,
            part=Part[part.upper()],
            protocols=protocol or PROTOCOLS,
            reporter=reporter,
        )
    for name in dict.fromkeys(row.protocol for row in rows):
        console.print(results_table(rows, name))
    _write_results(json_file, rows, started)


@app.command()
def index(
    data: DataFolder,
    model: Annotated[Path, typer.Argument(help="Folder of a trained two-tower.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the bundle.")],
    kind: IndexKind = "hnsw",
    reranker: Annotated[
        Path | None, typer.Option("--reranker", help="Folder of a trained LightGCN.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Index a trained two-tower's items and write the bundle that serving reads.

    Example: `twotower index models/v5 --data data/shop --out bundle`
    """
    from twotower.console import reporting
    from twotower.data import Dataset
    from twotower.experiments.bundling import bundle_model
    from twotower.index import named_index

    with reporting(console) as reporter:
        manifest = bundle_model(
            model,
            Dataset.load(data),
            out,
            index=named_index(kind),
            reranker=reranker,
            reporter=reporter,
        )
    console.print(f"bundle {manifest.model_version} written to {out}", highlight=False)
    _write_json(json_file, manifest.model_dump(mode="json"))


@app.command()
def recommend(
    bundle: Annotated[Path, typer.Option("--bundle", help="Folder of a bundle.")],
    user: Annotated[str | None, typer.Option("--user", help="Id of a known user.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--history", help="Items just browsed, oldest first: --history ID ID ID."),
    ] = None,
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    k: Annotated[int, typer.Option("-k", help="Items to recommend.")] = 10,
    rerank: Annotated[bool, typer.Option("--rerank", help="Re-rank 1,000 candidates.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Recommend for a known user, or for somebody new who just looked at some items.

    Example: `twotower recommend --bundle bundle --history ID ID ID`
    """
    from twotower.console import recommendations_table
    from twotower.serving import Pipeline

    if more and not history:
        raise InputError(f"unexpected argument {more[0]!r}", "write --history before item ids")
    items = [*(history or []), *(more or [])]
    found = Pipeline.load(bundle).recommend(user, items, k, rerank=rerank)
    console.print(recommendations_table(_who(user, items), found))
    _write_json(json_file, _as_json(found))


@app.command()
def info(
    folder: Annotated[Path, typer.Argument(help="A data set, trained model or bundle.")],
    json_file: JsonFile = None,
) -> None:
    """Say what a folder holds.

    Example: `twotower info bundle`
    """
    for name in ("manifest.json", "model.json"):
        file = folder / name
        if file.exists():
            described = json.loads(file.read_text())
            console.print_json(data=_shortened(described))
            _write_json(json_file, described)
            return
    raise InputError(
        f"{folder} holds neither manifest.json nor model.json",
        "pass a folder that prepare, train or index wrote",
    )


@app.command()
def run(
    dataset: Annotated[
        str, typer.Option("--dataset", help="sample, video-games, ml-100k, or a path.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")],
    models: Models = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training seeds per model.")] = 1,
    k_core: Annotated[
        int | None, typer.Option("--k-core", help="Least interactions of a user and an item.")
    ] = None,
    kind: IndexKind = "hnsw",
    text_encoder: TextEncoderName = "minilm",
    json_file: JsonFile = None,
) -> None:
    """Do the whole job: prepare, train, evaluate, bundle, recommend. Run again, it goes on.

    Example: `twotower run --dataset sample --out runs/sample`
    """
    from twotower.console import recommendations_table, reporting, results_table
    from twotower.evaluation.protocols import FULL, SAMPLED
    from twotower.experiments.datasets import find_dataset
    from twotower.experiments.run import DEFAULT_MODELS
    from twotower.experiments.run import run as whole_job
    from twotower.index import named_index
    from twotower.serving import Pipeline

    started = datetime.now(UTC)
    source, settings = find_dataset(dataset)
    results_file = json_file or out / "results.json"
    with reporting(console) as reporter:
        result = whole_job(
            source,
            out,
            settings=_settings(settings, k_core=k_core),
            models=models or DEFAULT_MODELS,
            seeds=range(seeds),
            text_encoder=text_encoder,
            index=named_index(kind),
            on_rows=lambda rows: _write_results(results_file, rows, started),
            reporter=reporter,
        )
    for protocol in (FULL, SAMPLED):
        console.print(results_table(result.rows, protocol))
    if result.bundle is None:
        return
    pipeline = Pipeline.load(result.bundle)
    user, items = result.example_user, result.example_history
    console.print(recommendations_table(_who(user, []), pipeline.recommend(user)))
    console.print(recommendations_table(_who(None, items), pipeline.recommend(history=items)))
    console.print(f"results: {results_file}", highlight=False, soft_wrap=True)
    bundle = f"twotower recommend --bundle {result.bundle}"
    console.print(f"a known user:   {bundle} --user {user}", highlight=False, soft_wrap=True)
    console.print(
        f"somebody new:   {bundle} --history {' '.join(items)}", highlight=False, soft_wrap=True
    )


def _settings(settings: "PrepareSettings", **changes: object) -> "PrepareSettings":
    """The settings with what the user asked for; None leaves a value as it is."""
    wanted = {name: value for name, value in changes.items() if value is not None}
    changed: PrepareSettings = _validated(type(settings), {**settings.model_dump(), **wanted})
    return changed


def _validated(kind: type[Any], values: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{name}: {first['msg']}, got {first['input']!r}") from None


def _pairs(options: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (name and equals and value):
            raise InputError(
                f"--column must be name=column, got {option!r}", "such as user=customer"
            )
        pairs[name] = value
    return pairs


def _who(user: str | None, history: Sequence[str]) -> str:
    if user is None:
        return f"somebody new who looked at {', '.join(history)}"
    return f"user {user}" + (f" who looked at {', '.join(history)}" if history else "")


def _as_json(items: Sequence["Recommendation"]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]


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


def _shortened(value: Any, longest: int = 8) -> Any:
    """The same with long lists cut, for reading."""
    if isinstance(value, dict):
        return {name: _shortened(inner) for name, inner in value.items()}
    if isinstance(value, list) and len(value) > longest:
        return [*(_shortened(inner) for inner in value[:longest]), f"… {len(value)} in all"]
    return value


def _write_json(path: Path | None, value: object) -> None:
    if path is None:
        return
    from twotower.data.atomic import atomic_file

    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=str) + "\n")


def _write_results(path: Path | None, rows: Sequence["Row"], started: datetime) -> None:
    if path is None:
        return
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.results import write_results

    write_results(path, collect_meta(started), rows)
