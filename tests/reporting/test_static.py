"""Charts of the page as SVG: what they show is what Plotly was given."""

import re

import plotly.graph_objects as go
import pytest

from twotower.reporting.static import static_svg


def texts(chart: go.Figure) -> list[str]:
    found = re.findall(r"<text[^>]*>([^<]*)</text>", static_svg(chart, "A chart", "one"))
    return [text.strip() for text in found]


def test_categories_and_names_are_words_in_the_picture() -> None:
    chart = go.Figure(layout={"height": 200, "showlegend": True})
    chart.add_scatter(x=[0.1, 0.2], y=["<b>v2</b> vs v1", "v3"], mode="markers", name="helps")
    chart.update_xaxes(title="difference", tickformat="+.2f")
    found = texts(chart)
    assert {"v2 vs v1", "v3", "helps", "difference", "+0.10"} <= set(found)
    assert found.index("v2 vs v1") < found.index("v3")
    chart.update_yaxes(categoryorder="array", categoryarray=["v3", "<b>v2</b> vs v1"])
    found = texts(chart)
    assert found.index("v3") < found.index("v2 vs v1")


def test_bars_are_stacked_and_small_ones_have_no_label() -> None:
    chart = go.Figure(layout={"height": 200, "showlegend": True, "barmode": "stack"})
    for name, share in (("id", 0.6), ("text", 0.38), ("image", 0.02)):
        chart.add_bar(y=["v8"], x=[share], orientation="h", name=name)
    chart.update_xaxes(tickformat=".0%", range=[0, 1])
    found = texts(chart)
    assert {"60%", "38%", "100%", "id", "text", "image"} <= set(found)
    assert "2%" not in found


@pytest.mark.parametrize("kind", ["log", "linear"])
def test_a_logarithmic_axis_has_plain_numbers(kind: str) -> None:
    chart = go.Figure(layout={"height": 200})
    chart.add_scatter(
        x=[100, 1000], y=[1, 2], mode="lines+markers",
        error_y={"array": [0.5, 0.5], "arrayminus": [0.1, 0.1], "thickness": 1},
    )  # fmt: skip
    chart.update_xaxes(type=kind)
    chart.add_vline(x=500)
    assert ("1,000" in texts(chart)) == (kind == "log")


def test_ids_of_two_charts_differ_and_a_chart_is_the_same_in_every_run() -> None:
    chart = go.Figure(layout={"height": 200})
    chart.add_scatter(x=[1, 2], y=[1, 2], mode="lines", name="a")
    one, two = static_svg(chart, "A chart", "one"), static_svg(chart, "A chart", "two")
    of_one, of_two = (set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two))
    assert of_one
    assert not of_one & of_two
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", one))
    assert used <= of_one
    assert static_svg(chart, "A chart", "one") == one
    assert "A chart" in one


def test_what_it_cannot_draw_is_refused() -> None:
    chart = go.Figure(go.Heatmap(z=[[1, 2]], x=[1, 2], y=[1])).update_layout(height=300)
    with pytest.raises(ValueError, match="type 'heatmap'"):
        static_svg(chart, "", "a")
