"""Ablation study: run the grid and compare every variant with its parent."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from twotower.data import Dataset
from twotower.data.atomic import atomic_file
from twotower.data.settings import PrepareSettings
from twotower.errors import InputError
from twotower.evaluation.registry import PROTOCOLS, by_name
from twotower.evaluation.results import Absent, Difference, Row
from twotower.locks import locked
from twotower.machine import usable_cores
from twotower.study.ablation.cell import NEGATIVES, Cell, CellRecord, finished_cell
from twotower.study.ablation.grid import CHANGES, PARENTS, Grid, default_models, make_grid
from twotower.study.ablation.pool import run_cells
from twotower.study.ablation.summary import ModelFigures, differences, model_figures
from twotower.workflow.evaluation import Evaluator, split_name
from twotower.workflow.item_images import NO_IMAGES, item_image
from twotower.workflow.models import item_text
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.run import prepared_dataset

LOCK: Final = ".lock"
MEANS: Final = "cells.parquet"
"""File with the mean of every cell, protocol and metric."""


@dataclass(frozen=True)
class Study:
    """Results of `ablate`."""

    dataset: str
    rows: list[Row]
    differences: list[Difference]
    absent: list[Absent]
    failures: Mapping[str, str]
    """Cell → why it failed; figures are of the others."""
    models: Mapping[str, str]
    """Models that are compared or left out → change from the parent, in words."""
    threads: int
    """Threads that each cell had."""


def ablate(
    source: Path,
    out: Path,
    *,
    settings: PrepareSettings | None = None,
    seeds: Mapping[str, int] | None = None,
    protocols: Sequence[str] = PROTOCOLS,
    text_encoder: str = "minilm",
    jobs: int | None = None,
    reporter: Reporter | None = None,
) -> Study:
    """Train and evaluate a grid of models and seeds, and compare each with its parent.

    Called again with the same ``out``, it resumes: finished cells are read, half-trained models
    continue from their checkpoints. ``out`` may be a folder of `run`, whose
    models are then taken as they are.

    Parameters
    ----------
    source
        What `prepare` reads, or a folder that `prepare` or `hold_out` wrote.
    out
        Folder for ``dataset``, ``models``, ``cells``, ``logs``, ``sampled-negatives.parquet``
        and ``cells.parquet``, the means of all cells.
    settings
        How ``source`` is prepared.
    seeds
        Model → number of training seeds; None takes the baselines and the whole study once.
    jobs
        Cells at a time; None takes as many as there are cores.

    Raises
    ------
    InputError
        An unknown model or protocol, numbers below 1, or another study running in ``out``.
    ArtefactError
        Where ``out`` holds cells of other settings or data.
    """
    reporter = reporter or Silent()
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs must be at least 1, got {jobs}")
    seeds = seeds if seeds is not None else dict.fromkeys(default_models(), 1)
    by_name(protocols)  # before anything is prepared
    with study_lock(out):
        dataset = prepared_dataset(source, out / "dataset", settings, reporter)
        grid = make_grid(seeds, dataset, text_encoder=text_encoder)
        return _run(grid, dataset, out, protocols, jobs, reporter)


@contextmanager
def study_lock(out: Path) -> Iterator[None]:
    """Hold a study's folder; the lock ends with the process, however it ends.

    A folder that was made for it and has nothing else in the end is gone, as after a wrong option.

    Raises
    ------
    InputError
        Where another process holds it: two would train the same cells into the same files.
    """
    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    refusal = InputError(
        f"another study is running in {out}", "wait for it, or choose another folder"
    )
    with locked(out / LOCK, refusal):
        try:
            yield
        finally:
            if is_new and {path.name for path in out.iterdir()} <= {LOCK}:
                shutil.rmtree(out)


def _run(
    grid: Grid,
    dataset: Dataset,
    out: Path,
    protocols: Sequence[str],
    jobs: int | None,
    reporter: Reporter,
) -> Study:
    finished = {cell: _finished(cell, dataset, out, protocols) for cell in grid.cells}
    open_cells = [cell for cell, record in finished.items() if record is None]
    if open_cells:
        grid = grid.without(_share_inputs(open_cells, dataset, out, protocols, reporter))
        open_cells = [cell for cell in open_cells if cell in grid.cells]
    for model, reason in grid.absent.items():
        reporter.note(f"{model} is left out: {reason}")
    jobs = jobs or max(1, min(usable_cores(), len(open_cells)))
    if open_cells:
        done = len(grid.cells) - len(open_cells)
        reporter.note(f"{len(grid.cells)} cells, {done} of them found finished; {jobs} at a time")
    failures = run_cells(open_cells, grid.needs, out, protocols, jobs=jobs, reporter=reporter)
    figures = _figures(grid, dataset, out, protocols, reporter)
    return Study(
        dataset=dataset.name,
        rows=[row for found in figures.values() for row in found.rows],
        differences=_differences(figures, reporter),
        absent=[
            Absent(dataset=dataset.name, model=model, reason=reason)
            for model, reason in grid.absent.items()
        ],
        models={model: CHANGES[model] for model in (*figures, *grid.absent) if model in CHANGES},
        failures={cell.label: reason for cell, reason in failures.items()},
        threads=max(1, usable_cores() // jobs),
    )


def cell_figures(out: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Figures of `ablate` cell by cell: model and seed → ``protocol.metric`` → mean."""
    figures: dict[tuple[str, int], dict[str, float]] = {}
    for row in pl.read_parquet(out / MEANS).iter_rows(named=True):
        name = f"{row['protocol']}.{row['metric']}"
        figures.setdefault((row["model"], row["seed"]), {})[name] = row["value"]
    return figures


def _finished(
    cell: Cell, dataset: Dataset, out: Path, protocols: Sequence[str]
) -> CellRecord | None:
    record = finished_cell(cell, dataset.fingerprint, out)
    return record if record and set(protocols) <= set(record.asked) else None


def _share_inputs(
    cells: Sequence[Cell], dataset: Dataset, out: Path, protocols: Sequence[str], reporter: Reporter
) -> dict[str, str]:
    """Make the inputs that cells share: sampled negatives, text and image vectors.

    Returned are the models for which there are no images, with the reason.
    """
    Evaluator(
        dataset,
        protocols=protocols,
        negatives_file=out / NEGATIVES,
        text_encoder=cells[0].text_encoder,
        reporter=reporter,
    )
    without_images: dict[str, str] = {}
    for model, variant in {cell.model: cell.variant for cell in cells if cell.variant}.items():
        item_text(variant, dataset, reporter)
        try:
            item_image(variant, dataset, reporter)
        except InputError as error:
            if not error.what.startswith(NO_IMAGES):
                raise
            without_images[model] = error.what
    return without_images


def _figures(
    grid: Grid, dataset: Dataset, out: Path, protocols: Sequence[str], reporter: Reporter
) -> dict[str, ModelFigures]:
    split = split_name(dataset)
    figures: dict[str, ModelFigures] = {}
    means: list[dict[str, object]] = []
    advance = reporter.counting("intervals", len(grid.models))
    for model in grid.models:
        records = [
            record
            for cell in grid.of(model)
            if (record := _finished(cell, dataset, out, protocols)) is not None
        ]
        if records:
            figures[model] = model_figures(records, out, split)
            means += [row for record in records for row in _means(record)]
        advance(1)
    with atomic_file(out / MEANS) as temporary:
        pl.DataFrame(means).write_parquet(temporary)
    return figures


def _means(record: CellRecord) -> list[dict[str, object]]:
    return [
        {
            "dataset": record.dataset,
            "model": record.cell.model,
            "seed": record.cell.seed,
            "protocol": protocol,
            "metric": metric,
            "value": value,
        }
        for protocol, by_metric in record.means.items()
        for metric, value in by_metric.items()
    ]


def _differences(figures: Mapping[str, ModelFigures], reporter: Reporter) -> list[Difference]:
    for model in figures:
        parent = PARENTS.get(model)
        if parent is not None and parent not in figures:
            reporter.note(f"{model} is not compared: its parent {parent} has no figures")
    return differences(figures, PARENTS)
