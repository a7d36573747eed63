"""What was measured: every figure comes from a results file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import streamlit as st

from twotower.demo import cards, charts
from twotower.demo.figures import Figures, find_figures, places, stamp
from twotower.demo.opened import Opened
from twotower.demo.settings import DemoSettings
from twotower.evaluation.registry import FULL, SAMPLED
from twotower.evaluation.report_charts import (
    curves_chart,
    differences_chart,
    gates_chart,
    lines_chart,
    models_chart,
    sampled_against_full_chart,
    time_chart,
)
from twotower.evaluation.report_data import QUALITY, StudyFigures
from twotower.evaluation.report_words import extremes_in_words, verdicts_in_words
from twotower.evaluation.results import Row

_TABLES: Final = {
    FULL: (
        "Full ranking",
        "Every item that the user has not seen competes with the one that was bought next: the "
        "honest figure. HR@10 is the share of users for whom it is among the first ten.",
    ),
    SAMPLED: (
        "Among 100 sampled items",
        "The bought item competes with 100 others. The figures are much larger, and flatter all "
        "models, so compare them with other sampled figures alone.",
    ),
    "full-unmasked": ("Full ranking, seen items included", "Nothing is left out of the ranking."),
    "new-items": ("New items", "Only items that training never saw."),
    "new-users": ("New users", "Only people that training never saw."),
    "known-users": ("Known users", "The same question for people that training knows."),
}
_STEPS: Final = {
    "cold-start": (
        "Cold start",
        "newest items of the history that the model is told",
        "How much each model makes of one, three or ten items: the left end is somebody new.",
    ),
    "by-activity": (
        "By activity",
        "items in the history",
        "Quality for people with few and with many purchases.",
    ),
}


def show(opened: Opened, settings: DemoSettings) -> None:
    """Draw the page."""
    st.html(
        cards.hero(
            "How good is it?",
            "Every model is asked for the one item that each user bought next and that it never "
            "saw. All figures on this page are read from results files.",
        )
    )
    where = places(opened.folder, settings.results)
    found = _read(tuple(str(path) for path in where), stamp(where))
    for path, reason in found.broken.items():
        st.warning(
            f"{cards.plain(f'{path.name} cannot be read and is left out: {reason}')}",
            icon=":material/warning:",
        )
    studies = [study for study in found.studies() if _ranked(found, study)]
    if not studies:
        st.info(
            "No results were found beside the bundle or in benchmarks/results. "
            "Give some with `--results FILE`.",
            icon=":material/folder_off:",
        )
        return
    ours = [study[0] for study in studies]
    name = opened.manifest.info.dataset
    study = st.selectbox(
        "Data set and split",
        studies,
        index=ours.index(name) if name in ours else 0,
        format_func=", ".join,
        key="study",
        help="The bundle's own data set comes first where it was measured.",
    )
    figures = StudyFigures.of(found.of(*study))
    _tables(figures)
    _steps(figures)
    _study(figures)
    _training(figures)
    _sources(figures)


def _ranked(found: Figures, study: tuple[str, str]) -> bool:
    return any(row.protocol in _TABLES for of in found.of(*study) for row in of.rows)


@st.cache_resource(max_entries=4, show_spinner="Reading results …")
def _read(where: tuple[str, ...], changed: tuple[tuple[str, int], ...]) -> Figures:
    del changed
    return find_figures(Path(path) for path in where)


def _tables(figures: StudyFigures) -> None:
    shown = {name: words for name, words in _TABLES.items() if figures.protocols(name)}
    if not shown:
        st.info("This data set has no ranking figures.", icon=":material/leaderboard:")
        return
    for tab, (protocol, (_, words)) in zip(
        st.tabs([title for title, _ in shown.values()]), shown.items(), strict=True
    ):
        with tab:
            st.markdown(words)
            if QUALITY in {row.metric for row in figures.rows if row.protocol == protocol}:
                st.html(cards.lead(extremes_in_words(figures, protocol, "Here")))
                charts.draw(
                    charts.adapted(models_chart(figures, protocol)),
                    f"models-{protocol}",
                    what=f"{QUALITY} of each model with its 95% interval, {protocol}",
                    reading="A point is a model, its line the 95% interval. Where two lines do not "
                    "overlap, the difference is more than chance.",
                )
            st.html(_table(figures, protocol))
            st.caption("In brackets the 95% interval over users; bold is the best of a column.")


def _table(figures: StudyFigures, protocol: str) -> str:
    rows = [row for row in figures.rows if row.protocol == protocol]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    models = list(dict.fromkeys(row.model for row in rows))
    by_key = {(row.model, row.metric): row for row in rows}
    best = frozenset(
        (models.index(first.model), column)
        for column, metric in enumerate(metrics, start=1)
        for first in [max((row for row in rows if row.metric == metric), key=lambda row: row.value)]
    )
    body = [
        [model, *(_cell(by_key.get((model, metric))) for metric in metrics)] for model in models
    ]
    return cards.table(["model", *metrics], body, best)


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    interval = "" if row.low is None else f" [{row.low:.4f}, {row.high:.4f}]"
    return f"{row.value:.4f}{interval}"


def _steps(figures: StudyFigures) -> None:
    for prefix, (title, axis, reading) in _STEPS.items():
        names = [name for name in figures.protocols(prefix) if figures.by_model(name, QUALITY)]
        if names:
            st.subheader(title)
            labels = {name: name.removeprefix(prefix).strip("-") or name for name in names}
            charts.draw(
                charts.adapted(lines_chart(figures, labels, axis)), f"steps-{prefix}",
                what=f"{QUALITY} of each model by {axis}", reading=reading,
            )  # fmt: skip


def _study(figures: StudyFigures) -> None:
    differences = figures.compared()
    if differences:
        st.subheader("What each part is worth")
        st.html(cards.lead(verdicts_in_words(figures, differences)))
        charts.draw(
            charts.adapted(differences_chart(figures)), "ablation",
            what="Difference of each variant to its parent, with its 95% interval",
            reading="Each line is a model against the one that it was made from. Right of zero it "
            "is better; a hollow point means that chance alone may explain the difference.",
        )  # fmt: skip
    if any(row.protocol == "gates" for row in figures.rows):
        st.subheader("What the towers listen to")
        charts.draw(
            charts.adapted(gates_chart(figures)), "gates",
            what="Weights of the parts of each tower",
            reading="A gate says how much of a tower's vector comes from each part, on average.",
        )  # fmt: skip


def _training(figures: StudyFigures) -> None:
    if any(name.startswith("epoch-") for name in figures.protocols("epoch-")):
        st.subheader("How they learned")
        charts.draw(
            charts.adapted(curves_chart(figures)), "curves",
            what="Validation quality by epoch, a line a model",
            reading="Quality on validation after each pass over the data. Training stops where it "
            "no longer rises.",
        )  # fmt: skip
    timed = figures.by_model("timing", "training-seconds")
    if timed and figures.by_model(FULL, QUALITY):
        st.subheader("What they cost")
        charts.draw(
            charts.adapted(time_chart(figures)), "cost",
            what="Quality of each model against its seconds of training",
            reading="Up is better, left is cheaper.",
        )  # fmt: skip
    both = figures.by_model(FULL, QUALITY), figures.by_model(SAMPLED, QUALITY)
    if len(both[0].keys() & both[1].keys()) > 1:
        st.subheader("Do easy questions flatter?")
        charts.draw(
            charts.adapted(sampled_against_full_chart(figures)), "sampled-against-full",
            what="Quality under sampled ranking against quality under full ranking",
            reading="A model that stands further right than up looks better among 100 sampled "
            "items than it is among all.",
        )  # fmt: skip


def _sources(figures: StudyFigures) -> None:
    with st.expander("Where these figures come from", icon=":material/receipt_long:"):
        rows: list[Sequence[str]] = [
            [meta.command, meta.commit or "–", meta.machine, meta.started] for meta in figures.metas
        ]
        st.html(cards.table(["command", "commit", "machine", "started"], rows, frozenset()))
