"""Static SVG of a Plotly chart, drawn with Matplotlib to avoid a 5 MB script per page.

Supports what `twotower.reporting.charts` uses: points and lines with error bars, stacked
horizontal bars, a vertical line, categories, logarithmic and reversed axes.
"""

import re
from collections import defaultdict
from typing import Any, Final, Literal

from twotower.reporting.picture import STYLE, as_svg

_WIDTH: Final = 1080
_MARKERS: Final = {
    "circle": "o", "circle-open": "o", "square": "s", "diamond": "D", "triangle-up": "^",
    "x": "X", "star": "*", "triangle-down": "v", "cross": "P",
}  # fmt: skip
_LINES: Final = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_LEAST_LABEL: Final = 0.05
"""Bars with a smaller share get no label, since it would not fit."""


def static_svg(chart: Any, title: str, prefix: str) -> str:
    """An SVG element as wide as a page.

    Parameters
    ----------
    chart
        A Plotly figure.
    title
        For screen readers.
    prefix
        Prefix of the element's ids, so that a page can contain several.

    Raises
    ------
    ValueError
        If a trace is neither bars nor points.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "font.size": 12, "svg.hashsalt": prefix}):
        figure = Figure(figsize=(_WIDTH / 72, chart.layout.height / 72), dpi=72, layout="tight")
        axes = figure.add_subplot()
        axes.spines[:].set_visible(False)
        places = {side: _places(chart, side) for side in ("x", "y")}
        left: dict[Any, float] = defaultdict(float)
        for trace in chart.data:
            if trace.type == "bar":
                _draw_bars(axes, trace, places["y"], left)
            elif trace.type == "scatter":
                _draw_points(axes, trace, places)
            else:
                raise ValueError(f"bars and points are drawn, got a trace of type {trace.type!r}")
        for shape in chart.layout.shapes:
            axes.axvline(shape.x0, color=shape.line.color, linewidth=shape.line.width)
        for side in ("x", "y"):
            _set_axis(axes, side, chart, places[side])
        handles, _ = axes.get_legend_handles_labels()
        if chart.layout.showlegend and handles:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False)
        svg = as_svg(figure, title)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)


def _places(chart: Any, side: str) -> dict[str, int]:
    """Category → position on an axis; empty if its values are numbers."""
    given = [value for trace in chart.data for value in getattr(trace, side)]
    if not any(isinstance(value, str) for value in given):
        return {}
    order = getattr(chart.layout, f"{side}axis").categoryarray or dict.fromkeys(given)
    return {name: place for place, name in enumerate(order)}


def _on(values: Any, places: dict[str, int]) -> list[float]:
    return [places[value] for value in values] if places else list(values)


def _draw_points(axes: Any, trace: Any, places: dict[str, dict[str, int]]) -> None:
    spread = {
        f"{side}err": [error.arrayminus, error.array]
        for side in ("x", "y")
        if (error := trace[f"error_{side}"]).array is not None
    }
    widths = [trace[f"error_{side}"].thickness for side in ("x", "y") if f"{side}err" in spread]
    line, marker = trace.line, trace.marker
    colour = marker.color or line.color
    axes.errorbar(
        _on(trace.x, places["x"]),
        _on(trace.y, places["y"]),
        **spread,
        elinewidth=widths[0] if widths else None,
        linestyle=_LINES[line.dash or "solid"] if "lines" in trace.mode else "",
        linewidth=line.width or 2,
        color=colour,
        marker=_MARKERS[marker.symbol or "circle"] if "markers" in trace.mode else "",
        markersize=(marker.size or 8) * 0.8,
        markerfacecolor="white" if (marker.symbol or "").endswith("-open") else colour,
        label=None if trace.showlegend is False else trace.name,
        zorder=2 if "markers" in trace.mode else 1,
    )


def _draw_bars(axes: Any, trace: Any, places: dict[str, int], left: dict[Any, float]) -> None:
    values, rows = list(trace.x), _on(trace.y, places)
    begins = [left[row] for row in rows]
    bars = axes.barh(
        rows, values, left=begins, height=0.7, color=trace.marker.color, label=trace.name,
        hatch=trace.marker.pattern.shape or None, edgecolor="white",
    )  # fmt: skip
    labels = [f"{value:.0%}" if value >= _LEAST_LABEL else "" for value in values]
    beneath = {"facecolor": "white", "edgecolor": "none", "pad": 2}
    for label in axes.bar_label(bars, labels, label_type="center"):
        label.set_bbox(beneath if label.get_text() else None)
    for row, value in zip(rows, values, strict=True):
        left[row] += value


def _set_axis(axes: Any, side: Literal["x", "y"], chart: Any, places: dict[str, int]) -> None:
    wanted = getattr(chart.layout, f"{side}axis")
    axis = getattr(axes, f"{side}axis")
    if wanted.title.text:
        axis.set_label_text(wanted.title.text)
    if wanted.type == "log":
        getattr(axes, f"set_{side}scale")("log")
        for formatted in (axis.set_major_formatter, axis.set_minor_formatter):
            formatted(lambda value, _: f"{value:,g}")
    if places:
        axis.set_ticks([*places.values()], [re.sub("<[^>]*>", "", name) for name in places])
        getattr(axes, f"set_{side}lim")(-0.5, len(places) - 0.5)
    elif wanted.tickformat:
        axis.set_major_formatter(lambda value, _: format(value, wanted.tickformat))
    if wanted.rangemode == "tozero":
        getattr(axes, f"set_{side}lim")(**{"left" if side == "x" else "bottom": 0})
    if wanted.range:
        getattr(axes, f"set_{side}lim")(*wanted.range)
    if wanted.autorange == "reversed":
        axis.set_inverted(True)
