import time

import pytest

from twotower.bundle import throttle as pacing
from twotower.bundle.throttle import paced, pause


@pytest.fixture
def rests(monkeypatch) -> list[float]:
    """Seconds of the rests that were taken."""
    taken: list[float] = []
    monkeypatch.setattr(pacing.time, "sleep", taken.append)
    return taken


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_thread_rests_for_what_it_worked(rests) -> None:
    with paced(0.25):
        for _ in range(3):
            work(0.01)
            pause()
    assert len(rests) == 3
    assert all(0.03 <= rest < 0.06 for rest in rests)


def test_little_work_is_no_reason_to_rest(rests) -> None:
    with paced(0.25):
        for _ in range(10):
            pause()
    assert not rests


def test_who_is_not_paced_does_not_rest(rests) -> None:
    work(0.01)
    pause()
    with paced(0.25):
        pass
    work(0.01)
    pause()
    assert not rests
