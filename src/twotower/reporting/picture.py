"""The study's main chart as a small SVG picture, for documents: no script, no extra package."""

from pathlib import Path
from textwrap import wrap
from typing import Final

from twotower.data.atomic import atomic_file
from twotower.errors import InputError
from twotower.evaluation.registry import FULL
from twotower.reporting.study_results import QUALITY, StudyFigures, within_seeds
from twotower.reporting.svg import document, line, round_numbers, text

WIDTH: Final = 1000
LABELS: Final = 500
"""Pixels for what stands left of the axis."""
ROW: Final = 40
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
        text(24, 34, f"What each change adds to {QUALITY}", size=18, weight=650),
        text(24, 56, f"{figures.dataset}, {protocol} ranking, difference to the parent with "
              "its 95% interval over users", fill="#52606D"),
        _legend(),
    ]  # fmt: skip
    for tick in round_numbers(least, most, 9):
        x = place(tick)
        parts.append(line(x, TOP - 6, x, bottom, "#E4E7EB", 1, cap="round"))
        parts.append(
            text(x, bottom + 20, f"{tick:+.3f}" if tick else "0", anchor="middle", fill="#52606D")
        )
    parts.append(line(place(0), TOP - 6, place(0), bottom, "#1F2933", 1.4, cap="round"))
    for number, one in enumerate(found):
        y = TOP + ROW * number + ROW // 2
        colour = COLOURS[one.verdict]
        label = f"{one.model} vs {one.parent}{' †' * within_seeds(one)}"
        parts.append(text(24, y + 5, label, weight=650))
        lines = wrap(figures.changes.get(one.model, ""), 46)[:2]
        for place_in, words in enumerate(lines):
            down = y + 5 + 15 * place_in - (7 if len(lines) == 2 else 0)
            parts.append(text(190, down, words, fill="#52606D", size=12))
        parts.append(line(place(one.low), y, place(one.high), y, colour, 3, cap="round"))
        parts.append(_mark(place(one.value), y, one.verdict))
    title = f"What each change adds to {QUALITY} on {figures.dataset}"
    return document(title, WIDTH, bottom + 52, parts)


def _legend() -> str:
    x, parts = 640, []
    for verdict, width in (("helps", 70), ("hurts", 70), ("no difference shown", 160)):
        parts += [_mark(x, 30, verdict), text(x + 12, 35, verdict, fill="#52606D")]
        x += width
    return "\n".join(parts)


def _mark(x: float, y: float, verdict: str) -> str:
    """A shape of its own for each verdict, so that colour is not all that tells them apart."""
    colour = COLOURS[verdict]
    if verdict == "hurts":
        return f'<path d="M{x} {y - 8} l8 8 l-8 8 l-8 -8 z" fill="{colour}"/>'
    fill = colour if verdict == "helps" else "#fff"
    return f'<circle cx="{x}" cy="{y}" r="6.5" fill="{fill}" stroke="{colour}" stroke-width="2.5"/>'
