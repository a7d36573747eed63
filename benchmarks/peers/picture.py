"""Quality against training time as an SVG picture, drawn with Matplotlib."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from twotower.data.atomic import atomic_file
from twotower.evaluation.protocols import FULL
from twotower.evaluation.results import Row
from twotower.reporting.picture import SOFT, STYLE, as_svg

QUALITY: Final = "NDCG@10"
OURS: Final = "v9"
"""Its point, and those of its shorter trainings, are joined by a line."""
COLOUR_OURS, COLOUR = "#D55E00", "#0072B2"
WIDTH, HEIGHT = 720, 410
"""Points."""
LABEL: Final = 12
"""Points between two labels, at least."""


@dataclass(frozen=True)
class Point:
    """A model with its training seconds, and the quality with its interval."""

    model: str
    seconds: float
    value: float
    low: float
    high: float


def points(rows: Sequence[Row]) -> list[Point]:
    """Models with both figures, the fastest first."""
    seconds = {row.model: row.value for row in rows if row.metric == "training-seconds"}
    found = [
        Point(row.model, max(seconds[row.model], 0.1), row.value, row.low, row.high)
        for row in rows
        if (row.protocol, row.metric) == (FULL, QUALITY)
        and row.model in seconds
        and row.low is not None
        and row.high is not None
    ]
    return sorted(found, key=lambda point: point.seconds)


def write_picture(path: Path, rows: Sequence[Row], dataset: str) -> None:
    """Draw the rows of a results file, where it has a model; whole or not at all."""
    found = points(rows)
    if found:
        with atomic_file(path) as temporary:
            temporary.write_text(render(found, dataset), encoding="utf-8")


def render(found: Sequence[Point], dataset: str) -> str:
    """The picture: a logarithmic axis of seconds, a linear one of quality."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        axes = figure.add_axes((0.08, 0.13, 0.74, 0.71))
        seconds = [point.seconds for point in found]
        first = math.floor(math.log10(min(seconds)))
        last = max(first + 1, math.ceil(math.log10(max(seconds))))
        most = max(point.high for point in found) * 1.05 or 1.0
        axes.set(xscale="log", xlim=(10.0**first, 10.0**last), ylim=(0, most))
        axes.set_xlabel("seconds of training", labelpad=8)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.spines[:].set_visible(False)
        curve = [point for point in found if is_ours(point.model)]
        axes.plot([one.seconds for one in curve], [one.value for one in curve], color=COLOUR_OURS)
        places = [tuple(axes.transData.transform((point.seconds, point.value))) for point in found]
        heights = apart([y for _, y in places])
        for point, (x, y), height in zip(found, places, heights, strict=True):
            ours = is_ours(point.model)
            spread = [[point.value - point.low], [point.high - point.value]]
            axes.errorbar(
                point.seconds, point.value, yerr=spread, marker="o", markersize=9 if ours else 6,
                color=COLOUR_OURS if ours else COLOUR, elinewidth=1.5,
            ).lines[0].set_gid(f"point-{point.model}")  # fmt: skip
            side = side_of(x, height, 6 * len(point.model), places)
            axes.annotate(
                point.model, (point.seconds, point.value), (14 * side, height - y),
                textcoords="offset points", va="center", ha="left" if side > 0 else "right",
                size=8, weight="bold" if ours else "normal", annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": "#9AA5B1", "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
        title = f"{QUALITY} against training time"
        figure.text(0.03, 0.95, title, size=13, weight="bold", va="center")
        words = f"{dataset}, full ranking, 95% intervals over users"
        figure.text(0.03, 0.905, words, color=SOFT, va="center")
        return as_svg(figure, f"{title} on {dataset}")


def is_ours(model: str) -> bool:
    """Whether it is what the others are peers of, wholly trained or not."""
    return model == OURS or model.startswith(f"{OURS}-")


def apart(heights: Sequence[float]) -> list[float]:
    """The heights with at least `LABEL` between any two, from the lowest up.

    >>> apart([100.0, 98.0, 40.0])
    [110.0, 98.0, 40.0]
    """
    placed = list(heights)
    lowest = -math.inf
    for index in sorted(range(len(placed)), key=placed.__getitem__):
        placed[index] = lowest = max(placed[index], lowest + LABEL)
    return placed


def side_of(x: float, y: float, width: float, places: Sequence[tuple[float, float]]) -> int:
    """Where a label of a point at ``x`` stands: 1 right of it; -1 left, where right is a point.

    >>> side_of(100, 50, 60, [(100, 50), (150, 53)]), side_of(100, 50, 60, [(100, 50), (190, 53)])
    (-1, 1)
    """
    hidden = (
        x + 8 < other < x + 17 + width and abs(y - height) < LABEL for other, height in places
    )
    return -1 if any(hidden) else 1
