"""Table of a study: our figures, published ones and verdicts, as lines and as Markdown."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from twotower.evaluation.registry import FULL, SAMPLED
from twotower.evaluation.results import Difference, Row
from twotower.reporting.study_results import QUALITY, StudyFigures, within_seeds

COLUMNS: Final = ((FULL, "HR@10"), (FULL, QUALITY), (SAMPLED, "HR@10"), (SAMPLED, QUALITY))
TITLES: Final = {FULL: "full ranking", SAMPLED: "100 sampled"}


class Line(NamedTuple):
    """One model of the table."""

    model: str
    change: str
    ours: tuple[Row | None, ...]
    """A figure for each of `COLUMNS`."""
    theirs: tuple[float | None, ...]
    """The published figure for each of them."""
    difference: Difference | None
    absent: str | None
    """Reason why there are no figures."""

    @property
    def within_seeds(self) -> bool:
        """Whether the difference is no more than two standard errors over training seeds."""
        return self.difference is not None and within_seeds(self.difference)


def study_lines(figures: StudyFigures) -> list[Line]:
    """The lines of the table; models not possible on this data set come last."""
    ours = [figures.by_model(*column) for column in COLUMNS]
    theirs = [figures.published(*column) for column in COLUMNS]
    compared = {found.model: found for found in figures.compared()}
    absent = {found.model: found.reason for found in figures.absent}
    models = dict.fromkeys([*(model for rows in ours for model in rows), *absent])
    return [
        Line(
            model,
            figures.changes.get(model, ""),
            tuple(rows.get(model) for rows in ours),
            tuple(published.get(model) for published in theirs),
            compared.get(model),
            absent.get(model),
        )
        for model in models
    ]


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
        table.append([line.model, line.change, *cells, *_gained(line)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _gained(line: Line) -> tuple[str, str]:
    difference = line.difference
    if difference is None:
        return "", ""
    interval = f"[{difference.low:+.4f}, {difference.high:+.4f}]{' †' * line.within_seeds}"
    return f"{difference.value:+.4f} {interval}", difference.verdict


def best_values(lines: Sequence[Line]) -> list[float]:
    """The greatest of our figures in each of `COLUMNS`, 0 where there is none."""
    return [
        max((ours.value for line in lines if (ours := line.ours[column])), default=0.0)
        for column in range(len(COLUMNS))
    ]
