"""`twotower embed`, `train`, `evaluate` and `index`: commands that make and measure models."""

import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from twotower.cli.options import (
    DataFolder,
    DeviceName,
    Engine,
    Epochs,
    IndexKind,
    JsonFile,
    Minutes,
    PrecisionName,
    Protocols,
    Refit,
    TextEncoderName,
    Track,
    Workers,
    console,
    mapper_of,
    notes,
    print_note,
    write_json,
    write_rows,
)


def embed(
    data: DataFolder,
    model: Annotated[
        str, typer.Option("--model", help="The model to be trained: which text of items it reads.")
    ] = "two-tower",
    text_encoder: TextEncoderName = "minilm",
    engine: Engine = "local",
    workers: Workers = None,
    json_file: JsonFile = None,
) -> None:
    """Encode the items' text into the cache, which training reads ($TWOTOWER_CACHE).

    Training encodes what the cache lacks; this does it beforehand, on a cluster where asked to.

    Example: `twotower embed --data data/shop --engine ray`
    """
    from twotower.console import reporting
    from twotower.data import Dataset
    from twotower.errors import InputError
    from twotower.features.cache import cache_folder
    from twotower.workflow.models import item_text, named_variant

    variant = named_variant(model, text_encoder)
    dataset = Dataset.load(data)
    with mapper_of(engine, workers) as mapper, reporting(notes()) as reporter:
        vectors = item_text(variant, dataset, reporter, mapper)
    if vectors is None:
        raise InputError(f"the model {model!r} reads no text", "name one that does: two-tower")
    written = {"items": len(vectors), "encoder": text_encoder, "cache": str(cache_folder())}
    print_note(f"text of {len(vectors):,} items is in {cache_folder()}")
    write_json(json_file, written)


def train(
    data: DataFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder for the trained model.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="two-tower (the default), mf, lightgcn, v1 … v9."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    epochs: Epochs = None,
    minutes: Minutes = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="A variant as JSON, such as 'tune' writes.")
    ] = None,
    text_encoder: TextEncoderName = "minilm",
    device: DeviceName = None,
    precision: PrecisionName = None,
    track: Track = False,
    json_file: JsonFile = None,
) -> None:
    """Train a model. An interrupted training resumes from its checkpoint.

    On several processes: `torchrun --nproc-per-node 2 -m twotower train …`

    Example: `twotower train --data data/shop --out models/two-tower`
    """
    from twotower.console import reporting
    from twotower.data import Dataset
    from twotower.reporting.product_names import DEFAULT_MODEL, study_name
    from twotower.study.search_space import read_settings
    from twotower.study.tracking import Tracker, check_tracking
    from twotower.training.collectives import leave, ranks
    from twotower.training.device import on_device
    from twotower.workflow.baseline_check import warn_below_baselines
    from twotower.workflow.models import named_variant, trained_model
    from twotower.workflow.progress import Silent

    if track:
        check_tracking()
    if settings is None:
        name = study_name(model or DEFAULT_MODEL)
        variant = named_variant(name, text_encoder)
    else:
        name = model or settings.stem
        variant = read_settings(settings)
    variant = on_device(variant.with_epochs(epochs).within(minutes), device, precision)
    dataset = Dataset.load(data)
    with reporting(notes()) as reporter:
        trained = trained_model(
            variant,
            dataset,
            out,
            name=name,
            seed=seed,
            reporter=reporter if ranks().first else Silent(),
        )
        if not ranks().first:
            leave()
            return
        warn_below_baselines(name, trained, dataset, reporter)
    leave()
    print_note(f"model written to {out}")
    if track:
        tracker = Tracker(out.parent, dataset.name)
        tracker.track(out)
        print_note(f"tracked in {tracker.uri}")
    write_json(json_file, asdict(trained.state))


def evaluate(
    data: DataFolder,
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders of trained models.")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            help="popularity, item-knn, random-walk, graph-filter, ease, als, content; may be "
            "repeated. Default: the first two.",
        ),
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Whether baselines that were not named are evaluated.")
    ] = True,
    part: Annotated[Literal["validation", "test"], typer.Option("--part")] = "test",
    protocol: Protocols = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="HR, NDCG or Recall with a cut-off, such as NDCG@10, MRR, or one of another "
            "package; may be repeated. Default: the usual ones.",
        ),
    ] = None,
    text_encoder: TextEncoderName = "minilm",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Measure two-towers with the second stage too.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Evaluate trained models on the held-out part.

    Example: `twotower evaluate --data data/shop models/two-tower models/mf --json results.json`
    """
    from twotower.console import reporting, results_table
    from twotower.data import Dataset, Part
    from twotower.evaluation.registry import PROTOCOLS
    from twotower.workflow.baselines import DEFAULT_BASELINES
    from twotower.workflow.evaluation import evaluate_models

    started = datetime.now(UTC)
    with reporting(notes()) as reporter:
        rows = evaluate_models(
            Dataset.load(data),
            folders or [],
            baselines=baseline or (DEFAULT_BASELINES if baselines else ()),
            part=Part[part.upper()],
            protocols=protocol or PROTOCOLS,
            metrics=metric,
            text_encoder=text_encoder,
            rerank=rerank,
            reporter=reporter,
        )
    for name in dict.fromkeys(row.protocol for row in rows):
        console().print(results_table(rows, name))
    write_rows(json_file, rows, started)


def index(
    data: DataFolder,
    model: Annotated[Path, typer.Argument(help="Folder of a trained two-tower.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the bundle.")],
    kind: IndexKind = "auto",
    reranker: Annotated[
        Path | None, typer.Option("--reranker", help="Folder of a trained LightGCN.")
    ] = None,
    comparison: Annotated[
        list[Path] | None,
        typer.Option(
            "--comparison",
            help="Folder of a trained MF or LightGCN that the demo compares with; may be repeated.",
        ),
    ] = None,
    refit: Refit = True,
    new_items: Annotated[
        bool, typer.Option(help="Include the encoders of new items and texts.")
    ] = True,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", help="Results file of 'evaluate', copied into the bundle for the demo."
        ),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Index a trained two-tower's items and write the bundle that serving reads.

    Example: `twotower index models/two-tower --data data/shop --out bundle`
    """
    from twotower.console import reporting
    from twotower.data import Dataset
    from twotower.evaluation.results import read_results
    from twotower.index import named_choice
    from twotower.workflow.bundling import bundle_model

    replaced = out.exists()
    if results is not None:
        read_results(results)  # before the work begins
    with reporting(notes()) as reporter:
        manifest = bundle_model(
            model,
            Dataset.load(data),
            out,
            index=named_choice(kind),
            reranker=reranker,
            comparisons=comparison or (),
            refit=refit,
            new_items=new_items,
            reporter=reporter,
        )
    if results is not None:
        shutil.copyfile(results, out / "results.json")
    before = ", in place of the bundle that was there" if replaced else ""
    print_note(f"bundle {manifest.model_version} written to {out}{before}")
    write_json(json_file, manifest.model_dump(mode="json"))
