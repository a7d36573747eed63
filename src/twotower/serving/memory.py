"""Memory after something large was loaded or replaced."""

import ctypes
import gc
import sys


def settle() -> None:
    """Collect what nobody needs, and give its memory back to the machine.

    What is left stays, most likely: the collector is told not to walk through it again, which
    would hold up a request. The allocator of glibc keeps what a thread freed for that thread;
    several reloads would each leave a bundle's worth behind.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
