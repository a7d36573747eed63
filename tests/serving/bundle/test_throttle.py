import threading
import time

import pytest

from twotower.bundle import load_bundle, throttle
from twotower.bundle.throttle import Throttle
from twotower.inference import Pipeline


@pytest.fixture
def rests(monkeypatch) -> list[float]:
    """Seconds of the rests that were taken."""
    taken: list[float] = []
    monkeypatch.setattr(throttle.time, "sleep", taken.append)
    return taken


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_thread_rests_for_what_it_worked(rests) -> None:
    pause = Throttle(0.25)
    for _ in range(3):
        work(0.01)
        pause()
    assert len(rests) == 3
    assert all(0.03 <= rest < 0.06 for rest in rests)


def test_little_work_is_no_reason_to_rest(rests) -> None:
    pause = Throttle(0.25)
    for _ in range(10):
        pause()
    assert not rests


def test_work_without_a_throttle_does_not_rest(folder, rests) -> None:
    Throttle(0.25)
    work(0.01)
    Pipeline(load_bundle(folder).contents).warm()
    assert not rests


def test_the_loader_of_a_bundle_passes_its_throttle(folder) -> None:
    """Whatever thread calls, and each of the files, and the words of the titles."""
    pauses: list[str] = []

    def pause() -> None:
        pauses.append(threading.current_thread().name)

    loaded = []
    thread = threading.Thread(
        target=lambda: loaded.append(load_bundle(folder, pause)), name="reload"
    )
    thread.start()
    thread.join()
    files = loaded[0].manifest.files
    arrays = [name for name in files if name.endswith(".safetensors") and name[:6] != "towers"]
    assert len(pauses) >= len(files) + len(arrays)
    assert set(pauses) == {"reload"}
    before = len(pauses)
    Pipeline(loaded[0].contents).warm(pause)
    assert len(pauses) > before
