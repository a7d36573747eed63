"""What the command line shows: progress bars and tables."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from twotower.evaluation.results import Row
from twotower.experiments.progress import Bar, BarReporter, Reporter
from twotower.serving.pipeline import Recommendation

SHOWN_METRICS = ("HR@5", "HR@10", "HR@20", "NDCG@10", "MRR")


class ConsoleReporter(BarReporter):
    """Draws one bar for each piece of work; finished facts stay above the bars."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def note(self, text: str) -> None:
        """Print a finished fact."""
        self._progress.console.print(f"[green]✓[/] {escape(text)}", highlight=False)

    def failure(self, text: str) -> None:
        """Print what did not work."""
        self._progress.console.print(f"[red]✗[/] {escape(text)}", highlight=False)

    def bar(self, label: str) -> Bar:
        """One bar, drawn until all is done."""
        task = self._progress.add_task(label, total=None, detail="")

        def report(done: int, total: int | None, detail: str) -> None:
            self._progress.update(
                task, total=total, completed=done, detail=detail, visible=done != total
            )

        return report


@contextmanager
def reporting(console: Console) -> Iterator[Reporter]:
    """A reporter whose bars are drawn while the block runs."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console,
    ) as progress:
        yield ConsoleReporter(progress)


@contextmanager
def downloading(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """A download callback with one bar a file."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def report(file: str, received: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file, total=total)
            progress.update(tasks[file], completed=received, total=total)

        yield report


def results_table(rows: Sequence[Row], protocol: str) -> Table:
    """One line a model, one column a metric, with 95% intervals for NDCG@10."""
    chosen = [row for row in rows if row.protocol == protocol]
    users = max((row.users for row in chosen), default=0)
    table = Table(title=f"test, {protocol}, {users:,} users", title_justify="left")
    table.add_column("model", no_wrap=True)
    for metric in SHOWN_METRICS:
        table.add_column(metric, justify="right")
    table.add_column("95% of NDCG@10", justify="right", no_wrap=True)
    for model in dict.fromkeys(row.model for row in chosen):
        cells = {row.metric: row for row in chosen if row.model == model}
        ndcg = cells["NDCG@10"]
        table.add_row(
            model,
            *(f"{cells[metric].value:.4f}" for metric in SHOWN_METRICS),
            f"{ndcg.low:.4f}-{ndcg.high:.4f}",
        )
    return table


def recommendations_table(items: Sequence[Recommendation]) -> Table:
    """One line an item."""
    table = Table()
    table.add_column("#", justify="right")
    table.add_column("item")
    table.add_column("title", overflow="fold")
    table.add_column("score", justify="right")
    for item in items:
        table.add_row(
            str(item.rank), item.item_id, escape(item.title or "(no title)"), f"{item.score:.4f}"
        )
    return table
