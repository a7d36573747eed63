"""Ablation of declared columns: the default model without each, on the same queries."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from twotower.data import Dataset, Histories, Queries
from twotower.data.holdouts import hold_out, of_new_users
from twotower.data.schema import SIDES
from twotower.errors import InputError
from twotower.evaluation.figures import Evaluation
from twotower.evaluation.protocols import FULL, evaluate, evaluate_queries
from twotower.evaluation.registry import FULL_TIMED
from twotower.evaluation.results import Difference, Row
from twotower.evaluation.significance import bootstrap_interval
from twotower.factors.popularity import Popularity
from twotower.models.base import Scorer
from twotower.models.sequence_towers import SequenceConfig
from twotower.study.ablation.summary import compared, corrected
from twotower.training.fit import Trained
from twotower.training.sizing import sized
from twotower.training.variant import Variant
from twotower.types import DoubleArray
from twotower.workflow.evaluation import split_name
from twotower.workflow.models import trained_model
from twotower.workflow.progress import Reporter, Silent

ALL: Final = "all columns"
NONE: Final = "no columns"
ATTRIBUTES: Final = "attributes alone"
POPULARITY: Final = "popularity"
NEW_USERS: Final = "new-users"
"""Protocol for cold-start users: users held out of training, represented by their columns alone,
with all their items as targets."""
NEW_SHARE: Final = 0.2
"""Share of the users held out for it."""
METRICS: Final = ("HR@10", "NDCG@10")


@dataclass
class ColumnStudy:
    """Figures of `ablate_columns` measured so far."""

    rows: list[Row]
    differences: list[Difference]


def ablate_columns(
    dataset: Dataset,
    out: Path,
    variant: Variant,
    *,
    seeds: int = 1,
    each: bool = True,
    reporter: Reporter | None = None,
    measured: Callable[[ColumnStudy], None] | None = None,
) -> ColumnStudy:
    """Train with all columns, with none, and without each in turn.

    Columns are the declared ones and the time of the events; without it the log still has an order.
    All models share the least-squares settings that validation chose for the first. Differences are
    to the model with all columns, paired by query and averaged over seeds. With user columns,
    cold-start users are also evaluated, with popularity as the baseline. In a log with times,
    models that read them get the time of each target, as in serving.

    Parameters
    ----------
    out
        Folder of the models; models found there are not trained again.
    each
        Whether to leave out each column in turn, and evaluate new users; else only all columns are
        compared with none.
    measured
        Called with all figures so far whenever there are more.

    Raises
    ------
    InputError
        Where the data set has no declared column that the model reads.
    """
    reporter = reporter or Silent()
    if not isinstance(variant.model, SequenceConfig) or not variant.model.vary(
        columns="all"
    ).reads_columns(dataset):
        raise InputError(
            f"data set {dataset.name!r} has no declared columns that the model reads",
            "declare some: 'twotower inspect' writes a schema to edit",
        )
    study = _Study(
        dataset, out, sized(variant, dataset.train, in_order=dataset.in_order), seeds, reporter
    )
    asked = _protocol(dataset)
    figures: dict[str, dict[str, DoubleArray]] = {}
    result = ColumnStudy([], [])

    def add(name: str, protocol: str, found: DoubleArray, of_seeds: list[int]) -> None:
        figures.setdefault(protocol, {})[name] = found
        result.rows = [*result.rows, *_rows(dataset, name, protocol, found, of_seeds)]
        result.differences = [
            difference
            for protocol, parent in ((asked, ALL), (NEW_USERS, POPULARITY))
            for difference in _differences(
                dataset, protocol, parent, figures.get(protocol, {}), list(range(seeds))
            )
        ]
        if measured is not None:
            measured(result)

    for name, less, columns in _ablations(dataset):
        add(name, asked, study.of_known_users(name, less, columns), list(range(seeds)))
        if name == NONE and not each:
            break
        if name == NONE and dataset.schema.features("users"):
            new = study.of_new_users()
            add(POPULARITY, NEW_USERS, new[POPULARITY], [])
            add(ATTRIBUTES, NEW_USERS, new[ATTRIBUTES], list(range(seeds)))
    return result


def _protocol(dataset: Dataset) -> str:
    return FULL if dataset.interactions.timestamps is None else FULL_TIMED


def _ablations(dataset: Dataset) -> Iterator[tuple[str, Dataset, str]]:
    """Name, data and setting of each model; the reference model comes first."""
    schema, ordered = dataset.schema, _without_time(dataset)
    yield ALL, dataset, "all"
    yield NONE, ordered, "none"
    if ordered is not dataset and ordered.schema.has_features:
        yield "without events.time", ordered, "all"
    sides: Mapping[str, Mapping[str, object]]
    sides = {side: schema.features(side) for side in SIDES}
    for side, columns in sides.items():
        for name in columns:
            less = schema.without(side, name)  # type: ignore[arg-type]
            if less.has_features:
                yield f"without {side}.{name}", replace(dataset, schema=less), "all"


def _without_time(dataset: Dataset) -> Dataset:
    """The order of the events alone, and no column that derives from their time."""
    log, schema = dataset.interactions, dataset.schema
    if log.timestamps is None:
        return dataset
    for name in schema.time_columns:
        schema = schema.without("events", name)
    return replace(dataset, interactions=replace(log, timestamps=None), schema=schema)


@dataclass
class _Study:
    dataset: Dataset
    out: Path
    variant: Variant
    seeds: int
    reporter: Reporter

    def of_known_users(self, name: str, dataset: Dataset, columns: str) -> DoubleArray:
        """``(queries, metrics)`` of the test part, a mean over the seeds."""
        asked = _protocol(dataset)
        found = [
            _values(evaluate(scorer, dataset, protocols=(asked,), metrics=METRICS), asked)
            for scorer in self._scorers(name, dataset, columns)
        ]
        return np.asarray(np.mean(found, axis=0), dtype=np.float64)

    def of_new_users(self) -> dict[str, DoubleArray]:
        """The same of users who were held out of training, by the columns and by popularity."""
        held = hold_out(self.dataset, users=NEW_SHARE, items=0)
        new = of_new_users(held)
        targets = held.interactions.keep(new)
        users = np.flatnonzero(targets.lengths).astype(np.int32)
        queries = Queries(users, Histories.from_lists([[]] * len(users)))
        targets = targets.select(users)

        def values(scorer: Scorer) -> DoubleArray:
            found = evaluate_queries(scorer, queries, targets, protocols=(FULL,), metrics=METRICS)
            return _values(found, FULL)

        popularity = Popularity.fit(held.train, len(held.items))
        by_columns = [values(scorer) for scorer in self._scorers("held-out users", held, "all")]
        return {POPULARITY: values(popularity), ATTRIBUTES: np.mean(by_columns, axis=0)}

    def _scorers(self, name: str, dataset: Dataset, columns: str) -> Iterator[Scorer]:
        folder = self.out / "".join(mark if mark.isalnum() else "-" for mark in name)
        for seed in range(self.seeds):
            trained = trained_model(
                self.variant.vary(model=self.variant.model.vary(columns=columns)),
                dataset,
                folder / f"seed-{seed}",
                name=name,
                seed=seed,
                reporter=self.reporter,
            )
            self._share_factors(trained)
            yield trained.module.scorer()

    def _share_factors(self, trained: Trained) -> None:
        """Give later models the least-squares settings chosen for the first."""
        model = self.variant.model
        if isinstance(model, SequenceConfig) and model.choose_factors:
            chosen = {key: value for key, value in trained.chosen.items() if key == "least_squares"}
            settled = model.with_chosen(chosen).vary(choose_factors=False)
            self.variant = self.variant.vary(model=settled)


def _values(found: Evaluation, protocol: str) -> DoubleArray:
    columns = [found.metrics.index(metric) for metric in METRICS]
    return found.values[protocol][:, columns]


def _rows(
    dataset: Dataset, name: str, protocol: str, values: DoubleArray, seeds: list[int]
) -> list[Row]:
    low, high = bootstrap_interval(values)
    return [
        Row(
            dataset=dataset.name, split=split_name(dataset), model=name, protocol=protocol,
            metric=metric, value=values[:, at].mean(), low=low[at], high=high[at], seeds=seeds,
            users=len(values),
        )
        for at, metric in enumerate(METRICS)
    ]  # fmt: skip


def _differences(
    dataset: Dataset,
    protocol: str,
    parent: str,
    figures: Mapping[str, DoubleArray],
    seeds: list[int],
) -> list[Difference]:
    """Of each model to the parent, corrected over all of them."""
    others = [name for name in figures if name != parent]
    if parent not in figures or not others:
        return []
    return corrected(
        [
            row
            for name in others
            for row in compared(
                figures[name] - figures[parent], METRICS, dataset=dataset.name,
                split=split_name(dataset), model=name, parent=parent, protocol=protocol,
                seeds=seeds, parent_seeds=[] if parent == POPULARITY else seeds,
            )
        ]
    )  # fmt: skip
