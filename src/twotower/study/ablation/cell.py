"""Cell of a study: a model of one seed, trained and evaluated, or read where finished."""

import json
import re
from collections.abc import Container, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl
from pydantic import Field, ValidationError, model_validator

from twotower.config import Config, first_problem
from twotower.data import Dataset
from twotower.data.atomic import atomic_folder
from twotower.errors import ArtefactError, InputError
from twotower.evaluation.beyond_accuracy import ListFigures
from twotower.evaluation.figures import Evaluation
from twotower.factors.scorer import Scorer
from twotower.training.variant import Variant
from twotower.types import DoubleArray
from twotower.workflow.baselines import BASELINES, TEXT_BASELINES
from twotower.workflow.evaluation import Evaluator
from twotower.workflow.models import text_vectors, trained_model
from twotower.workflow.progress import Reporter

MANIFEST: Final = "manifest.json"
NEGATIVES: Final = "sampled-negatives.parquet"
"""File of the sampled negatives in a study's folder, as `twotower.workflow.run` has it."""


class Cell(Config):
    """A model and seed to train and evaluate."""

    model: str
    """Name of a variant or baseline."""
    seed: int = Field(0, ge=0)
    """Training seed; 0 for a baseline."""
    variant: Variant | None = None
    """Variant to train; None for a baseline, which is fitted without a training loop."""
    text_encoder: str = "minilm"
    """Encoder of titles, for a baseline that reads them and to describe lists."""

    @model_validator(mode="after")
    def _baseline_is_known(self) -> Self:
        if self.variant is None and self.model not in (*BASELINES, *TEXT_BASELINES):
            raise ValueError(f"model {self.model!r} is no baseline, and has no variant")
        return self

    def __hash__(self) -> int:
        return hash((self.model, self.seed))

    @property
    def label(self) -> str:
        """Name in progress and errors."""
        return self.model if self.variant is None else f"{self.model} seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Folder of its values."""
        return out / "cells" / self.model / f"seed-{self.seed}"

    def model_folder(self, out: Path) -> Path:
        """Folder of its trained model, as in `twotower.workflow.run`."""
        return out / "models" / self.model / f"seed-{self.seed}"


class CellRecord(Config):
    """Manifest of a finished cell; the values lie beside it, a file a protocol."""

    cell: Cell
    dataset: str
    dataset_fingerprint: str
    asked: tuple[str, ...]
    """Protocols that were requested; those that the data do not allow have no values."""
    metrics: tuple[str, ...]
    means: dict[str, dict[str, float]]
    """Protocol → metric → mean over the queries."""
    lists: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Protocol that describes lists → figures of all lists together, such as coverage."""
    training: dict[str, Any] | None = None
    """The `twotower.training.progress.TrainingState` of the run, None for a baseline."""
    gates: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Tower → part → weight, read from the trained model; empty where it has no gates."""


def run_cell(
    cell: Cell, dataset: Dataset, out: Path, protocols: Sequence[str], reporter: Reporter
) -> CellRecord:
    """Train, evaluate and write a cell; work of an earlier call is not repeated.

    The model and its checkpoints lie in ``cell.model_folder(out)``: killed training
    resumes from there.

    Raises
    ------
    ArtefactError
        Where a folder holds another data set's or another setting's cell or model.
    """
    found = finished_cell(cell, dataset.fingerprint, out)
    asked = found.asked if found else ()
    missing = [protocol for protocol in protocols if protocol not in asked]
    if found and not missing:
        return found
    scorer, training, gates = _scorer(cell, dataset, out, reporter)
    evaluator = Evaluator(
        dataset,
        protocols=missing,
        negatives_file=out / NEGATIVES,
        text_encoder=cell.text_encoder,
        reporter=reporter,
    )
    evaluation = evaluator(cell.label, scorer)
    if found:
        before = read_evaluation(found, out)
        evaluation = Evaluation(
            evaluation.metrics,
            {**before.values, **evaluation.values},
            {**before.lists, **evaluation.lists},
        )
    record = CellRecord(
        cell=cell,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        asked=(*asked, *missing),
        metrics=evaluation.metrics,
        means={name: _means(*table) for name, table in _tables(evaluation).items()},
        lists={name: of.totals for name, of in evaluation.lists.items()},
        training=training,
        gates=gates,
    )
    with atomic_folder(cell.folder(out)) as temporary:
        for name, (metrics, values) in _tables(evaluation).items():
            table = pl.DataFrame(values, schema=list(metrics), orient="row")
            table.write_parquet(temporary / _file_name(name))
        (temporary / MANIFEST).write_text(json.dumps(record.model_dump(mode="json"), indent=2))
    return record


def _scorer(
    cell: Cell, dataset: Dataset, out: Path, reporter: Reporter
) -> tuple[Scorer, dict[str, Any] | None, dict[str, dict[str, float]]]:
    """The scorer, with its training history and gates where it has them."""
    if cell.variant is not None:
        trained = trained_model(
            cell.variant,
            dataset,
            cell.model_folder(out),
            name=cell.model,
            seed=cell.seed,
            models=out / "models",
            reporter=reporter,
        )
        return trained.module.scorer(), asdict(trained.state), trained.module.gate_weights()
    if cell.model in TEXT_BASELINES:
        titles = text_vectors(dataset, cell.text_encoder, "title", reporter)
        return TEXT_BASELINES[cell.model](titles), None, {}
    return BASELINES[cell.model](dataset), None, {}


def finished_cell(cell: Cell, dataset_fingerprint: str, out: Path) -> CellRecord | None:
    """The record of a cell, or None where it is not finished.

    Raises
    ------
    ArtefactError
        Where it cannot be read, or is of another data set or of other settings.
    """
    file = cell.folder(out) / MANIFEST
    if not file.exists():
        return None
    try:
        record = CellRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise ArtefactError(f"{file} cannot be read ({reason}); delete its folder") from error
    for what, differs in (
        ("other settings than", record.cell != cell),
        ("another data set than", record.dataset_fingerprint != dataset_fingerprint),
    ):
        if differs:
            raise ArtefactError(
                f"{file.parent} holds {what} the cell {cell.label!r} has now; "
                "delete it, or choose another output folder"
            )
    return record


def read_evaluation(
    record: CellRecord, out: Path, protocols: Container[str] | None = None
) -> Evaluation:
    """The values of a finished cell, query by query; of all its protocols, or of some."""
    values: dict[str, DoubleArray] = {}
    lists: dict[str, ListFigures] = {}
    for name in record.means:
        if protocols is not None and name not in protocols:
            continue
        file = record.cell.folder(out) / _file_name(name)
        try:
            table = pl.read_parquet(file)
            if name in record.lists:
                found = np.ascontiguousarray(table.to_numpy())
                lists[name] = ListFigures(tuple(table.columns), found, record.lists[name])
            else:
                values[name] = np.ascontiguousarray(table.select(record.metrics).to_numpy())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ArtefactError(f"{file} cannot be read ({error}); delete its folder") from error
    return Evaluation(record.metrics, values, lists)


def _tables(evaluation: Evaluation) -> dict[str, tuple[tuple[str, ...], DoubleArray]]:
    """Name of a protocol or segment → metrics, and ``(queries, metrics)`` values."""
    return {
        **{name: (evaluation.metrics, of) for name, of in evaluation.values.items()},
        **{name: (of.metrics, of.values) for name, of in evaluation.lists.items()},
    }


def _means(metrics: Sequence[str], values: DoubleArray) -> dict[str, float]:
    return dict(zip(metrics, values.mean(axis=0).tolist(), strict=True))


def _file_name(protocol: str) -> str:
    if not re.fullmatch(r"[\w+-]+", protocol):
        raise InputError(f"protocol {protocol!r} cannot name a file")
    return f"{protocol}.parquet"
