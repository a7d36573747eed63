"""Helpers of several test modules."""

import time
from collections.abc import Callable

from twotower.data import Dataset
from twotower.workflow.progress import Silent


def histories(dataset: Dataset) -> dict[str, list[str]]:
    """User id → item ids of the user's interactions, oldest first."""
    return {
        user: [dataset.items.ids[item] for item in dataset.interactions.row(row)]
        for row, user in enumerate(dataset.users.ids)
    }


def until(condition: Callable[[], bool], seconds: float = 180) -> bool:
    """Wait for what other threads or processes do; whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return true


class Recorder(Silent):
    """Keeps the messages of a job."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.failures: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def failure(self, text: str) -> None:
        self.failures.append(text)
