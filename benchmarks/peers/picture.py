"""Quality against training time as a small SVG picture: no script, no extra package."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from twotower.data.atomic import atomic_file
from twotower.evaluation.protocols import FULL
from twotower.evaluation.results import Row
from twotower.reporting.svg import document, line, round_numbers, text

QUALITY: Final = "NDCG@10"
OURS: Final = "v9"
"""Its point, and those of its shorter trainings, are joined by a line."""
WIDTH, HEIGHT = 920, 520
LEFT, RIGHT, TOP, BOTTOM = 74, 760, 84, 452
"""Edges of the plot; labels may stand right of it."""
LABEL: Final = 15
"""Pixels between two labels, at least."""


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
    first = math.floor(math.log10(found[0].seconds))
    last = max(first + 1, math.ceil(math.log10(found[-1].seconds)))
    most = max(point.high for point in found) * 1.05 or 1.0

    def x_of(seconds: float) -> float:
        return LEFT + (math.log10(seconds) - first) / (last - first) * (RIGHT - LEFT)

    def y_of(value: float) -> float:
        return BOTTOM - value / most * (BOTTOM - TOP)

    parts = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#fff" stroke="#E4E7EB"/>',
        text(24, 34, f"{QUALITY} against training time", size=18, weight=650),
        text(24, 56, f"{dataset}, full ranking, 95% intervals over users", fill="#52606D"),
        text((LEFT + RIGHT) / 2, BOTTOM + 46, "seconds of training", anchor="middle"),
    ]
    for power in range(first, last + 1):
        x = x_of(10.0**power)
        parts.append(line(x, TOP, x, BOTTOM, "#E4E7EB", 1))
        parts.append(text(x, BOTTOM + 22, f"{10.0**power:g}", anchor="middle", fill="#52606D"))
    for tick in ticks(most):
        y = y_of(tick)
        parts.append(line(LEFT, y, RIGHT, y, "#E4E7EB", 1))
        parts.append(text(LEFT - 10, y + 4, f"{tick:g}", anchor="end", fill="#52606D"))
    curve = [(x_of(one.seconds), y_of(one.value)) for one in found if is_ours(one.model)]
    parts += [line(*before, *after, "#D55E00", 2) for before, after in pairwise(curve)]
    places = [(x_of(point.seconds), y_of(point.value)) for point in found]
    heights = apart([y for _, y in places])
    for point, height in zip(found, heights, strict=True):
        ours = is_ours(point.model)
        x, colour = x_of(point.seconds), "#D55E00" if ours else "#0072B2"
        parts.append(line(x, y_of(point.low), x, y_of(point.high), colour, 2))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y_of(point.value):.1f}" r="{7 if ours else 5}" '
            f'fill="{colour}"/>'
        )
        side = side_of(x, height, 7 * len(point.model), places)
        parts.append(line(x, y_of(point.value), x + 14 * side, height, "#9AA5B1", 1))
        parts.append(
            text(
                x + 17 * side, height + 4, point.model, size=12, weight=650 if ours else 400,
                anchor="start" if side > 0 else "end",
            )
        )  # fmt: skip
    return document(f"{QUALITY} against training time on {dataset}", WIDTH, HEIGHT, parts)


def is_ours(model: str) -> bool:
    """Whether it is what the others are peers of, wholly trained or not."""
    return model == OURS or model.startswith(f"{OURS}-")


def apart(heights: Sequence[float]) -> list[float]:
    """The heights with at least `LABEL` between any two, from the top down.

    >>> apart([100.0, 98.0, 40.0])
    [113.0, 98.0, 40.0]
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


def ticks(most: float) -> list[float]:
    """Round numbers from 0 up to ``most``, at most seven.

    >>> ticks(0.0712)
    [0.0, 0.02, 0.04, 0.06]
    """
    return round_numbers(0.0, most, 6)
