"""`downloads.json`: source, size and checksum of each downloaded file of a folder."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twotower.data.atomic import atomic_file
from twotower.data.download.fetch import Fetched, file_sha256

_log = logging.getLogger(__name__)


class Record:
    """The record of one folder, read when made and written whenever a file is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "downloads.json"
        self._files = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            files = json.loads(self.path.read_text(encoding="utf-8"))["files"]
            return {str(name): dict(entry) for name, entry in files.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s cannot be read (%s); its files are fetched again", self.path, error)
            return {}

    def matches(self, file: Path) -> bool:
        """Whether the file is there with the size and the checksum that were recorded."""
        entry = self._files.get(self._name(file))
        return (
            entry is not None
            and file.is_file()
            and file.stat().st_size == entry.get("size")
            and file_sha256(file) == entry.get("sha256")
        )

    def add(self, fetched: Fetched) -> None:
        """Note a file, replacing its earlier entry."""
        self._files[self._name(fetched.path)] = {
            "url": fetched.url,
            "size": fetched.size,
            "sha256": fetched.sha256,
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with atomic_file(self.path) as temporary:
            temporary.write_text(
                json.dumps({"schema_version": 1, "files": self._files}, indent=2), encoding="utf-8"
            )

    def _name(self, file: Path) -> str:
        return file.relative_to(self.folder).as_posix()
