"""Console output of commands: progress bars and tables."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from twotower.reporting.product_names import product_name
from twotower.workflow.progress import Bar, LineReporter, Reporter

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult
    from rich.progress import Progress, Task, TaskID

    from twotower.evaluation.results import Difference, Row
    from twotower.inference.answers import Recommendation

SHOWN_METRICS = ("HR@5", "HR@10", "HR@50", "NDCG@10", "MRR")
INTERVAL_OF = "NDCG@10"


class ConsoleReporter(Reporter):
    """Reporter with a progress bar per task; notes stay above the bars."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress

    def note(self, text: str) -> None:
        """Print a note."""
        _note(self._progress.console, text)

    def failure(self, text: str) -> None:
        """Print a failure."""
        _failure(self._progress.console, text)

    def bar(self, label: str, *, uneven: bool = False) -> Bar:
        """A bar, shown until its task is complete."""
        task = self._progress.add_task(label, total=None, detail="", uneven=uneven)

        def report(done: int, total: int | None, detail: str) -> None:
            self._progress.update(
                task, total=total, completed=done, detail=detail, visible=done != total
            )

        return report


class PipedReporter(LineReporter):
    """Lines in place of bars, for a file or another command: one for each message."""

    def __init__(self, console: Console) -> None:
        super().__init__(lambda text: _line(console, text))
        self._console = console

    def note(self, text: str) -> None:
        """Print a note."""
        _note(self._console, text)

    def failure(self, text: str) -> None:
        """Print a failure; to standard error where notes are not printed."""
        _failure(self._console, text)


def _line(console: Console, text: str | Text) -> None:
    """Wrapped for a reader at a terminal, whole for a log that is searched."""
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _note(console: Console, text: str) -> None:
    _line(console, Text.assemble(("✓", "green"), f" {text}"))


def _failure(console: Console, text: str) -> None:
    if console.quiet:
        print(f"✗ {text}", file=sys.stderr)
    else:
        _line(console, Text.assemble(("✗", "red"), f" {text}"))


@contextmanager
def reporting(console: Console) -> Iterator[Reporter]:
    """A reporter whose bars are drawn while the block runs; piped, a line every few seconds."""
    if console.quiet or not (console.is_terminal or console.is_jupyter):
        yield PipedReporter(console)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class TimeLeft(TimeRemainingColumn):
        """Nothing where what is done does not tell it."""

        def render(self, task: "Task") -> Text:
            return Text() if task.fields["uneven"] else super().render(task)

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
    ) as progress:
        yield ConsoleReporter(progress)


@contextmanager
def downloading(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """A download callback with a bar per file."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
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


class FigureTable(Table):
    """A table whose figures are never cut: where it is too narrow for its columns, each row is
    a list of its own, a line a figure.
    """

    def __rich_console__(self, console: Console, options: "ConsoleOptions") -> "RenderResult":
        drawn = list(super().__rich_console__(console, options))
        text = "".join(part.text for part in drawn if isinstance(part, Segment))
        if "…" not in text and all(cell_len(row) <= options.max_width for row in text.split("\n")):
            yield from drawn
            return
        yield Text(f"{self.title}\n", "italic")
        _, *names = (column.header for column in self.columns)
        for head, *cells in zip(*(column.cells for column in self.columns), strict=True):
            yield Text(str(head), "bold")
            figures = Table.grid(padding=(0, 2))
            figures.add_column()
            figures.add_column(justify="right")
            for name, cell in zip(names, cells, strict=True):
                figures.add_row(name, cell)
            yield Padding(figures, (0, 0, 1, 2), expand=False)


def table_of_figures(title: str) -> Table:
    """A table that fits any width without cutting figures: names are wrapped first."""
    return FigureTable(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)


def results_table(rows: "Sequence[Row]", protocol: str) -> Table:
    """Table with a row per model and a column per metric, with 95% intervals of NDCG@10.

    Results without any usual metric, such as those of whole lists, are transposed: a row per
    metric, a column per model.
    """
    chosen = [row for row in rows if row.protocol == protocol]
    cells = {(row.model, row.metric): row for row in chosen}
    models = list(dict.fromkeys(row.model for row in chosen))
    measured = list(dict.fromkeys(row.metric for row in chosen))
    metrics = [metric for metric in SHOWN_METRICS if metric in measured]
    users = max((row.users for row in chosen), default=0)
    splits = ", ".join(dict.fromkeys(row.split for row in chosen))
    table = table_of_figures(f"{protocol}, {users:,} users, {splits}")
    lines, names = (models, metrics) if metrics else (measured, models)
    table.add_column("model" if metrics else "metric")
    for name in names:
        table.add_column(product_name(name), justify="right", min_width=len("0.0000"))
    if INTERVAL_OF in metrics:
        table.add_column(f"95% of {INTERVAL_OF}", justify="right", no_wrap=True)
    for line in lines:
        keys = [(line, name) if metrics else (name, line) for name in names]
        values = [f"{cells[key].value:.4f}" if key in cells else "–" for key in keys]
        if INTERVAL_OF in metrics:
            ndcg = cells[line, INTERVAL_OF]
            values.append(f"{ndcg.low:.4f}-{ndcg.high:.4f}")
        table.add_row(product_name(line), *values)
    return table


COLOURS = {"helps": "green", "hurts": "red", "no difference shown": "dim"}


def differences_table(differences: "Sequence[Difference]", protocol: str, metric: str) -> Table:
    """Table of paired differences between each model and its parent, with significance."""
    table = table_of_figures(f"{metric}, {protocol}, against the parent")
    for name in ("model", "parent"):
        table.add_column(name)
    for name in ("difference", "95%", "p corrected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for difference in differences:
        if (difference.protocol, difference.metric) == (protocol, metric):
            table.add_row(
                product_name(difference.model),
                product_name(difference.parent),
                f"{difference.value:+.4f}",
                f"{difference.low:+.4f} to {difference.high:+.4f}",
                f"{difference.p_corrected:.4f}",
                Text(difference.verdict, COLOURS[difference.verdict]),
            )
    return table


def one_line(title: str | None) -> str:
    """A title, which may have several lines, as one; none is empty."""
    return " ".join((title or "").split())


def recommendations_table(items: "Sequence[Recommendation]") -> Table:
    """Table with a row per item."""
    table = Table()
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("item", overflow="fold")
    table.add_column("title", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    ruled = any(item.rule for item in items)
    if ruled:
        table.add_column("rule", overflow="fold")
    for item in items:
        title = Text(one_line(item.title) or "(no title)")
        cells: list[str | Text] = [str(item.rank), Text(item.item_id), title, f"{item.score:.4f}"]
        table.add_row(*cells, *([item.rule or ""] if ruled else []))
    return table
