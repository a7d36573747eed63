"""A folder in which processes keep their metrics, which goes when the one that made it is gone."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "twotower-metrics-"
_LOCK: Final = "held"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A new folder for the time of the block.

    Whoever is killed cannot remove its own: a folder of which nobody holds the lock any more, which
    the system lets go of with the process, is removed by the next one that makes one.
    """
    _remove_forsaken(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX) as name,
        (Path(name) / "new").open("w") as lock,
    ):
        _hold(lock)
        Path(lock.name).rename(Path(name) / _LOCK)  # never there without being held
        yield Path(name)


def _remove_forsaken(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError), path.open("r+") as lock:  # held, somebody else's, or gone by now
            _hold(lock)
            shutil.rmtree(path.parent, ignore_errors=True)


def _hold(lock: IO[str]) -> None:
    """`BlockingIOError` where another process holds it."""
    import fcntl  # Windows has none, and serves by one process

    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
