"""The table of a study, in HTML and in Markdown: ours, the reference's, and the verdicts."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from twotower.evaluation.registry import FULL, SAMPLED
from twotower.evaluation.results import Difference, Row
from twotower.reporting.study_results import QUALITY, StudyFigures, within_seeds

COLUMNS: Final = ((FULL, "HR@10"), (FULL, QUALITY), (SAMPLED, "HR@10"), (SAMPLED, QUALITY))
TITLES: Final = {FULL: "full ranking", SAMPLED: "100 sampled"}
CHIPS: Final = {"helps": "helps", "hurts": "hurts", "no difference shown": "none"}


class Line(NamedTuple):
    """One model of the table."""

    model: str
    change: str
    ours: tuple[Row | None, ...]
    """A figure for each of `COLUMNS`."""
    theirs: tuple[float | None, ...]
    """What was published for each of them."""
    difference: Difference | None
    absent: str | None
    """Why there are no figures."""


def study_lines(figures: StudyFigures) -> list[Line]:
    """The lines of the table; models that the data do not allow stand at the end."""
    ours = [figures.by_model(*column) for column in COLUMNS]
    theirs = [figures.published(*column) for column in COLUMNS]
    compared = {one.model: one for one in figures.compared()}
    absent = {one.model: one.reason for one in figures.absent}
    models = dict.fromkeys([*(model for of in ours for model in of), *absent])
    return [
        Line(
            model,
            figures.changes.get(model, ""),
            tuple(of.get(model) for of in ours),
            tuple(of.get(model) for of in theirs),
            compared.get(model),
            absent.get(model),
        )
        for model in models
    ]


def study_table(figures: StudyFigures) -> str:
    """The table as a section of the page."""
    lines = study_lines(figures)
    best = _best(lines)
    head = "".join(f"<th>{metric}<br>{TITLES[protocol]}</th>" for protocol, metric in COLUMNS)
    body = "\n".join(_html_line(line, best) for line in lines)
    return f"""<section><h2>All models</h2>
<p class="answer">{_caption(figures)}</p>
<div class="scroll"><table><thead><tr><th>model</th><th style="text-align:left">change</th>{head}
<th>{QUALITY} to parent<br>full ranking</th><th>verdict</th></tr></thead>
<tbody>{body}</tbody></table></div>
<p class="reading">Differences with 95% intervals over users; † within two standard errors over
training seeds. The verdict is corrected for the number of tests in the study (Holm).</p>
</section>"""


def _caption(figures: StudyFigures) -> str:
    if figures.reference is None:
        return "Means over all test users and all seeds; the best of a column in bold."
    return (
        "Means over all test users and all seeds; the best of a column in bold, what the public "
        "reference reports in brown below."
    )


def study_markdown(figures: StudyFigures) -> str:
    """The table for a document: reference figures in brackets."""
    titles = [f"{metric}, {TITLES[protocol]}" for protocol, metric in COLUMNS]
    table = [
        ["model", "change", *titles, f"{QUALITY} to parent", "verdict"],
        ["---", "---", *["---:"] * (len(COLUMNS) + 1), "---"],
    ]
    for line in study_lines(figures):
        if line.absent is not None:
            table.append([line.model, line.change, line.absent, *[""] * (len(COLUMNS) + 1)])
            continue
        cells = [
            ("–" if ours is None else f"{ours.value:.4f}")
            + ("" if theirs is None else f" ({theirs:.4f})")
            for ours, theirs in zip(line.ours, line.theirs, strict=True)
        ]
        table.append([line.model, line.change, *cells, *_gained(line.difference)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _gained(one: Difference | None) -> tuple[str, str]:
    if one is None:
        return "", ""
    mark = " †" * within_seeds(one)
    return f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]{mark}", one.verdict


def _best(lines: Sequence[Line]) -> Mapping[int, float]:
    return {
        column: max((ours.value for line in lines if (ours := line.ours[column])), default=0.0)
        for column in range(len(COLUMNS))
    }


def _html_line(line: Line, best: Mapping[int, float]) -> str:
    name = f"<td><b>{escape(line.model)}</b></td><td class='words'>{escape(line.change)}</td>"
    if line.absent is not None:
        span = len(COLUMNS) + 2
        return f"<tr>{name}<td class='absent' colspan='{span}'>{escape(line.absent)}</td></tr>"
    cells = ""
    for column, (ours, theirs) in enumerate(zip(line.ours, line.theirs, strict=True)):
        value = "–" if ours is None else f"{ours.value:.4f}"
        published = "" if theirs is None else f"<br><span class='theirs'>{theirs:.4f}</span>"
        mark = " class='best'" if ours is not None and ours.value == best[column] else ""
        cells += f"<td{mark}>{value}{published}</td>"
    difference, verdict = _gained(line.difference)
    chip = f"<span class='chip {CHIPS[verdict]}'>{verdict}</span>" if verdict else ""
    difference = difference.replace(" [", "<br>[", 1)
    return f"<tr>{name}{cells}<td>{difference}</td><td>{chip}</td></tr>"
