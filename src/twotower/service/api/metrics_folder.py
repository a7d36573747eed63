"""Folder of all workers' metrics, which is removed with the process that made it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

_PREFIX: Final = "twotower-metrics-"
_LOCK: Final = "held"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A new folder for the time of the block.

    A process that is killed cannot remove its own: the system releases its lock, and the next
    process that makes a folder removes those whose lock is free.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        folder = Path(name)
        with FileLock(folder / "new"):
            (folder / "new").rename(folder / _LOCK)  # never there without being held
            yield folder


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        # Held, of another user, or gone by now.
        with suppress(Timeout, OSError, NotImplementedError), FileLock(path, timeout=0):
            shutil.rmtree(path.parent, ignore_errors=True)
