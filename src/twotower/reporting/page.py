"""One self-contained HTML page from the results of a study: words, tables and charts.

Needs Plotly (extra 'report'); its script is written into the page, which is why a page has about
5 MB and no need of a network.
"""

import importlib.util
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

from twotower.data.atomic import atomic_file
from twotower.errors import InputError
from twotower.evaluation.registry import FULL, GROUPS, SAMPLED, segment_names
from twotower.reporting.sentences import (
    agreement_in_words,
    extremes_in_words,
    newcomers_in_words,
    verdicts_in_words,
)
from twotower.reporting.study_results import QUALITY, StudyFigures
from twotower.reporting.style import STYLE
from twotower.reporting.table import study_table


class Section(NamedTuple):
    """A question, the answer in words, how to read the chart, and the chart."""

    question: str
    answer: str
    reading: str
    chart: Any


READING_INTERVALS: Final = "Points are means over all queries, bars 95% intervals over queries."


def write_page(path: Path, figures: StudyFigures) -> None:
    """Write the page, whole or not at all.

    Raises
    ------
    InputError
        Where Plotly is not installed.
    """
    page = render_page(figures)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render_page(figures: StudyFigures) -> str:
    """The page as text; charts are drawn for the protocols that were measured."""
    if importlib.util.find_spec("plotly") is None:
        raise InputError(
            "the report needs the package plotly, which is not installed",
            "run pip install 'twotower[report]'",
        )
    from plotly.offline import get_plotlyjs

    title = f"What helps on {figures.dataset}"
    sections = "\n".join(
        _section(number, section) for number, section in enumerate(_sections(figures))
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<header><div class="inner"><p class="kicker">twotower · ablation study</p>
<h1>{escape(title)}</h1>
<p class="lead">{escape(verdicts_in_words(figures, figures.compared()))}</p>
{_facts(figures)}</div></header>
<main>
{study_table(figures)}
{sections}
{_about(figures)}
</main>
</body>
</html>
"""


def _sections(figures: StudyFigures) -> Sequence[Section]:
    """The questions that the figures can answer, in the order of the story."""
    from twotower.reporting import charts as charts

    found: list[Section] = []

    def ask(
        there: object, question: str, answer: str, reading: str, draw: Callable[[], Any]
    ) -> None:
        if there:
            found.append(Section(question, answer, reading, draw()))

    for protocol, how in ((FULL, "by full ranking"), (SAMPLED, "among 100 sampled negatives")):
        compared = figures.compared(protocol)
        ask(
            compared,
            f"Which change helps, {how}?",
            verdicts_in_words(figures, compared),
            f"Each point is a variant's {QUALITY} minus its parent's on the same users, the bar "
            "its paired 95% interval. Left of the line is worse, right is better. A verdict needs "
            "a p-value below 0.05 after correction over all tests of the study.",
            lambda protocol=protocol: charts.differences_chart(figures, protocol),  # type: ignore[misc]
        )
    full, sampled = (figures.by_model(name, QUALITY) for name in (FULL, SAMPLED))
    both = [model for model in full if model in sampled]
    ask(
        len(both) > 2,
        "Do sampled negatives tell the same story?",
        agreement_in_words(figures) if len(both) > 2 else "",
        "A model further up is better when it ranks the whole catalogue, further right when it "
        "ranks 100 sampled items. Were the two measures to agree, the points would rise "
        "steadily.",
        lambda: charts.sampled_against_full_chart(figures),
    )
    theirs = figures.published(SAMPLED, "HR@10")
    ask(
        set(theirs) & set(figures.by_model(SAMPLED, "HR@10")),
        "How do the public reference's figures compare?",
        figures.reference.note if figures.reference else "",
        "HR@10 among 100 sampled negatives. Compare the order of models, not the digits.",
        lambda: charts.reference_chart(figures),
    )
    measured = set(figures.protocols(""))
    sizes = {
        name: name.removeprefix("history-") for name in GROUPS["cold-start"] if name in measured
    }
    ask(
        len(sizes) > 1,
        "How much history does a model need?",
        extremes_in_words(figures, next(iter(sizes)), "With the shortest history") if sizes else "",
        "The same users in every column, told to the model with only so many of their newest "
        f"items. {READING_INTERVALS}",
        lambda: charts.lines_chart(figures, sizes, "items of history"),
    )
    segments = {
        name: name.removeprefix("activity-")
        for name in segment_names("activity")
        if name in measured
    }
    ask(
        len(segments) > 1,
        "Who is served well: users with little or much history?",
        extremes_in_words(figures, next(iter(segments)), "For the shortest histories")
        if segments
        else "",
        f"Users in groups by the length of their history. {READING_INTERVALS}",
        lambda: charts.lines_chart(figures, segments, "items of history"),
    )
    ask(
        {"new-users", "known-users"} <= measured,
        "And people that training never saw?",
        newcomers_in_words(figures),
        "New users were held out of training altogether, and come with their history. They are "
        "other people than the known ones, so that a small difference may be theirs.",
        lambda: charts.newcomers_chart(figures),
    )
    ask(
        "new-items" in measured,
        "Can an item be found that has no interaction?",
        extremes_in_words(figures, "new-items") if "new-items" in measured else "",
        f"Items held out of training altogether are the answers. {READING_INTERVALS}",
        lambda: charts.models_chart(figures, "new-items"),
    )
    ask(
        "gates" in measured,
        "What do the towers look at?",
        "Each tower sums its parts, weighed by learned gates that add up to one.",
        "Weights are read from the trained models, a mean over seeds. They say what a part "
        "weighs in the sum, not what would be lost without it.",
        lambda: charts.gates_chart(figures),
    )
    ask(
        figures.protocols("epoch-"),
        "How does training go?",
        "Training stops when validation no longer rises, and the best epoch is kept.",
        f"{QUALITY} by full ranking over the validation users after each epoch, a mean over seeds.",
        lambda: charts.curves_chart(figures),
    )
    timed = figures.by_model("timing", "training-seconds")
    ask(
        len(set(timed) & set(full)) > 1,
        "What does quality cost?",
        _costs_in_words(figures) if set(timed) & set(full) else "",
        "Up and to the left is better: more quality in less time. Times are of one machine.",
        lambda: charts.time_chart(figures),
    )
    return found


def _costs_in_words(figures: StudyFigures) -> str:
    quality, times = figures.by_model(FULL, QUALITY), figures.by_model("timing", "training-seconds")
    models = [model for model in times if model in quality]
    best = max(models, key=lambda model: quality[model].value)
    quickest = min(models, key=lambda model: times[model].value)
    return (
        f"The best, {best}, trained for {times[best].value:,.0f} s and reaches "
        f"{quality[best].value:.4f}; the quickest, {quickest}, for {times[quickest].value:,.0f} s, "
        f"and reaches {quality[quickest].value:.4f}."
    )


def _section(number: int, section: Section) -> str:
    from plotly.io import to_html

    chart = to_html(
        section.chart,
        include_plotlyjs=False,
        full_html=False,
        div_id=f"chart-{number}",
        config={"displaylogo": False, "responsive": True, "displayModeBar": False},
    )
    return f"""<section>
<h2>{escape(section.question)}</h2>
<p class="answer">{escape(section.answer)}</p>
<figure role="img" aria-label="{escape(section.question, quote=True)}">{chart}</figure>
<p class="reading">{escape(section.reading)}</p>
</section>"""


def _facts(figures: StudyFigures) -> str:
    """Cards with what the study consists of."""
    full = figures.by_model(FULL, QUALITY)
    cards = [("models", f"{len(dict.fromkeys(row.model for row in figures.rows))}")]
    if full:
        best = max(full.values(), key=lambda row: row.value)
        cards += [
            ("test users", f"{max(row.users for row in full.values()):,}"),
            (f"best {QUALITY}, full ranking", f"{best.value:.4f} · {best.model}"),
        ]
    seeds = max((len(row.seeds) for row in figures.rows), default=0)
    cards.append(("seeds, at most", f"{seeds}"))
    return (
        '<dl class="facts">'
        + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in cards)
        + "</dl>"
    )


def _about(figures: StudyFigures) -> str:
    """Where the figures come from."""
    lines = "".join(
        f"<li><code>{escape(meta.command)}</code><br>{escape(meta.started)}, commit "
        f"{escape(meta.commit or 'unknown')}, {escape(meta.machine)}, {meta.threads} "
        f"thread{'s' * (meta.threads != 1)} a model</li>"
        for meta in figures.metas
    )
    source = figures.reference.source if figures.reference else ""
    cited = f'<p>Reference: <a href="{escape(source)}">{escape(source)}</a></p>' if source else ""
    return f"<section><h2>Where this comes from</h2><ul>{lines}</ul>{cited}</section>"
