"""Figures from finished cells: rows of a model, and differences to its parent."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple

import numpy as np

from twotower.evaluation.figures import result_rows
from twotower.evaluation.registry import FULL, SAMPLED
from twotower.evaluation.results import Difference, Row, verdict
from twotower.evaluation.significance import bootstrap_interval, holm_bonferroni, sign_flip_test
from twotower.study.ablation.cell import CellRecord, read_evaluation
from twotower.training.progress import TrainingState
from twotower.types import DoubleArray

TESTED_PROTOCOLS: Final[tuple[str, ...]] = (FULL, SAMPLED)
TESTED_METRICS: Final[tuple[str, ...]] = ("HR@10", "NDCG@10")
"""Differences are tested for these; all tests of a study are one family for the correction."""


class ModelFigures(NamedTuple):
    """Figures of a model over its cells."""

    rows: list[Row]
    tested: Mapping[str, DoubleArray]
    """Protocol → ``(queries, TESTED_METRICS)``, values averaged over seeds query by query."""
    by_seed: Mapping[str, DoubleArray]
    """Protocol → ``(seeds, TESTED_METRICS)`` means of each seed."""
    seeds: tuple[int, ...]


def model_figures(records: Sequence[CellRecord], out: Path, split: str) -> ModelFigures:
    """Rows of a model from its finished cells, and values for comparing it.

    Parameters
    ----------
    records
        One per seed, in the order of seeds; protocols that all of them have are reported.
    """
    cell = records[0].cell
    shared = set.intersection(*(set(record.means) for record in records))
    runs = {record.cell.seed: read_evaluation(record, out, shared) for record in records}
    rows = result_rows(runs, dataset=records[0].dataset, split=split, model=cell.model)
    measured = [run.values for run in runs.values()]
    columns = [records[0].metrics.index(metric) for metric in TESTED_METRICS]
    compared = [protocol for protocol in TESTED_PROTOCOLS if protocol in shared]
    tested = {p: np.mean([values[p][:, columns] for values in measured], axis=0) for p in compared}
    by_seed = {
        p: np.stack([values[p][:, columns].mean(axis=0) for values in measured]) for p in compared
    }
    if cell.variant is None:
        rows = [row.model_copy(update={"seeds": []}) for row in rows]  # nothing random in it
        return ModelFigures(rows, tested, by_seed, ())
    extra = [*_seed_spread(rows, records), *_training(rows[0], records), *_gates(rows[0], records)]
    return ModelFigures(rows + extra, tested, by_seed, tuple(runs))


def differences(
    figures: Mapping[str, ModelFigures], parents: Mapping[str, str | None]
) -> list[Difference]:
    """Every model against its parent, where both were measured.

    The p-values are corrected over all of them together.
    """
    found: list[dict[str, Any]] = []
    for model, own in figures.items():
        parent = parents.get(model)
        if parent is None or parent not in figures:
            continue
        other, like = figures[parent], own.rows[0]
        for protocol in (name for name in own.tested if name in other.tested):
            found += compared(
                own.tested[protocol] - other.tested[protocol], TESTED_METRICS,
                _seed_errors(own.by_seed[protocol], other.by_seed[protocol]),
                dataset=like.dataset, split=like.split, model=model, parent=parent,
                protocol=protocol, seeds=list(own.seeds), parent_seeds=list(other.seeds),
            )  # fmt: skip
    return corrected(found)


def compared(
    gained: DoubleArray,
    metrics: Sequence[str],
    seed_errors: DoubleArray | None = None,
    **named: object,
) -> list[dict[str, Any]]:
    """Fields of a `Difference` for each metric, before the correction of ``p``.

    ``gained`` are ``(queries, metrics)`` values minus the parent's, ``seed_errors`` ``(metrics,)``
    standard errors over training seeds, ``named`` the fields that all have.
    """
    low, high = bootstrap_interval(gained)
    figures = {"value": gained.mean(axis=0), "low": low, "high": high, "p": sign_flip_test(gained)}
    if seed_errors is not None:
        figures["seed_error"] = seed_errors
    shared = named | {"users": len(gained)}
    return [
        shared | {"metric": metric} | {name: of[at] for name, of in figures.items()}
        for at, metric in enumerate(metrics)
    ]


def corrected(found: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Differences with verdicts, their p-values corrected over all of them (Holm)."""
    values = [float(f"{row['value']:.6g}") for row in found]  # as a results file keeps them
    p = [float(f"{p:.6g}") for p in holm_bonferroni([row["p"] for row in found])]
    return [
        Difference(**row, p_corrected=p_row, verdict=verdict(value, p_row))
        for row, value, p_row in zip(found, values, p, strict=True)
    ]


def _seed_errors(own: DoubleArray, other: DoubleArray) -> DoubleArray | None:
    """Standard error over seeds of the difference of two means (Welch)."""
    if min(len(own), len(other)) < 2:
        return None
    error: DoubleArray = np.sqrt(
        own.var(axis=0, ddof=1) / len(own) + other.var(axis=0, ddof=1) / len(other)
    )
    return error


def _seed_spread(rows: Sequence[Row], records: Sequence[CellRecord]) -> Iterator[Row]:
    """Standard deviation over seeds of each figure, where there are several."""
    if len(records) < 2:
        return
    for row in rows:
        if row.low is not None:  # a figure of all lists together has no value per query
            values = [record.means[row.protocol][row.metric] for record in records]
            yield _derived(row, row.protocol, f"seed-sd-{row.metric}", [stdev(values)])


def _training(like: Row, records: Sequence[CellRecord]) -> Iterator[Row]:
    """Training time, the best epoch, and the curve of every epoch that a seed reached."""
    states = [
        TrainingState.from_json(dict(record.training)) for record in records if record.training
    ]
    seconds = [sum(epoch.seconds for epoch in state.epochs) for state in states]
    yield _derived(like, "timing", "training-seconds", seconds)
    best = [1.0 + (state.best_epoch or 0) for state in states]
    yield _derived(like, "timing", "best-epoch", best)
    for number in range(max(len(state.epochs) for state in states)):
        epochs = [state.epochs[number] for state in states if number < len(state.epochs)]
        protocol = f"epoch-{number + 1}"
        yield _derived(like, protocol, "loss", [epoch.loss for epoch in epochs])
        validated = [epoch.metric for epoch in epochs if epoch.metric is not None]
        if validated:
            yield _derived(like, protocol, "validation-NDCG@10", validated)


def _gates(like: Row, records: Sequence[CellRecord]) -> Iterator[Row]:
    """Weights of the fusion gates of both towers, read from the trained models."""
    for tower, parts in records[0].gates.items():
        for part in parts:
            weights = [record.gates[tower][part] for record in records]
            yield _derived(like, "gates", f"{tower}-{part}", weights)


def _derived(like: Row, protocol: str, metric: str, values: Sequence[float]) -> Row:
    """A row beside ``like``: the mean over seeds, with the least and the greatest of them."""
    return like.model_copy(
        update={
            "protocol": protocol,
            "metric": metric,
            "value": float(f"{fmean(values):.6g}"),
            "low": float(f"{min(values):.6g}"),
            "high": float(f"{max(values):.6g}"),
        }
    )
