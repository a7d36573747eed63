"""`twotower run`: prepare, train, evaluate, bundle and recommend in one command."""

import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from twotower.cli.options import (
    STANDARD_OUTPUT,
    DeviceName,
    Epochs,
    IndexKind,
    JsonFile,
    Minutes,
    PrecisionName,
    Protocols,
    Refit,
    TextEncoderName,
    Track,
    console,
    notes,
    print_note,
    write_rows,
)
from twotower.cli.recommend import show_recommendations
from twotower.cli.source import Sources, declaration, sources, with_words


@with_words
def run(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")],
    words: dict[str, Any],
    source: Sources = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="Name of a model; may be given again. Default: all."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training seeds per model.")] = 1,
    protocol: Protocols = None,
    kind: IndexKind = "auto",
    text_encoder: TextEncoderName = "minilm",
    refit: Refit = True,
    epochs: Epochs = None,
    minutes: Minutes = None,
    device: DeviceName = None,
    precision: PrecisionName = None,
    track: Track = False,
    json_file: JsonFile = None,
) -> None:
    """Prepare, train, evaluate, bundle and recommend. Run again, it resumes.

    Example: `twotower run sample --out runs/sample`
    """
    from twotower.console import reporting, results_table
    from twotower.evaluation.registry import PROTOCOLS
    from twotower.index import named_choice
    from twotower.inference import Pipeline, Request
    from twotower.study.tracking import check_tracking, track_models
    from twotower.workflow.run import DEFAULT_MODELS
    from twotower.workflow.run import run as whole_job

    started = datetime.now(UTC)
    if track:
        check_tracking()
    paths, known = sources(source or ())
    asked = declaration(words)
    to_file = json_file not in (None, STANDARD_OUTPUT)
    results_file = json_file if json_file is not None and to_file else out / "results.json"
    with reporting(notes()) as reporter:
        result = whole_job(
            paths,
            out,
            declaration=known.overridden_by(asked),
            models=models or DEFAULT_MODELS,
            seeds=range(seeds),
            protocols=protocol or PROTOCOLS,
            text_encoder=text_encoder,
            index=named_choice(kind),
            refit=refit,
            epochs=epochs,
            minutes=minutes,
            device=device,
            precision=precision,
            on_rows=lambda rows: write_rows(results_file, rows, started),
            reporter=reporter,
        )
    if result.bundle is not None:  # beside the manifest, for the demo: see docs/demo.md
        shutil.copyfile(results_file, result.bundle / "results.json")
    if track:
        figures: dict[tuple[str, int], dict[str, float]] = {}
        for row in result.rows:
            if len(row.seeds) == 1:  # a mean over several seeds belongs to no run
                values = figures.setdefault((row.model, row.seeds[0]), {})
                values[f"{row.protocol}.{row.metric}"] = row.value
        uri = track_models(out, result.dataset.name, figures)
        print_note(f"tracked in {uri}")
    shown = dict.fromkeys(row.protocol for row in result.rows if row.protocol != "timing")
    for name in shown:
        console().print(results_table(result.rows, name))
    if not to_file and json_file is not None:
        write_rows(json_file, result.rows, started)
    if result.bundle is None:
        return
    pipeline = Pipeline.load(result.bundle)
    user, items = result.example_user, result.example_history
    show_recommendations(pipeline, Request(user))
    show_recommendations(pipeline, Request(history=items))
    print_note(f"results: {results_file}")
    bundle = ["--bundle", str(result.bundle)]
    for what, *command in (
        ("a known user:   ", "recommend", *bundle, "--user", user),
        ("cold-start user:", "recommend", *bundle, "--history", *items),
        ("see it all:     ", "demo", *bundle),
    ):
        text = f"{what} {shlex.join(['twotower', *command])}"
        print_note(text)
