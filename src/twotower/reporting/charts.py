"""Plotly charts of a study's figures (extra 'report')."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from twotower.evaluation.registry import FULL, SAMPLED
from twotower.evaluation.results import Difference, Row
from twotower.reporting.study_results import QUALITY, StudyFigures, within_seeds

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A",
                  "#8C6D31", "#3B3B3B", "#999933", "#AA4499", "#44AA99")  # fmt: skip
"""Okabe and Ito's colour-blind-safe palette, and more for more models."""
SYMBOLS: Final = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "x",
    "star",
    "triangle-down",
    "cross",
)
DASHES: Final = ("solid", "dash", "dot", "dashdot")
VERDICTS: Final[Mapping[str, tuple[str, str]]] = {
    "helps": ("#0072B2", "circle"),
    "hurts": ("#D55E00", "diamond"),
    "no difference shown": ("#6B7280", "circle-open"),
}
INK: Final = "#1F2933"
GRID: Final = "#E4E7EB"


def differences_chart(figures: StudyFigures, protocol: str = FULL) -> Any:
    """Forest plot: difference of every variant to its parent, with its interval."""
    found = figures.compared(protocol)
    chart = _chart(height=110 + 42 * len(found))
    for verdict, (colour, symbol) in VERDICTS.items():
        those = [d for d in found if d.verdict == verdict]
        chart.add_scatter(
            x=[d.value for d in those],
            y=[_label(d) for d in those],
            error_x=_spread(those, thickness=2.5, width=0),
            customdata=[[figures.changes.get(d.model, ""), d.p_corrected] for d in those],
            hovertemplate="%{y}<br>%{customdata[0]}<br>%{x:+.4f}, corrected p %{customdata[1]:.4f}"
            "<extra></extra>",
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 12, "line": {"width": 2}},
            name=verdict,
        )
    chart.add_vline(x=0, line={"color": INK, "width": 1.2})
    chart.update_xaxes(title=f"difference in {QUALITY} ({protocol})", tickformat="+.3f")
    order = [_label(d) for d in reversed(found)]
    chart.update_yaxes(categoryorder="array", categoryarray=order)
    return chart


def models_chart(figures: StudyFigures, protocol: str) -> Any:
    """Every model with its interval."""
    rows = list(figures.by_model(protocol, QUALITY).values())
    chart = _chart(height=100 + 30 * len(rows), legend=False)
    chart.add_scatter(
        x=[row.value for row in rows],
        y=[row.model for row in rows],
        error_x=_spread(rows, thickness=2.5, width=0),
        mode="markers",
        marker={"color": COLOURS[0], "size": 11},
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )
    chart.update_xaxes(title=f"{QUALITY} ({protocol})", rangemode="tozero")
    chart.update_yaxes(autorange="reversed")
    return chart


def sampled_against_full_chart(figures: StudyFigures) -> Any:
    """Each model's place under both rankings."""
    full, sampled = (figures.by_model(name, QUALITY) for name in (FULL, SAMPLED))
    models = [model for model in full if model in sampled]
    chart = _chart(height=460)
    for number, model in enumerate(models):
        chart.add_scatter(
            x=[sampled[model].value],
            y=[full[model].value],
            error_x=_spread([sampled[model]]),
            error_y=_spread([full[model]]),
            name=model,
            **_point(number),
            hovertemplate="sampled %{x:.4f}, full %{y:.4f}<extra>" + model + "</extra>",
        )
    chart.update_xaxes(title=f"{QUALITY} among 100 sampled negatives")
    chart.update_yaxes(title=f"{QUALITY}, full ranking")
    return chart


def reference_chart(figures: StudyFigures) -> Any:
    """Published figures beside ours: HR@10 among sampled negatives."""
    metric = "HR@10"
    ours = {model: row.value for model, row in figures.by_model(SAMPLED, metric).items()}
    named = {"reference": figures.published(SAMPLED, metric), "this study": ours}
    return _pairs_chart(named, f"{metric} ({SAMPLED})")


def newcomers_chart(figures: StudyFigures) -> Any:
    """New users, held out of training, beside known users."""
    named = {
        name: {model: row.value for model, row in figures.by_model(protocol, QUALITY).items()}
        for name, protocol in (("known users", "known-users"), ("new users", "new-users"))
    }
    return _pairs_chart(named, f"{QUALITY}, full ranking")


def _pairs_chart(named: Mapping[str, Mapping[str, float]], axis: str) -> Any:
    """Two points per model, joined by a line; ``named`` is name → model → value."""
    first, second = named.values()
    models = [model for model in second if model in first]
    chart = _chart(height=110 + 30 * len(models))
    for model in models:
        chart.add_scatter(
            x=[first[model], second[model]],
            y=[model, model],
            mode="lines",
            line={"color": "#CBD2D9", "width": 3},
            hoverinfo="skip",
            showlegend=False,
        )
    for (name, values), colour, symbol in zip(
        named.items(), (COLOURS[4], COLOURS[0]), ("diamond", "circle"), strict=True
    ):
        chart.add_scatter(
            x=[values[model] for model in models],
            y=models,
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 12},
            hovertemplate="%{y}: %{x:.4f}<extra>" + name + "</extra>",
        )
    chart.update_xaxes(title=axis)
    chart.update_yaxes(autorange="reversed")
    return chart


def lines_chart(figures: StudyFigures, steps: Mapping[str, str], axis: str) -> Any:
    """One line per model over protocols on one scale; ``steps`` is protocol → label."""
    chart = _chart(height=460)
    models = [
        model for model in dict.fromkeys(row.model for row in figures.rows)
        if any(model in figures.by_model(step, QUALITY) for step in steps)
    ]  # fmt: skip
    for number, model in enumerate(models):
        found = {step: figures.by_model(step, QUALITY).get(model) for step in steps}
        rows = [row for row in found.values() if row is not None]
        chart.add_scatter(
            x=[label for step, label in steps.items() if found[step] is not None],
            y=[row.value for row in rows],
            error_y=_spread(rows),
            mode="lines+markers",
            name=model,
            **_style(number),
            hovertemplate="%{x}: %{y:.4f}<extra>" + model + "</extra>",
        )
    chart.update_xaxes(title=axis, type="category")
    chart.update_yaxes(title=QUALITY, rangemode="tozero")
    return chart


def gates_chart(figures: StudyFigures) -> Any:
    """Gate weights of both towers, ours and the reference's."""
    ours = [row for row in figures.rows if row.protocol == "gates"]
    theirs = figures.reference.rows if figures.reference else ()
    weights: dict[str, dict[str, float]] = {}
    for source, rows in (("ours", ours), ("reference", theirs)):
        for row in rows:
            if row.protocol == "gates":
                tower, _, part = row.metric.partition("-")
                weights.setdefault(f"{row.model}, {tower} tower, {source}", {})[part] = row.value
    bars = sorted(weights)
    chart = _chart(height=120 + 44 * len(bars))
    parts = dict.fromkeys(part for of in weights.values() for part in of)
    for number, part in enumerate(parts):
        chart.add_bar(
            y=bars,
            x=[weights[bar].get(part, 0) for bar in bars],
            orientation="h",
            name=part,
            marker={
                "color": COLOURS[number],
                "pattern": {"shape": ["", "/", ".", "x"][number % 4], "fgopacity": 0.3},
            },
            texttemplate="%{x:.0%}",
            hovertemplate="%{y}, " + part + ": %{x:.1%}<extra></extra>",
        )
    chart.update_layout(barmode="stack")
    chart.update_xaxes(title="weight", tickformat=".0%", range=[0, 1])
    chart.update_yaxes(autorange="reversed")
    return chart


def curves_chart(figures: StudyFigures) -> Any:
    """Validation quality by epoch."""
    chart = _chart(height=460)
    metric = f"validation-{QUALITY}"
    epochs = {name: int(name.removeprefix("epoch-")) for name in figures.protocols("epoch-")}
    models = dict.fromkeys(row.model for row in figures.rows if row.metric == metric)
    for number, model in enumerate(models):
        points = sorted(
            (epoch, row.value)
            for name, epoch in epochs.items()
            if (row := figures.by_model(name, metric).get(model)) is not None
        )
        chart.add_scatter(
            x=[epoch for epoch, _ in points],
            y=[value for _, value in points],
            mode="lines+markers",
            name=model,
            **_style(number),
            hovertemplate="epoch %{x}: %{y:.4f}<extra>" + model + "</extra>",
        )
    chart.update_xaxes(title="epoch", rangemode="tozero")
    chart.update_yaxes(title=f"{QUALITY} on validation")
    return chart


def time_chart(figures: StudyFigures) -> Any:
    """Quality against training time."""
    quality = figures.by_model(FULL, QUALITY)
    times = figures.by_model("timing", "training-seconds")
    chart = _chart(height=460)
    for number, model in enumerate(model for model in times if model in quality):
        chart.add_scatter(
            x=[times[model].value],
            y=[quality[model].value],
            error_y=_spread([quality[model]]),
            name=model,
            **_point(number),
            hovertemplate="%{x:.0f} s, %{y:.4f}<extra>" + model + "</extra>",
        )
    chart.update_xaxes(title="seconds of training (logarithmic)", type="log", dtick="D2")
    chart.update_yaxes(title=f"{QUALITY}, full ranking")
    return chart


def _label(found: Difference) -> str:
    return f"<b>{found.model}</b> vs {found.parent}{' †' * within_seeds(found)}"


def _spread(
    rows: Sequence[Row | Difference], *, thickness: float = 1.2, width: float = 3
) -> dict[str, Any]:
    """Error bars from the intervals."""
    return {
        "thickness": thickness,
        "width": width,
        "type": "data",
        "symmetric": False,
        "array": [0 if row.high is None else row.high - row.value for row in rows],
        "arrayminus": [0 if row.low is None else row.value - row.low for row in rows],
    }


def _style(number: int) -> dict[str, Any]:
    """Colour, symbol and dash, so that lines differ in more than colour."""
    colour = COLOURS[number % len(COLOURS)]
    return {
        "line": {"color": colour, "dash": DASHES[number % len(DASHES)], "width": 2},
        "marker": {"color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 8},
    }


def _point(number: int) -> dict[str, Any]:
    """A distinct marker for a point named in the legend, since labels beside points collide."""
    style = _style(number)
    return {"mode": "markers", "marker": {**style["marker"], "size": 11}}


def _chart(height: int, *, legend: bool = True) -> Any:
    chart = go.Figure()
    chart.update_layout(
        height=height,
        margin={"l": 20, "r": 20, "t": 16, "b": 52},
        font={"family": "Inter, system-ui, Segoe UI, sans-serif", "size": 14, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        showlegend=legend,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"bgcolor": "white"},
    )
    chart.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True, ticks="outside",
                       tickcolor=GRID)  # fmt: skip
    chart.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    return chart
