"""Plotly charts of the demo; colours of text, axes and background are the theme's."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from twotower.demo.cards import short
from twotower.demo.projection import CatalogueMap
from twotower.demo.style import COLOURS, HIDDEN, MARKED, NEAR, OTHER, SYMBOLS
from twotower.types import FloatArray

_MANY: Final = 3000
"""From here on points are drawn by WebGL."""
_TICKS: Final = 12
"""Epochs up to which each has a tick of its own."""


def draw(chart: Any, key: str, *, what: str, reading: str) -> None:
    """Show a chart with a text alternative and a caption.

    Parameters
    ----------
    what
        Text alternative for screen readers.
    reading
        Caption: how to read the chart.
    """
    st.plotly_chart(chart, key=key, alt=what, config={"displaylogo": False, "scrollZoom": False,
                                                     "displayModeBar": False})  # fmt: skip
    st.caption(reading)


def adapted(chart: Any) -> Any:
    """A chart of the report without its light-theme colours."""
    chart.update_layout(
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hoverlabel=None,
        margin={"l": 8, "r": 8, "t": 16, "b": 48},
    )  # fmt: skip
    chart.update_traces(cliponaxis=False, selector={"type": "scatter"})
    chart.layout.font = None
    for axis in (chart.layout.xaxis, chart.layout.yaxis):
        axis.gridcolor = axis.tickcolor = axis.dtick = None
    chart.update_shapes(line_color=OTHER)
    chart.update_traces(
        marker_pattern_fillmode="overlay", marker_pattern_fgcolor="#fff",
        selector={"type": "bar"},
    )  # fmt: skip
    return chart


def bars(
    labels: Sequence[str], values: Sequence[float], *, axis: str, pattern: str = "%{x:,.0f}"
) -> Any:
    """Horizontal bars, the first on top."""
    chart = _chart(90 + 30 * len(labels))
    chart.add_bar(
        x=list(values), y=list(labels), orientation="h", marker={"color": COLOURS[0]},
        texttemplate=pattern, textposition="auto",
        hovertemplate="%{y}: " + pattern + "<extra></extra>",
    )  # fmt: skip
    chart.update_xaxes(title=axis)
    chart.update_yaxes(autorange="reversed", type="category")
    return chart


def columns(labels: Sequence[str], values: Sequence[float], *, axis: str, count: str) -> Any:
    """Columns from left to right."""
    chart = _chart(300)
    chart.add_bar(
        x=list(labels), y=list(values), marker={"color": COLOURS[0]},
        hovertemplate="%{x}: %{y:,}<extra></extra>",
    )  # fmt: skip
    chart.update_xaxes(title=axis, type="category", autotickangles=[0, -35], automargin=True)
    chart.update_yaxes(title=count)
    return chart


def stacked(series: Mapping[str, Mapping[str, float]], *, axis: str, count: str) -> Any:
    """Columns cut by kind: kind → label → value, with the labels of all kinds in order."""
    chart = _chart(300)
    labels = sorted({label for values in series.values() for label in values})
    for number, (kind, values) in enumerate(series.items()):
        chart.add_bar(
            x=labels, y=[values.get(label, 0) for label in labels], name=kind,
            marker=_hatched(number),
            hovertemplate="%{x}, " + kind + ": %{y:,}<extra></extra>",
        )  # fmt: skip
    chart.update_layout(barmode="stack", showlegend=True, legend=_TOP)
    chart.update_xaxes(title=axis, type="category", autotickangles=[0, -35], automargin=True)
    chart.update_yaxes(title=count)
    return chart


def stages(milliseconds: Mapping[str, float]) -> Any:
    """One bar, cut into stages."""
    chart = _chart(190)
    for number, (stage, value) in enumerate(milliseconds.items()):
        chart.add_bar(
            x=[value], y=["one request"], orientation="h", name=stage,
            marker=_hatched(number),
            hovertemplate=stage + ": %{x:.2f} ms<extra></extra>",
        )  # fmt: skip
    chart.update_layout(barmode="stack", showlegend=True, legend={**_TOP, "traceorder": "normal"})
    chart.update_xaxes(title="milliseconds, median of each stage")
    chart.update_yaxes(showticklabels=False)
    return chart


def lines(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x: str, y: str) -> Any:
    """A line per name with its own colour, symbol and dash; both axes logarithmic."""
    chart = _chart(340)
    for number, (name, (places, values)) in enumerate(series.items()):
        chart.add_scatter(
            x=list(places), y=list(values), name=name, mode="lines+markers",
            line={"color": COLOURS[number % len(COLOURS)],
                  "dash": ("solid", "dash", "dot")[number % 3]},
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 9},
        )  # fmt: skip
    chart.update_layout(showlegend=True, legend=_TOP)
    chart.update_xaxes(title=x, type="log")
    chart.update_yaxes(title=y, type="log")
    return chart


def curve(places: Sequence[float], values: Sequence[float], *, x: str, y: str) -> Any:
    """One line from zero, over a logarithmic axis."""
    chart = _chart(300)
    chart.add_scatter(
        x=list(places), y=list(values), mode="lines+markers", line={"color": COLOURS[0]},
        marker={"size": 9}, hovertemplate="%{x:.3g}: %{y:.4f}<extra></extra>",
    )  # fmt: skip
    chart.update_xaxes(title=x, type="log")
    chart.update_yaxes(title=y, rangemode="tozero")
    return chart


def learning(losses: Sequence[float], validated: Mapping[int, float], best: int | None) -> Any:
    """Loss of each epoch, and validation on an axis of its own, the best of it marked.

    Parameters
    ----------
    losses
        By epoch.
    validated
        Epoch, from 0 → NDCG@10 on validation.
    best
        Epoch whose weights were kept.
    """
    chart = _chart(320)
    chart.add_scatter(
        x=list(range(1, len(losses) + 1)), y=list(losses), name="loss", yaxis="y2",
        mode="lines+markers", line={"color": OTHER, "dash": "dot"},
        marker={"symbol": SYMBOLS[1], "size": 7},
        hovertemplate="epoch %{x}: loss %{y:.4f}<extra></extra>",
    )  # fmt: skip
    chart.add_scatter(
        x=[epoch + 1 for epoch in validated], y=list(validated.values()),
        name="NDCG@10 on validation", mode="lines+markers", line={"color": COLOURS[0]},
        marker={"symbol": SYMBOLS[0],
                "size": [14 if epoch == best else 8 for epoch in validated]},
        hovertemplate="epoch %{x}: NDCG@10 %{y:.4f}<extra></extra>",
    )  # fmt: skip
    chart.update_layout(
        showlegend=True, legend=_TOP, yaxis={"title": "NDCG@10"},
        yaxis2={"title": "loss", "overlaying": "y", "side": "right", "showgrid": False,
                "tickformat": ".2f", "automargin": True},
    )  # fmt: skip
    chart.update_xaxes(title="epoch", tickformat=",d", range=[0.5, len(losses) + 0.5])
    if len(losses) <= _TICKS:
        chart.update_xaxes(dtick=1)
    return chart


def points(named: Mapping[str, tuple[float, float]], *, x: str, y: str) -> Any:
    """Named points."""
    chart = _chart(340)
    for number, (name, (across, up)) in enumerate(named.items()):
        chart.add_scatter(
            x=[across], y=[up], name=name, mode="markers",
            marker={"color": COLOURS[number % len(COLOURS)], "size": 13,
                    "symbol": SYMBOLS[number % len(SYMBOLS)]},
            hovertemplate=name + ": %{x:.3g}, %{y:.1%}<extra></extra>",
        )  # fmt: skip
    chart.update_layout(showlegend=True, legend=_TOP)
    chart.update_xaxes(title=x, type="log")
    chart.update_yaxes(title=y, tickformat=".1%")
    return chart


def timeline(times: Sequence[Any], rows: Sequence[str], titles: Sequence[str], hidden: bool) -> Any:
    """Events by time and category; the last one marked where it is hidden from the models."""
    chart = _chart(120 + 26 * len(set(rows)))
    colours = [COLOURS[0]] * len(rows)
    symbols = ["circle"] * len(rows)
    if hidden:
        colours[-1], symbols[-1] = HIDDEN, "star"
    chart.add_scatter(
        x=list(times), y=list(rows), text=list(titles), mode="markers",
        marker={"color": colours, "symbol": symbols, "size": 13, "line": _EDGE},
        hovertemplate="%{text}<br>%{x}<extra></extra>",
    )  # fmt: skip
    chart.update_yaxes(type="category", automargin=True)
    return chart


def catalogue_map(
    of: CatalogueMap,
    marked: Mapping[str, tuple[str, FloatArray]],
    near: tuple[Sequence[str], FloatArray] = ((), np.zeros((0, 2), dtype=np.float32)),
) -> Any:
    """The catalogue in two dimensions, each group in a colour and a symbol of its own.

    The axes have no meaning of their own, and are not drawn.

    Parameters
    ----------
    marked
        Name → symbol and ``(1, 2)`` position of a highlighted point.
    near
        Titles and ``(n, 2)`` positions of the nearest items, which are ringed.
    """
    chart = _chart(520)
    scatter = go.Scattergl if len(of.places) > _MANY else go.Scatter
    texts = np.asarray([short(title) for title in of.titles], dtype=object)
    places = of.places.round(4)
    for code in [-1, *range(len(of.names))]:
        rows = np.flatnonzero(of.groups == code)
        if len(rows):
            chart.add_trace(
                scatter(
                    x=places[rows, 0], y=places[rows, 1], text=texts[rows], mode="markers",
                    name="others" if code < 0 else of.names[code],
                    marker={"color": OTHER if code < 0 else COLOURS[code], "size": 5,
                            "symbol": "circle" if code < 0 else SYMBOLS[code], "opacity": 0.75},
                    hovertemplate="%{text}<extra></extra>",
                )
            )  # fmt: skip
    titles, around = near
    if len(titles):
        chart.add_trace(
            scatter(
                x=around[:, 0], y=around[:, 1], mode="markers",
                text=[f"{rank}. {short(title)}" for rank, title in enumerate(titles, start=1)],
                name=f"its {len(titles)} nearest",
                marker={"symbol": "circle-open", "size": 14, "color": NEAR,
                        "line": {"width": 3, "color": NEAR}},
                hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    top = max((float(where[0, 1]) for _, where in marked.values()), default=0.0)
    for name, (symbol, where) in marked.items():
        # The same trace type as the points: WebGL is drawn above all others.
        chart.add_trace(
            scatter(
                x=where[:, 0], y=where[:, 1], mode="markers", name=name,
                marker={"symbol": symbol, "size": 20, "color": MARKED,
                        "line": {"width": 2, "color": "#000"}},
                hovertemplate=name + "<extra></extra>",
            )
        )  # fmt: skip
        chart.add_annotation(
            x=float(where[0, 0]), y=float(where[0, 1]), text=f"<b>{name}</b>", ax=0,
            ay=-44 if where[0, 1] == top else 44,  # away from the others
            standoff=10, arrowwidth=2, arrowcolor=MARKED, bgcolor=MARKED,
            borderpad=3, font={"color": "#000", "size": 13},
        )  # fmt: skip
    chart.update_layout(showlegend=True, legend={**_TOP, "itemsizing": "constant"})
    chart.update_xaxes(visible=False)
    chart.update_yaxes(visible=False)
    return chart


_EDGE: Final = {"width": 1.5, "color": "#fff"}
_TOP: Final = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def _hatched(number: int) -> dict[str, Any]:
    """Colour and pattern of a part of a bar."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "pattern": {
            "shape": ["", "/", ".", "x"][number % 4], "fillmode": "overlay", "fgcolor": "#fff",
            "fgopacity": 0.5,
        },
    }  # fmt: skip


def _chart(height: int) -> Any:
    chart = go.Figure()
    chart.update_layout(height=height, margin={"l": 8, "r": 8, "t": 16, "b": 8}, showlegend=False)
    chart.update_xaxes(automargin=True)
    chart.update_yaxes(automargin=True)
    return chart
