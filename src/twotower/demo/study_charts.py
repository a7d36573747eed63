"""Line charts and tables of a study: by history length, by activity, new users."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import streamlit as st

from twotower.demo import cards, charts
from twotower.evaluation.registry import GROUPS, segment_names
from twotower.evaluation.results import Row
from twotower.reporting.charts import lines_chart
from twotower.reporting.sentences import times_popularity, with_interval
from twotower.reporting.study_results import QUALITY, StudyFigures

_MOST_LINES: Final = 6
"""Models that a line chart shows at first."""


class _Steps(NamedTuple):
    """Protocols that are steps of one scale."""

    title: str
    axis: str
    labels: dict[str, str]
    """Protocol → its place on the axis."""
    reading: str


_STEPS: Final = (
    _Steps(
        "Cold start",
        "newest items of the history that the model gets",
        {name: name.removeprefix("history-") for name in GROUPS["cold-start"]},
        "Quality for the same users with ever longer histories: the left end is closest to a "
        "cold-start user.",
    ),
    _Steps(
        "By activity",
        "items in the history",
        {name: name.removeprefix("activity-") for name in segment_names("activity")},
        "Quality for users with few and with many interactions.",
    ),
    _Steps(
        "New users, by history",
        "items in the history",
        {name: name.removeprefix("new-users-") for name in segment_names("new-users")},
        "Users held out of training, known by their history alone.",
    ),
)


def drawn_lines(figures: StudyFigures, key: str) -> StudyFigures:
    """Figures of the models drawn as lines: at first the best ones and the weakest."""
    lines = [name for steps in _STEPS for name in steps.labels] + figures.protocols("epoch-")
    measured = {row.model for row in figures.rows if row.protocol in set(lines)}
    models = [
        model for model in dict.fromkeys(row.model for row in figures.rows) if model in measured
    ]
    if len(models) <= _MOST_LINES:
        return figures
    chosen = st.multiselect(
        "Models drawn as lines", models, [*models[: _MOST_LINES - 1], models[-1]], key=f"{key}-of",
        help="For the line charts below.",
    )  # fmt: skip
    return replace(figures, rows=[row for row in figures.rows if row.model in chosen])


def draw_steps(figures: StudyFigures, drawn: StudyFigures, key: str) -> None:
    """A chart and a table for each scale that was measured."""
    for steps in _STEPS:
        labels = {
            name: label for name, label in steps.labels.items() if figures.by_model(name, QUALITY)
        }
        if len(labels) < 2:
            continue
        st.header(steps.title)
        charts.draw(
            charts.adapted(lines_chart(drawn, labels, steps.axis)), f"{key}-{steps.title}",
            what=f"{QUALITY} of each model by {steps.axis}", reading=steps.reading,
        )  # fmt: skip
        with st.expander(f"{steps.title}: the figures", icon=":material/table:"):
            columns = {label: figures.by_model(name, QUALITY) for name, label in labels.items()}
            st.html(models_by(columns))
            st.caption(f"{QUALITY}; below each figure its 95% interval.")


def models_by(columns: Mapping[str, Mapping[str, Row]]) -> str:
    """A line a model, a column for each of these; bold is the `clearly_best`."""
    models = list(dict.fromkeys(model for rows in columns.values() for model in rows))
    best = frozenset(
        (models.index(model), at)
        for at, rows in enumerate(columns.values(), start=1)
        if (model := clearly_best(rows)) is not None
    )
    body = [
        [model, *(with_interval(of[model]) if model in of else "–" for of in columns.values())]
        for model in models
    ]
    return cards.table(["model", *columns], body, best)


def clearly_best(rows: Mapping[str, Row]) -> str | None:
    """The model whose interval lies above all others'; None where there is none.

    Examples
    --------
    >>> clearly_best({}) is None
    True
    """
    if len(rows) < 2:
        return None
    best, *level = level_with_best(rows)
    return best if not level and rows[best].low is not None else None


def level_with_best(rows: Mapping[str, Row]) -> list[str]:
    """Models whose intervals overlap that of the best one, which comes first."""
    best = max(rows.values(), key=lambda row: row.value)
    floor = best.value if best.low is None else best.low
    others = [
        name
        for name, row in rows.items()
        if name != best.model and (row.value if row.high is None else row.high) >= floor
    ]
    return [best.model, *others]


def best_in_words(rows: Mapping[str, Row]) -> str:
    """Which model is best, and which are level with it, with its ratio to popularity."""
    best, *level = level_with_best(rows)
    text = f"Highest {QUALITY}: {best}, {with_interval(rows[best])}"
    if times := times_popularity(rows, best):
        text += f", {times:.1f} times popularity's"
    if len(rows) < 2:
        return f"{text}."
    if not level:
        return f"{text}. Its interval lies above all others'."
    shown = ", ".join(level[:4]) + (f" and {len(level) - 4} more" if len(level) > 4 else "")
    return f"{text}. No clear difference to {shown}: their intervals overlap."
