"""Garbage collection and release of memory after a bundle was loaded or replaced."""

import ctypes
import gc
import sys


def trim_memory(thorough: bool = True) -> None:
    """Collect garbage, and give its memory back to the machine.

    What is left stays, most likely: the collector is told not to walk through it again, which
    would hold up a request. The allocator of glibc keeps what a thread freed for that thread;
    several reloads would each leave a bundle's worth behind.

    ``thorough`` looks through everything first, which stops all threads for a tenth of a second.
    What refers to itself only through what is older stays otherwise; a replaced bundle does not,
    and is gone with its last request.
    """
    if thorough:
        gc.unfreeze()
    gc.collect(2 if thorough else 1)
    gc.freeze()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
