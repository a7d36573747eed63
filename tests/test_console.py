"""Tables of the command line."""

import io

from rich.console import Console

from twotower.console import reporting, results_table
from twotower.evaluation.results import Row


def test_no_figure_is_cut_at_80_columns() -> None:
    metrics = ("HR@5", "HR@10", "HR@50", "NDCG@10", "MRR")
    rows = [
        Row(
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
        for model in ("v10", "v10+rerank")
        for metric in metrics
    ]
    console = Console(width=80, force_terminal=False)
    with console.capture() as shown:
        console.print(results_table(rows, "full"))
    lines = shown.get().splitlines()
    assert "…" not in shown.get()
    assert max(map(len, lines)) <= 80
    for name in ("two-tower ", "two-tower, both"):
        (line,) = (line for line in lines if line.strip().startswith(name))
        assert line.split()[-6:] == ["0.1235"] * 5 + ["0.1000-0.2000"]


def test_a_bar_of_uneven_work_guesses_no_time() -> None:
    for uneven in (False, True):
        console = Console(file=io.StringIO(), force_terminal=True, width=100)
        with reporting(console) as reporter:
            reporter.bar("cells", uneven=uneven)(1, 3, "")
        assert isinstance(console.file, io.StringIO)
        assert ("-:--:--" in console.file.getvalue()) is not uneven
