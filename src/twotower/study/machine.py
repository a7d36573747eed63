"""What a measurement may take of the machine: one thread, and the memory that is left."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from twotower.errors import InputError


def available_bytes() -> int:
    """Bytes that can be taken without swapping; where that is not told, those that are free."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold FAISS, BLAS and torch to one thread.

    Raises
    ------
    InputError
        Without threadpoolctl, unless ``OMP_NUM_THREADS`` is 1.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        if os.environ.get("OMP_NUM_THREADS") != "1":
            raise InputError(
                "one thread is measured, and threadpoolctl is not installed",
                "pip install 'twotower[bench]', or set OMP_NUM_THREADS=1",
            ) from None
        limits: AbstractContextManager[object] = nullcontext()
    else:
        limits = threadpool_limits(1)
    with limits:
        yield
