"""One study at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twotower.errors import InputError


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold the folder while the block runs; the lock goes with the process, however it ends.

    Raises
    ------
    InputError
        Where another process holds it: two would train the same cells into the same files.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another study is running in {out}", "wait for it, or choose another folder"
            ) from None
        yield
