"""HTML page of a study's results in one file: text, tables and charts.

Needs Plotly, Matplotlib and Jinja (extra 'report'). Charts are SVG: a page has no script, needs no
network and is well under 1 MB.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from twotower.data.atomic import atomic_file
from twotower.evaluation.registry import FULL, GROUPS, SAMPLED, segment_names
from twotower.features.pretrained import require
from twotower.reporting.sentences import (
    agreement_in_words,
    costs_in_words,
    extremes_in_words,
    newcomers_in_words,
    verdicts_in_words,
)
from twotower.reporting.study_results import QUALITY, StudyFigures
from twotower.reporting.table import COLUMNS, TITLES, best_values, study_lines

READING_INTERVALS: Final = "Points are means over all queries, bars 95% intervals over queries."


class Section(NamedTuple):
    """A question, its answer in words, how to read the chart, and the chart."""

    question: str
    answer: str
    reading: str
    chart: Any


def write_page(path: Path, figures: StudyFigures) -> None:
    """Write the page, whole or not at all.

    Raises
    ------
    InputError
        Where the extra 'report' is not installed.
    """
    page = render_page(figures)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_page(figures: StudyFigures) -> str:
    """The page as text; charts are drawn for the protocols that were measured."""
    needed = ("plotly", "jinja2", "matplotlib")
    require("the report", needed, "run pip install 'twotower[report]'")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from twotower.reporting.static import static_svg

    pages = Environment(
        loader=PackageLoader("twotower.reporting"), autoescape=True, undefined=StrictUndefined
    )
    pages.filters["signed"] = "{:+.4f}".format
    lines, compared = study_lines(figures), figures.compared()
    return pages.get_template("study.html").render(
        title=f"{'What helps' if compared else 'Models'} on {figures.dataset}",
        compared=bool(compared),
        summary=verdicts_in_words(figures, compared) if compared else _best(figures),
        facts=_facts(figures),
        quality=QUALITY,
        columns=[(TITLES[protocol], metric) for protocol, metric in COLUMNS],
        lines=lines,
        best=best_values(lines),
        sections=[
            section._replace(chart=static_svg(section.chart, section.question, f"chart-{number}"))
            for number, section in enumerate(_sections(figures))
        ],
        reference=figures.reference,
        metas=figures.metas,
    )


def _sections(figures: StudyFigures) -> Iterator[Section]:
    """Sections for the protocols that were measured, in order."""
    yield from _rankings(figures)
    yield from _groups(figures)
    yield from _training(figures)


def _rankings(figures: StudyFigures) -> Iterator[Section]:
    """Models compared with their parents, with each other, and with published figures."""
    from twotower.reporting import charts

    for protocol, how in ((FULL, "by full ranking"), (SAMPLED, "among 100 sampled negatives")):
        compared = figures.compared(protocol)
        if compared:
            yield Section(
                f"Which change helps, {how}?",
                verdicts_in_words(figures, compared),
                f"Each point is a variant's {QUALITY} minus its parent's on the same users, the "
                "bar its paired 95% interval. Left of the line is worse, right is better. A "
                "verdict needs a p-value below 0.05 after correction over all tests of the study.",
                charts.differences_chart(figures, protocol),
            )
    full, sampled = (figures.by_model(name, QUALITY) for name in (FULL, SAMPLED))
    if len(full) > 1 and not figures.compared():
        yield Section(
            "How good is each model, by full ranking?",
            _best(figures),
            f"{QUALITY} among all items that the user did not have. {READING_INTERVALS}",
            charts.models_chart(figures, FULL),
        )
    if len(full.keys() & sampled.keys()) > 2:
        yield Section(
            "Do sampled negatives rank models alike?",
            agreement_in_words(figures),
            "A model further up is better when it ranks the whole catalogue, further right when "
            "it ranks 100 sampled items. Were the two measures to agree, the points would rise "
            "steadily.",
            charts.sampled_against_full_chart(figures),
        )
    if set(figures.published(SAMPLED, "HR@10")) & set(figures.by_model(SAMPLED, "HR@10")):
        yield Section(
            "How do the public reference's figures compare?",
            figures.reference.note if figures.reference else "",
            "HR@10 among 100 sampled negatives. Compare the order of models, not the digits.",
            charts.reference_chart(figures),
        )


def _groups(figures: StudyFigures) -> Iterator[Section]:
    """Users by the length of their history, new users, and new items."""
    from twotower.reporting import charts

    measured = set(figures.protocols(""))
    sizes = {
        name: name.removeprefix("history-") for name in GROUPS["cold-start"] if name in measured
    }
    if len(sizes) > 1:
        yield Section(
            "How much history does a model need?",
            extremes_in_words(figures, next(iter(sizes)), "With the shortest history"),
            "The same users in every column; the model gets only so many of their newest items. "
            f" {READING_INTERVALS}",
            charts.lines_chart(figures, sizes, "items of history"),
        )
    segments = {
        name: name.removeprefix("activity-")
        for name in segment_names("activity")
        if name in measured
    }
    if len(segments) > 1:
        yield Section(
            "Are users with short or long histories served better?",
            extremes_in_words(figures, next(iter(segments)), "For the shortest histories"),
            f"Users in groups by the length of their history. {READING_INTERVALS}",
            charts.lines_chart(figures, segments, "items of history"),
        )
    if {"new-users", "known-users"} <= measured:
        yield Section(
            "How good is it for users held out of training?",
            newcomers_in_words(figures),
            "New users were held out of training and come with their history. They are other "
            "users than the known ones, so that a small difference may be theirs.",
            charts.newcomers_chart(figures),
        )
    if "new-items" in measured:
        yield Section(
            "Are items without interactions found?",
            extremes_in_words(figures, "new-items"),
            f"Items held out of training altogether are the answers. {READING_INTERVALS}",
            charts.models_chart(figures, "new-items"),
        )


def _training(figures: StudyFigures) -> Iterator[Section]:
    """Training outcomes: gates, learning curves and times."""
    from twotower.reporting import charts

    if figures.protocols("gates"):
        yield Section(
            "What do the towers weigh?",
            "Each tower sums its parts, weighed by learned gates that add up to one.",
            "Weights are read from the trained models, a mean over seeds. They are a part's weight "
            "in the sum, not what would be lost without it.",
            charts.gates_chart(figures),
        )
    if figures.protocols("epoch-"):
        yield Section(
            "How does quality rise during training?",
            "Training stops when validation no longer rises, and the best epoch is kept.",
            f"{QUALITY} by full ranking over the validation users after each epoch, a mean over "
            "seeds.",
            charts.curves_chart(figures),
        )
    full = figures.by_model(FULL, QUALITY)
    if len(full.keys() & figures.by_model("timing", "training-seconds").keys()) > 1:
        yield Section(
            "How long does training take?",
            costs_in_words(figures),
            "Up and to the left is better: more quality in less time. Times are of one machine.",
            charts.time_chart(figures),
        )


def _best(figures: StudyFigures) -> str:
    """The best model in words; nothing where none was ranked in full."""
    return extremes_in_words(figures, FULL) if figures.by_model(FULL, QUALITY) else ""


def _facts(figures: StudyFigures) -> dict[str, str]:
    """Name → value of the cards at the top of the page."""
    full = figures.by_model(FULL, QUALITY)
    facts = {"models": f"{len(dict.fromkeys(row.model for row in figures.rows))}"}
    if full:
        best = max(full.values(), key=lambda row: row.value)
        facts["test users"] = f"{max(row.users for row in full.values()):,}"
        facts[f"best {QUALITY}, full ranking"] = f"{best.value:.4f} · {best.model}"
    facts["seeds, at most"] = f"{max((len(row.seeds) for row in figures.rows), default=0)}"
    return facts
