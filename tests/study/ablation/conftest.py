from pathlib import Path
from typing import Any

import pytest

from twotower.data import Dataset
from twotower.workflow.progress import Bar, Reporter


class RecordingReporter(Reporter):
    """Keeps all reports."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.failures: list[str] = []
        self.bars: dict[str, list[tuple[int, int | None, str]]] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    def failure(self, text: str) -> None:
        self.failures.append(text)

    def bar(self, label: str, *, uneven: bool = False) -> Bar:
        reports = self.bars.setdefault(label, [])
        return lambda done, total, detail: reports.append((done, total, detail))


@pytest.fixture
def recorder() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def out(blocks: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder with its data set in place."""
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    blocks.save(tmp_path / "study" / "dataset")
    return tmp_path / "study"


@pytest.fixture
def stamps() -> Any:
    """When each file of a folder was written."""
    return lambda folder: {
        str(file.relative_to(folder)): file.stat().st_mtime_ns
        for file in folder.rglob("*")
        if file.is_file()
    }
