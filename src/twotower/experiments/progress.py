"""What a long job tells about itself; the command line draws it, a library call need not."""

from collections.abc import Callable
from typing import Protocol

from twotower.training.trainer import Progress, TrainingState


class Reporter(Protocol):
    """Told what happens, as it happens."""

    def note(self, text: str) -> None:
        """One finished fact."""
        ...

    def training(self, label: str, epochs: int) -> Progress:
        """A callback for `twotower.training.trainer.train`."""
        ...

    def counting(self, label: str, total: int) -> Callable[[int], None]:
        """A callback that is told how many more are done."""
        ...

    def reading(self) -> Callable[[int, int], None]:
        """A callback that is told the bytes read so far, and in all."""
        ...


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None:
        """Ignore."""

    def training(self, label: str, epochs: int) -> Progress:
        """Ignore every step."""
        del label, epochs
        return _unwatched

    def counting(self, label: str, total: int) -> Callable[[int], None]:
        """Ignore every count."""
        del label, total
        return _ignore

    def reading(self) -> Callable[[int, int], None]:
        """Ignore every byte."""
        return _ignore


def _ignore(*_: object) -> None:
    """Take a report and do nothing."""


def _unwatched(state: TrainingState, steps: int, examples_per_second: float) -> None:
    """Take a training report and do nothing."""
    del state, steps, examples_per_second
