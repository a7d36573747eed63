"""What a results file goes on with when some of its models are measured again."""

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
"""Every protocol has it: two models were asked the same if there it is of as many queries."""


def kept_of(old: Results, rows: Sequence[Row], measured: Collection[str]) -> Results:
    """The part of a file that stays when figures of the ``measured`` models take their places.

    A figure stands by itself, so that those of other models hold. Differences stay where neither
    model nor parent was measured again; their correction is that of the run that they are of.

    Parameters
    ----------
    old
        The file as it is.
    rows
        The new figures, of one data set.

    Raises
    ------
    InputError
        Where the new figures are of another data set or split, or of other queries.
    """
    stay = [row for row in old.rows if row.model not in measured]
    asked = {row.protocol: row for row in rows if row.metric == _COMPARED}
    for row in stay:
        new = asked.get(row.protocol, rows[0] if rows else row)
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
        differences=[one for one in old.differences if not {one.model, one.parent} & {*measured}],
        absent=[one for one in old.absent if one.model not in measured],
        models={name: words for name, words in old.models.items() if name not in measured},
        earlier=[
            Earlier(meta=run.meta, models=models)
            for run, models in zip(runs, left, strict=True)
            if models
        ],
    )


def write_continued(
    path: Path,
    old: Results | None,
    meta: Meta,
    rows: Sequence[Row],
    *,
    differences: Sequence[Difference] = (),
    absent: Sequence[Absent] = (),
    models: Mapping[str, str] | None = None,
) -> None:
    """`write_results`, with `kept_of` ``old`` before the new figures where there is an old file."""
    measured = {one.model for one in rows} | {one.model for one in absent}
    kept = Results(meta=meta, rows=[]) if old is None else kept_of(old, rows, measured)
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
