import sys

import pytest
from threadpoolctl import threadpool_info

from twotower.errors import InputError
from twotower.study.machine import available_bytes, one_thread


def test_there_is_memory_left() -> None:
    assert available_bytes() > 2**20


def test_one_thread_is_held() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        with one_thread():
            assert {one["num_threads"] for one in threadpool_info()} == {1}
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_one_thread_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with one_thread():
        pass
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(InputError, match="threadpoolctl is not installed"), one_thread():
        pass
