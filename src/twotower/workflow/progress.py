"""Progress reports of long jobs: messages and bars, for the console, for logs, or not at all."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias

from twotower.training.progress import Progress, TrainingState

Bar: TypeAlias = Callable[[int, int | None, str], None]
"""Called with the amount done, the total (None if unknown), and a detail such as a speed."""


class Reporter(ABC):
    """Receives the messages and the progress of a job; every kind of work is shown as a bar."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a message."""

    @abstractmethod
    def failure(self, text: str) -> None:
        """Show a warning: something did not work, and the job goes on."""

    @abstractmethod
    def bar(self, label: str, *, uneven: bool = False) -> Bar:
        """A callback that shows the progress of one piece of work.

        ``uneven`` if its parts take very different times, so that the remaining time cannot be
        estimated: the elapsed time is shown instead.
        """

    def training(self, label: str) -> Progress:
        """A bar over the steps, with epoch, loss, speed and the validation metric.

        With early stopping the end of training moves with every gain: the bar runs to the earliest
        possible end.
        """
        bar = self.bar(f"train {label}")

        def report(state: TrainingState, steps: int, examples_per_second: float) -> None:
            metric = state.epochs[-1].metric if state.epochs else None
            done = state.epoch * steps + state.step
            mean_loss = state.loss_sum / state.step if state.step else state.epochs[-1].loss
            ends, at_least = state.most_epochs, ""
            if state.earliest_end is not None and state.earliest_end < ends:
                ends, at_least = state.earliest_end, " or more"
            total = ends * steps
            if state.most_seconds is not None:
                total = min(total, round(done * state.most_seconds / state.spent))
            if state.finished or state.epoch == state.most_epochs:
                total = done
            bar(
                done,
                max(done, total),
                f"epoch {min(state.epoch + 1, ends)} of {ends}{at_least}  "
                f"loss {mean_loss:.4f}  {examples_per_second:,.0f} examples/s"
                + (f"  validation NDCG@10 {metric:.4f}" if metric is not None else ""),
            )

        return report

    def counting(self, label: str, total: int, *, uneven: bool = False) -> Callable[[int], None]:
        """A bar over ``total`` things; the callback takes those done since its last call."""
        bar = self.bar(label, uneven=uneven)
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar(done, total, "")

        return advance

    def reading(self) -> Callable[[int, int], None]:
        """A bar over the bytes of a log; the callback takes the bytes read so far, and in all."""
        bar = self.bar("read the log")
        return lambda done, total: bar(done, total, "")


SECONDS_BETWEEN: Final = 10.0
"""Between two lines about one piece of work."""


def to_stderr(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)


class LineReporter(Reporter):
    """Progress as lines of text, for logs, pipes and notebooks.

    Parameters
    ----------
    write
        Takes a line.
    every
        Seconds between two lines about one piece of work; shorter work has none.
    clock
        Seconds that have passed.
    """

    def __init__(
        self,
        write: Callable[[str], None] = to_stderr,
        every: float = SECONDS_BETWEEN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._every, self._clock = write, every, clock

    def note(self, text: str) -> None:
        """Write a note."""
        self._write(text)

    def failure(self, text: str) -> None:
        """Write a warning."""
        self._write(f"warning: {text}")

    def bar(self, label: str, *, uneven: bool = False) -> Bar:
        """A line every few seconds, with the remaining time at the speed so far."""
        began = said = self._clock()
        first: int | None = None  # what an earlier process had done

        def report(done: int, total: int | None, detail: str) -> None:
            nonlocal first, said
            now = self._clock()
            if first is None:
                first = done
            if now - said < self._every or done == total:
                return
            said = now
            parts = [f"{done:,}" if total is None else f"{done:,} of {total:,}"]
            if uneven:
                parts.append(f"{in_words(now - began)} so far")
            elif total is not None and first < done < total:
                left = (now - began) * (total - done) / (done - first)
                parts.append(f"about {in_words(left)} left")
            self._write(f"{label}: {', '.join(filter(None, (*parts, detail)))}")

        return report


def in_words(seconds: float) -> str:
    """A duration in words.

    >>> in_words(8.2), in_words(95), in_words(5_400)
    ('8 s', '1 min 35 s', '1 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Silent(Reporter):
    """Shows nothing."""

    def note(self, text: str) -> None:
        """Ignore."""

    def failure(self, text: str) -> None:
        """Ignore."""

    def bar(self, label: str, *, uneven: bool = False) -> Bar:
        """Ignore every report."""
        del label, uneven
        return lambda *_: None
