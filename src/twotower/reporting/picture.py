"""Forest plot of a study's differences as SVG, drawn with Matplotlib (extra 'report')."""

import importlib.util
from io import StringIO
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from twotower.data.atomic import atomic_file
from twotower.errors import InputError
from twotower.evaluation.registry import FULL
from twotower.reporting.study_results import QUALITY, StudyFigures, within_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS: Final[dict[str, dict[str, Any]]] = {
    "helps": {"marker": "o", "color": "#0072B2"},
    "hurts": {"marker": "D", "color": "#D55E00"},
    "no difference shown": {"marker": "o", "color": "#6B7280", "markerfacecolor": "white"},
}
"""Verdict → marker, with a shape of its own so that verdicts differ in more than colour."""
SOFT: Final = "#52606D"
GRID: Final = "#E4E7EB"
STYLE: Final[Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 9,
    "text.color": "#1F2933",
    "axes.edgecolor": GRID,
    "axes.labelcolor": "#1F2933",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "twotower",
}
"""Keeps text as text, and ids the same in every run."""
_WIDTH: Final = 780
_ROW: Final = 30
_TOP: Final = 64
_BOTTOM: Final = 28
_LABELS: Final = 0.49
"""Share of the width left of the axis."""


def write_picture(path: Path, figures: StudyFigures, protocol: str = FULL) -> None:
    """Write the picture, whole or not at all."""
    picture = render_picture(figures, protocol)
    with atomic_file(path) as temporary:
        temporary.write_text(picture, encoding="utf-8")


def render_picture(figures: StudyFigures, protocol: str = FULL) -> str:
    """Difference of every variant to its parent, with 95% intervals, as SVG.

    Raises
    ------
    InputError
        If no model is compared with a parent, or Matplotlib is not installed.
    """
    found = figures.compared(protocol)
    if not found:
        raise InputError(
            f"no differences of {QUALITY} under {protocol!r} to draw",
            "pass the results of 'twotower ablate' with a variant and its parent",
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            "pictures need the package matplotlib, which is not installed",
            "run pip install 'twotower[report]'",
        )
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    height = _TOP + _ROW * len(found) + _BOTTOM
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
        axes = figure.add_axes(
            (_LABELS, _BOTTOM / height, 0.97 - _LABELS, 1 - (_TOP + _BOTTOM) / height)
        )
        beside = axes.get_yaxis_transform()  # x in widths of the axes, y in rows
        left = -(_LABELS - 0.02) / (0.97 - _LABELS)
        for row, difference in enumerate(found):
            mark = MARKS[difference.verdict]
            spread = [[difference.value - difference.low], [difference.high - difference.value]]
            axes.errorbar(
                difference.value, row, xerr=spread, elinewidth=2.2, markersize=8,
                markeredgewidth=1.8, **mark,
            ).lines[0].set_gid(f"mark-{difference.model}")  # fmt: skip
            label = f"{difference.model} vs {difference.parent}"
            label += " †" * within_seeds(difference)
            axes.text(left, row, label, weight="bold", va="center", transform=beside)
            words = "\n".join(wrap(figures.changes.get(difference.model, ""), 44)[:2])
            axes.text(left + 0.34, row, words, va="center", size=8, color=SOFT, transform=beside)
        axes.axvline(0, color="#1F2933", linewidth=1)
        axes.set(ylim=(len(found) - 0.5, -0.5), yticks=[])
        axes.margins(x=0.06)
        axes.xaxis.set_major_formatter(lambda value, _: "0" if not value else f"{value:+.3f}")
        axes.spines[:].set_visible(False)
        figure.text(0.02, 1 - 20 / height, f"What each change adds to {QUALITY}", size=13,
                    weight="bold", va="center")  # fmt: skip
        figure.text(
            0.02, 1 - 40 / height, f"{figures.dataset}, {protocol} ranking, difference to the "
            "parent with its 95% interval over users", color=SOFT, va="center",
        )  # fmt: skip
        handles = [
            Line2D([], [], linestyle="", markersize=8, markeredgewidth=1.8, label=verdict, **mark)
            for verdict, mark in MARKS.items()
        ]
        figure.legend(
            handles=handles, loc="center right", ncols=len(handles), frameon=False,
            bbox_to_anchor=(0.98, 1 - 20 / height), handletextpad=0.1, columnspacing=1.2,
        )  # fmt: skip
        return as_svg(figure, f"What each change adds to {QUALITY} on {figures.dataset}")


def as_svg(figure: "Figure", title: str) -> str:
    """A figure as an SVG element with a title for screen readers, the same in every run."""
    text = StringIO()
    figure.savefig(text, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
    svg = text.getvalue()
    return "\n".join(line.rstrip() for line in svg[svg.index("<svg") :].splitlines()) + "\n"
