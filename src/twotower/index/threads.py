"""Limit of BLAS and OpenMP (FAISS, torch) to one thread, as the service searches."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold the libraries that are loaded to one thread each; what they had is restored at the end.

    A search is too small to share out: a service that answers many at once uses one thread for
    each, and times that are taken with more do not hold there.
    """
    with threadpool_limits(1):
        yield
