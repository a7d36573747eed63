"""A lock on a file, for work that two processes must not do at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from twotower.errors import InputError


@contextmanager
def locked(path: Path, refusal: InputError) -> Iterator[None]:
    """Hold the lock of a file, which ends with the process, however that ends.

    Raises
    ------
    InputError
        ``refusal``, where another process holds it.
    """
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise refusal from None
    except NotImplementedError:
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()
