"""Bundle shelf: the bundles of a service side by side, and an index file of their history."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from twotower.config import Config
from twotower.data.atomic import atomic_file
from twotower.errors import ArtefactError, InputError
from twotower.retraining.gate import Verdict

INDEX: Final = "bundles.json"


class ShelfEntry(Config):
    """One bundle."""

    name: str | None
    """Folder beside the configured one; None for the configured one."""
    model_version: str
    made: str
    """Time of creation, ISO 8601 in UTC."""
    outcome: Literal["served", "refused", "rolled-back"]
    """``served`` was, or is, in service."""
    verdict: Verdict | None = None
    """The gate's verdict; None for a bundle that was not made by retraining."""


_ENTRIES: Final = TypeAdapter(list[ShelfEntry])


class Shelf:
    """The index of a folder of bundles, oldest first.

    Parameters
    ----------
    folder
        Folder of the bundles; its ``bundles.json`` is the index.

    Raises
    ------
    ArtefactError
        If the index is invalid.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / INDEX
        try:
            text = self._file.read_text() if self._file.exists() else "[]"
            self.entries: Sequence[ShelfEntry] = _ENTRIES.validate_json(text)
        except ValidationError:
            raise ArtefactError(f"{self._file} is no index of bundles") from None

    def add(self, entry: ShelfEntry) -> None:
        """Add the newest bundle."""
        self._write([*self.entries, entry])

    def note(self, name: str | None, model_version: str, made: str) -> None:
        """Add a bundle that came into service by other means, unless it is the newest served."""
        served = [entry for entry in self.entries if entry.outcome == "served"]
        if not served or served[-1].name != name:
            self.add(
                ShelfEntry(name=name, model_version=model_version, made=made, outcome="served")
            )

    def before(self, name: str | None) -> ShelfEntry:
        """The bundle that was served before the given one; `InputError` if there is none."""
        served = [entry for entry in self.entries if entry.outcome == "served"]
        places = [place for place, entry in enumerate(served) if entry.name == name]
        for entry in reversed(served[: places[-1]] if places else served):
            if entry.name != name and (entry.name is None or (self.folder / entry.name).exists()):
                return entry
        raise InputError(
            f"{self._file} names no bundle that was served before",
            "name one: POST /v1/models/reload, or Client.reload",
        )

    def mark_rolled_back(self, name: str | None) -> None:
        """Note that a bundle was taken out of service."""
        self._write(
            [
                entry.vary(outcome="rolled-back")
                if entry.name == name and entry.outcome == "served"
                else entry
                for entry in self.entries
            ]
        )

    def prune(self, keep: int, in_service: str | None) -> list[str]:
        """Delete all but the newest bundles and the one in service; returns the deleted names."""
        names = [entry.name for entry in self.entries if entry.name is not None]
        there = [name for name in dict.fromkeys(names) if (self.folder / name).exists()]
        old = [name for name in there[: max(0, len(there) - keep)] if name != in_service]
        for name in old:
            shutil.rmtree(self.folder / name)
        return old

    def _write(self, entries: Sequence[ShelfEntry]) -> None:
        with atomic_file(self._file) as temporary:
            rows = [entry.model_dump(mode="json") for entry in entries]
            temporary.write_text(json.dumps(rows, indent=2) + "\n")
        self.entries = entries
