"""Garbage collection and memory release after a bundle was loaded or replaced."""

import ctypes
import gc
import sys


def trim_memory(thorough: bool = True) -> None:
    """Collect garbage, and return its memory to the operating system.

    Surviving objects are likely to stay, so they are frozen: the collector does not scan them
    again, which would delay a request. glibc's allocator keeps the memory that a thread freed, so
    each of several reloads would leave a bundle's worth behind.

    ``thorough`` first scans all objects, which stops all threads for a tenth of a second. Without
    it, reference cycles through older objects remain; a replaced bundle has none, and is freed
    with its last request.
    """
    if thorough:
        gc.unfreeze()
    gc.collect(2 if thorough else 1)
    gc.freeze()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
