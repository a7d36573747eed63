"""Limit of BLAS and OpenMP (FAISS, torch) to one thread, as the service searches."""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_thread() -> AbstractContextManager[object]:
    """Hold the libraries that are loaded to one thread each; what they had is restored at the end.

    A search is too small to share out: a service that answers many at once uses one thread for
    each, and times that are taken with more do not hold there.
    """
    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits
