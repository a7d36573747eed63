"""`twotower ablate`, `tune` and `report`: commands of the study."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from twotower.cli.options import (
    DeviceName,
    Epochs,
    JsonFile,
    KCore,
    PrecisionName,
    Protocols,
    TextEncoderName,
    Track,
    changed_settings,
    console,
    notes,
    print_note,
    print_result,
    write_json,
)
from twotower.errors import InputError


def ablate(
    dataset: Annotated[
        str, typer.Option("--dataset", help="A name, or a path, also of a prepared data set.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made.")],
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            help="Variant or baseline, or NAME=SEEDS; may be given again. Default: all.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Training seeds per variant.")] = 1,
    protocol: Protocols = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Cells at a time. Default: cores.")
    ] = None,
    k_core: KCore = None,
    text_encoder: TextEncoderName = "minilm",
    track: Track = False,
    json_file: JsonFile = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the results file's figures of models not named here."),
    ] = False,
    columns: Annotated[
        bool,
        typer.Option(
            "--columns",
            help="Leave each declared column of a prepared data set out in turn, instead of the "
            "grid.",
        ),
    ] = False,
) -> None:
    """Train a grid of variants and seeds, and compare them. Run again, it resumes.

    Example: `twotower ablate --dataset sample --variant v1=3 --variant v4=3 --out runs/study`
    """
    from twotower.console import differences_table, reporting, results_table
    from twotower.evaluation.merge_results import write_merged
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.registry import PROTOCOLS
    from twotower.evaluation.results import read_results
    from twotower.study.ablation.grid import default_models
    from twotower.study.ablation.study import ablate as run_study
    from twotower.study.ablation.study import cell_figures
    from twotower.study.ablation.summary import TESTED_METRICS, TESTED_PROTOCOLS
    from twotower.study.tracking import check_tracking, track_models
    from twotower.workflow.datasets import find_dataset

    if columns:
        _ablate_columns(dataset, out, variants, seeds, text_encoder, json_file)
        return
    started = datetime.now(UTC)
    if track:
        check_tracking()
    source, settings = find_dataset(dataset)
    results_file = json_file or out / "results.json"
    old = read_results(results_file) if keep and results_file.exists() else None
    with reporting(notes()) as reporter:
        study = run_study(
            source,
            out,
            settings=changed_settings(settings, k_core=k_core),
            seeds=_seeds(variants or default_models(), seeds),
            protocols=protocol or PROTOCOLS,
            text_encoder=text_encoder,
            jobs=jobs,
            reporter=reporter,
        )
    write_merged(
        results_file,
        old,
        collect_meta(started, threads=study.threads),
        study.rows,
        differences=study.differences,
        absent=study.absent,
        models=study.models,
    )
    if track:
        uri = track_models(out, study.dataset, cell_figures(out))
        print_note(f"tracked in {uri}")
    compared = {difference.protocol for difference in study.differences}
    for name in TESTED_PROTOCOLS:
        if any(row.protocol == name for row in study.rows):
            console().print(results_table(study.rows, name))
        if name in compared:
            console().print(differences_table(study.differences, name, TESTED_METRICS[-1]))
    for absent in study.absent:
        print_result(f"{absent.model}: {absent.reason}")
    print_note(f"results: {results_file}")
    if study.failures:
        count = len(study.failures)
        print_result(
            f"{count} cell{'s' * (count > 1)} failed: {', '.join(study.failures)}; "
            "run the same command to try again",
            style="red",
        )
        raise typer.Exit(1)


def _ablate_columns(
    dataset: str,
    out: Path,
    variants: Sequence[str] | None,
    seeds: int,
    text_encoder: str,
    json_file: Path | None,
) -> None:
    from twotower.console import differences_table, reporting, results_table
    from twotower.data import Dataset
    from twotower.evaluation.protocols import FULL
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.results import write_results
    from twotower.reporting.product_names import DEFAULT_MODEL
    from twotower.study.columns import METRICS, NEW_USERS, ColumnStudy, ablate_columns
    from twotower.workflow.models import named_variant

    if variants and len(variants) > 1:
        raise InputError("--columns is of one model", "name one --variant, or none")
    started, path = datetime.now(UTC), json_file or out / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(study: ColumnStudy) -> None:
        write_results(path, collect_meta(started), study.rows, differences=study.differences)

    variant = named_variant(variants[0] if variants else DEFAULT_MODEL, text_encoder)
    with reporting(notes()) as reporter:
        found = ablate_columns(
            Dataset.load(Path(dataset)), out, variant, seeds=seeds, reporter=reporter,
            measured=write,
        )  # fmt: skip
    for protocol in (FULL, NEW_USERS):
        console().print(results_table(found.rows, protocol))
        console().print(differences_table(found.differences, protocol, METRICS[-1]))
    print_result(f"results: {path}")


def tune(
    variant: Annotated[str, typer.Argument(help="two-tower, mf, lightgcn, v1 … v9")],
    dataset: Annotated[
        str, typer.Option("--dataset", help="A name, or a path, also of a prepared data set.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for trials and the best settings.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials in all.")] = 20,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Begin no trial after so many minutes.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option("--space", help="JSON file of what to search, not the default.")
    ] = None,
    epochs: Epochs = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    k_core: KCore = None,
    text_encoder: TextEncoderName = "minilm",
    device: DeviceName = None,
    precision: PrecisionName = None,
    json_file: JsonFile = None,
) -> None:
    """Search a variant's settings by validation NDCG@10. Run again, it resumes.

    Example: `twotower tune two-tower --dataset sample --trials 20 --out runs/tuned`
    """
    from twotower.console import reporting
    from twotower.study.search_space import read_space, space_of
    from twotower.study.tuning import tune as search
    from twotower.training.device import on_device
    from twotower.workflow.datasets import find_dataset
    from twotower.workflow.models import named_variant
    from twotower.workflow.run import prepared_dataset

    settings = on_device(named_variant(variant, text_encoder), device, precision)
    settings = settings.with_epochs(epochs)
    chosen = space_of(settings) if space is None else read_space(space, settings)
    source, preparation = find_dataset(dataset)
    with reporting(notes()) as reporter:
        tuned = search(
            settings,
            chosen,
            prepared_dataset(
                source, out / "dataset", changed_settings(preparation, k_core=k_core), reporter
            ),
            out,
            name=variant,
            trials=trials,
            minutes=minutes,
            seed=seed,
            reporter=reporter,
        )
    counts = {state: sum(trial.state == state for trial in tuned.trials)
              for state in ("complete", "pruned", "failed")}  # fmt: skip
    print_result(
        f"best validation NDCG@10 {tuned.value:.4f}; trials: "
        + ", ".join(f"{count} {state}" for state, count in counts.items())
    )
    command = f"twotower train --data {out / 'dataset'} --settings {tuned.file} --out …"
    print_note(f"best settings: {tuned.file}; {command}")
    write_json(
        json_file,
        {
            "value": tuned.value,
            "best": tuned.best.model_dump(mode="json"),
            "trials": [asdict(trial) for trial in tuned.trials],
        },
    )


def report(
    results: Annotated[list[Path], typer.Argument(help="Results files of one data set.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML page to write.")],
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Published figures to compare with.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Also write the main chart as SVG.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Write one self-contained page with the tables and charts of a study.

    Example: `twotower report runs/study/results.json --out runs/study/report.html`
    """
    from twotower.reporting.page import write_page
    from twotower.reporting.picture import write_picture
    from twotower.reporting.study_results import StudyFigures

    figures = StudyFigures.read(results, reference=reference)
    write_page(out, figures)
    print_note(f"report written to {out}")
    if picture is not None:
        write_picture(picture, figures)
        print_note(f"picture written to {picture}")
    write_json(json_file, {"report": str(out), "picture": picture and str(picture)})


def _seeds(options: Sequence[str], default: int) -> dict[str, int]:
    """``v1=3`` asks for three seeds of v1, ``v1`` for the default."""
    seeds: dict[str, int] = {}
    for option in options:
        name, equals, count = option.partition("=")
        if equals and not (count.isdecimal() and int(count) > 0):
            raise InputError(
                f"--variant must be NAME or NAME=SEEDS, got {option!r}", "such as v1=3"
            )
        if name in seeds:
            raise InputError(f"--variant {name} is given twice", f"pass --variant {name}=SEEDS")
        seeds[name] = int(count) if equals else default
    return seeds
