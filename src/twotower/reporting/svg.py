"""What small SVG pictures are drawn of: lines, words, a frame, and round numbers for an axis."""

import math
from collections.abc import Iterable
from html import escape
from typing import Literal


def document(title: str, width: int, height: int, parts: Iterable[str]) -> str:
    """A whole picture with a title for those who do not see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" role="img" font-family="Inter, system-ui, Segoe UI, sans-serif">\n'
        f"<title>{escape(title)}</title>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    colour: str,
    width: float,
    *,
    cap: Literal["butt", "round"] = "butt",
) -> str:
    """A straight line."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}" stroke-linecap="{cap}"/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 13,
    weight: int = 400,
    fill: str = "#1F2933",
    anchor: str = "start",
) -> str:
    """Words, escaped."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def round_numbers(least: float, most: float, steps: int) -> list[float]:
    """Round numbers between the two, at most ``steps`` steps apart.

    >>> round_numbers(-0.011, 0.031, 9)
    [-0.01, -0.005, 0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03]
    >>> round_numbers(0, 0.0712, 6)
    [0.0, 0.02, 0.04, 0.06]
    """
    step = next(
        step
        for power in range(-6, 3)
        for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if (most - least) / step <= steps
    )
    first, last = math.ceil(least / step), math.floor(most / step)
    return [round(step * number, 6) + 0.0 for number in range(first, last + 1)]
