import numpy as np
import pytest

from twotower.demo import measure
from twotower.demo.loaded_bundle import LoadedBundle


def test_latency_adds_up(loaded: LoadedBundle) -> None:
    found = measure.latency(loaded.pipeline, rerank=True, seconds=0.05)
    assert set(found.stages) == {"encode", "search", "rerank", "present"}
    assert 0 < sum(found.stages.values()) <= found.milliseconds.mean() * 1.05
    assert "rerank" not in measure.latency(loaded.pipeline, rerank=False, seconds=0.01).stages


def test_the_candidates_hold_what_the_first_ten_hold(loaded: LoadedBundle) -> None:
    found = measure.hits(loaded.pipeline, most=20)
    assert found.users == 20
    assert found.shares["among 40 candidates"] == 1  # all that there is
    assert set(found.shares) == {
        "among 40 candidates", "among the first 10", "among the first 10, re-ranked"
    }  # fmt: skip
    assert 0 <= found.shares["among the first 10"] <= 1


def test_indexes_are_compared_on_the_bundles_own_vectors(loaded: LoadedBundle) -> None:
    found = {one.config.kind: one for one in measure.indexes(loaded.pipeline, queries=5)}
    assert set(found) == set(measure.KINDS)
    assert found["exact"].recall == pytest.approx(1)


def test_latency_by_size_ends_at_the_whole_catalogue(loaded: LoadedBundle) -> None:
    whole = measure.indexes(loaded.pipeline, queries=3)
    for sizes, times in measure.latency_by_size(loaded.pipeline, whole, queries=3).values():
        assert sizes[-1] == len(loaded.items)
        assert sizes == sorted(sizes)
        assert np.all(np.asarray(times) > 0)
