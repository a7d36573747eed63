"""The study's main chart as a small SVG picture, for documents: no script, no extra package."""

from html import escape
from pathlib import Path
from typing import Final

from twotower.data.atomic import atomic_file
from twotower.errors import InputError
from twotower.evaluation.registry import FULL
from twotower.evaluation.report_data import QUALITY, StudyFigures, within_seeds

WIDTH: Final = 920
LABELS: Final = 420
"""Pixels for what stands left of the axis."""
ROW: Final = 34
TOP: Final = 84
COLOURS: Final = {"helps": "#0072B2", "hurts": "#D55E00", "no difference shown": "#6B7280"}


def write_picture(path: Path, figures: StudyFigures, protocol: str = FULL) -> None:
    """Write the picture, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(render_picture(figures, protocol), encoding="utf-8")


def render_picture(figures: StudyFigures, protocol: str = FULL) -> str:
    """What every change adds to its parent, with 95% intervals, as SVG.

    Raises
    ------
    InputError
        Where no model is compared with a parent.
    """
    found = figures.compared(protocol)
    if not found:
        raise InputError(
            f"no differences of {QUALITY} under {protocol!r} to draw",
            "pass the results of 'twotower ablate' with a variant and its parent",
        )
    bottom = TOP + ROW * len(found)
    least, most = min(0.0, *(o.low for o in found)), max(0.0, *(o.high for o in found))
    margin = 0.06 * (most - least) or 0.01
    least, most = least - margin, most + margin

    def place(value: float) -> float:
        return round(LABELS + (value - least) / (most - least) * (WIDTH - LABELS - 30), 1)

    parts = [
        f'<rect width="{WIDTH}" height="{bottom + 52}" rx="10" fill="#fff" stroke="#E4E7EB"/>',
        _text(24, 34, f"What each change adds to {QUALITY}", size=18, weight=650),
        _text(24, 56, f"{figures.dataset}, {protocol} ranking, difference to the parent with "
              "its 95% interval over users", fill="#52606D"),
        _legend(),
    ]  # fmt: skip
    for tick in _ticks(least, most):
        x = place(tick)
        parts.append(_line(x, TOP - 6, x, bottom, "#E4E7EB", 1))
        parts.append(
            _text(x, bottom + 20, f"{tick:+.3f}" if tick else "0", anchor="middle", fill="#52606D")
        )
    parts.append(_line(place(0), TOP - 6, place(0), bottom, "#1F2933", 1.4))
    for number, one in enumerate(found):
        y = TOP + ROW * number + ROW // 2
        colour = COLOURS[one.verdict]
        label = f"{one.model} vs {one.parent}{' †' * within_seeds(one)}"
        parts.append(_text(24, y + 5, label, weight=650))
        change = _shortened(figures.changes.get(one.model, ""))
        parts.append(_text(172, y + 5, change, fill="#52606D", size=12))
        parts.append(_line(place(one.low), y, place(one.high), y, colour, 3))
        parts.append(_mark(place(one.value), y, one.verdict))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 52}" '
        f'width="{WIDTH}" role="img" font-family="Inter, system-ui, Segoe UI, sans-serif">\n'
        f"<title>What each change adds to {QUALITY} on {escape(figures.dataset)}</title>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _legend() -> str:
    x, parts = 560, []
    for verdict, width in (("helps", 70), ("hurts", 70), ("no difference shown", 160)):
        parts += [_mark(x, 30, verdict), _text(x + 12, 35, verdict, fill="#52606D")]
        x += width
    return "\n".join(parts)


def _mark(x: float, y: float, verdict: str) -> str:
    """A shape of its own for each verdict, so that colour is not all that tells them apart."""
    colour = COLOURS[verdict]
    if verdict == "hurts":
        return f'<path d="M{x} {y - 8} l8 8 l-8 8 l-8 -8 z" fill="{colour}"/>'
    fill = colour if verdict == "helps" else "#fff"
    return f'<circle cx="{x}" cy="{y}" r="6.5" fill="{fill}" stroke="{colour}" stroke-width="2.5"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" '
        f'stroke-width="{width}" stroke-linecap="round"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 13,
    weight: int = 400,
    fill: str = "#1F2933",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _ticks(least: float, most: float) -> list[float]:
    """Four to nine round numbers between the two.

    >>> _ticks(-0.011, 0.031)
    [-0.01, -0.005, 0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03]
    """
    step = next(
        step
        for power in range(-6, 3)
        for step in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)
        if (most - least) / step <= 9
    )
    first = int(-(-least // step))
    return [round(step * number, 6) + 0.0 for number in range(first, int(most // step) + 1)]


def _shortened(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"
