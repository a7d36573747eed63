"""Tables of the command line."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from twotower.console import (
    PipedReporter,
    differences_table,
    recommendations_table,
    reporting,
    results_table,
)
from twotower.evaluation.results import Difference, Row
from twotower.inference.answers import Recommendation


def row(model: str, metric: str) -> Row:
    return Row(
        dataset="shop",
        split="leave-last-two",
        model=model,
        protocol="full",
        metric=metric,
        value=0.12345,
        low=0.1,
        high=0.2,
        seeds=[0],
        users=300,
    )


def shown(table: Table, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as found:
        console.print(table)
    assert "…" not in found.get()
    lines = found.get().splitlines()
    assert max(map(len, lines)) <= width
    return lines


USUAL = [
    row(model, metric)
    for model in ("v10", "v10+rerank")
    for metric in ("HR@5", "HR@10", "HR@50", "NDCG@10", "MRR")
]


def test_no_figure_is_cut_at_80_columns() -> None:
    lines = shown(results_table(USUAL, "full"), 80)
    for name in ("two-tower ", "two-tower, both"):
        (line,) = (line for line in lines if line.strip().startswith(name))
        assert line.split()[-6:] == ["0.1235"] * 5 + ["0.1000-0.2000"]


MODELS = ("v10", "v10+rerank", "popularity", "item-knn", "als", "ease", "lightgcn")
LISTS = [row(model, metric) for model in MODELS for metric in ("coverage", "gini")]
CHANGED = [
    Difference(
        dataset="shop", split="leave-last-two", model=model, parent="v3", protocol="full",
        metric="NDCG@10", value=-0.0123, low=-0.02, high=0.01, p=0.2, p_corrected=0.4,
        verdict="no difference shown", seeds=[0], parent_seeds=[0], users=300,
    )
    for model in ("v4", "v10+rerank")
]  # fmt: skip


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 100, 120])
@pytest.mark.parametrize(
    ("table", "figures"),
    [
        (results_table(USUAL, "full"), {"0.1235": 10, "0.1000-0.2000": 2}),
        (results_table(LISTS, "full"), {"0.1235": 14}),
        (
            differences_table(CHANGED, "full", "NDCG@10"),
            {"-0.0123": 2, "-0.0200 to +0.0100": 2, "0.4000": 2},
        ),
    ],
)
def test_no_figure_is_cut_at_any_width(table: Table, figures: dict[str, int], width: int) -> None:
    text = "\n".join(shown(table, width))
    assert {figure: text.count(figure) for figure in figures} == figures


def test_ids_and_scores_of_recommendations_are_whole_at_60_columns() -> None:
    item = Recommendation("item-" + "x" * 40, "A title of many words " * 5, 1234.5678, 1)
    lines = shown(recommendations_table([item]), 60)
    assert sum(line.count("x") for line in lines) == 40
    assert any("1234.5678" in line for line in lines)


def test_a_bar_of_uneven_work_guesses_no_time() -> None:
    for uneven in (False, True):
        console = Console(file=io.StringIO(), force_terminal=True, width=100)
        with reporting(console) as reporter:
            reporter.bar("cells", uneven=uneven)(1, 3, "")
        assert isinstance(console.file, io.StringIO)
        assert ("-:--:--" in console.file.getvalue()) is not uneven


@pytest.mark.parametrize("markup", [True, False])
def test_ids_and_titles_are_shown_whole_on_one_line_each(markup: bool) -> None:
    """Brackets are no markup: ``[/b]`` would be an error of it, ``[red]`` would vanish."""
    long = "urn:" + "x" * 90
    items = [
        Recommendation("sku[red]7[/b]", "Two\nlines [bold]", 1.0, 1, None, None, None, None),
        Recommendation(long, None, 0.5, 2, None, None, None, None),
    ]
    console = Console(width=80, force_terminal=False, markup=markup)
    with console.capture() as shown:
        console.print(recommendations_table(items))
    text = shown.get()
    assert "sku[red]7[/b]" in text
    assert "Two lines [bold]" in text
    assert "…" not in text
    assert text.count("x") == 90


def test_notes_show_brackets() -> None:
    console = Console(width=80, force_terminal=False)
    with console.capture() as shown:
        PipedReporter(console).note("data set shop[v2] of [/b] prepared")
    assert shown.get() == "✓ data set shop[v2] of [/b] prepared\n"
