"""Merging of results files: figures that stay when some models are measured again."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from twotower.errors import InputError
from twotower.evaluation.results import (
    Absent,
    Difference,
    Earlier,
    Meta,
    Results,
    Row,
    write_results,
)

_COMPARED: Final = "HR@10"
"""A metric of every protocol; models are comparable if it has the same number of queries."""


def kept_results(old: Results, rows: Sequence[Row], measured: Collection[str]) -> Results:
    """The part of a file that stays when the ``measured`` models get new figures.

    Figures of other models are kept. Differences are kept if neither model nor parent was measured
    again; their p-value correction is that of their original run.

    Parameters
    ----------
    old
        The file as it is.
    rows
        The new figures, of one data set.

    Raises
    ------
    InputError
        If the new figures are of another data set, another split or other queries.
    """
    stay = [row for row in old.rows if row.model not in measured]
    compared = {row.protocol: row for row in rows if row.metric == _COMPARED}
    for row in stay:
        new = compared.get(row.protocol, rows[0] if rows else row)
        same = row.metric != _COMPARED or new.protocol != row.protocol or row.users == new.users
        if (row.dataset, row.split) != (new.dataset, new.split) or not same:
            raise InputError(
                f"{row.model} was measured on {_queries(row)}, {new.model} on {_queries(new)}",
                "name another results file, or measure all models again",
            )
    claimed = {model for run in old.earlier for model in run.models}
    last = dict.fromkeys(row.model for row in old.rows if row.model not in claimed)
    runs = [*old.earlier, Earlier(meta=old.meta, models=list(last))]
    left = [[model for model in run.models if model not in measured] for run in runs]
    return Results(
        meta=old.meta,
        rows=stay,
        differences=[d for d in old.differences if not {d.model, d.parent} & {*measured}],
        absent=[absent for absent in old.absent if absent.model not in measured],
        models={name: words for name, words in old.models.items() if name not in measured},
        earlier=[
            Earlier(meta=run.meta, models=models)
            for run, models in zip(runs, left, strict=True)
            if models
        ],
    )


def write_merged(
    path: Path,
    old: Results | None,
    meta: Meta,
    rows: Sequence[Row],
    *,
    differences: Sequence[Difference] = (),
    absent: Sequence[Absent] = (),
    models: Mapping[str, str] | None = None,
) -> None:
    """Write new figures behind those of ``old`` that `kept_results` keeps; None keeps nothing."""
    measured = {row.model for row in rows} | {model.model for model in absent}
    kept = Results(meta=meta, rows=[]) if old is None else kept_results(old, rows, measured)
    write_results(
        path,
        meta,
        [*kept.rows, *rows],
        differences=[*kept.differences, *differences],
        absent=[*kept.absent, *absent],
        models={**kept.models, **(models or {})},
        earlier=kept.earlier,
    )


def _queries(row: Row) -> str:
    return f"{row.users:,} queries of {row.dataset}, {row.split}, {row.protocol}"
