"""A tower that reads gaps is told when a request is made: now, or when the caller says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower import Recommender
from twotower.data import Dataset
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Past, Request
from twotower.models.sequence import SequenceTower

HOUR = 3_600_000


@pytest.fixture(scope="module")
def bundle(blocks: Dataset, small_variants: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SequenceTower, "choose_gaps", lambda _self, _validate: {})
        recommender = Recommender.fit(blocks, small_variants["v10"])
        return recommender.save(tmp_path_factory.mktemp("timed") / "bundle")


@pytest.fixture(scope="module")
def pipeline(bundle: Path) -> Pipeline:
    return Pipeline.load(bundle)


def newest(pipeline: Pipeline) -> int:
    times = pipeline.contents.histories.timestamps
    assert times is not None
    return int(times.max())


def vectors(pipeline: Pipeline, request: Request) -> Any:
    return pipeline._tower.encode(pipeline._reader.queries([request]))


def test_the_time_of_a_request_is_read(pipeline: Pipeline) -> None:
    user = pipeline.contents.users.ids[0]
    soon, late = (
        vectors(pipeline, Request(user, time=newest(pipeline) + wait))
        for wait in (HOUR, 999 * HOUR)
    )
    assert not np.allclose(soon, late)


def test_without_a_time_it_is_now(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    user = pipeline.contents.users.ids[0]
    now = newest(pipeline) + 999 * HOUR
    monkeypatch.setattr("twotower.inference.requests.time.time_ns", lambda: now * 1_000_000)
    np.testing.assert_array_equal(
        vectors(pipeline, Request(user)), vectors(pipeline, Request(user, time=now))
    )


def test_events_since_the_bundle_have_their_own_times(pipeline: Pipeline) -> None:
    user, item = pipeline.contents.users.ids[0], pipeline.contents.items.ids[5]
    began = newest(pipeline)
    asked = began + 500 * HOUR
    early, late = (
        vectors(
            pipeline,
            Request(user, past=[Past(item, "view", None, began + wait)], time=asked),
        )
        for wait in (HOUR, 499 * HOUR)
    )
    assert not np.allclose(early, late)


def test_a_tower_without_gaps_is_not_told(bundle_of_blocks: Path) -> None:
    pipeline = Pipeline.load(bundle_of_blocks)
    queries = pipeline._reader.queries([Request(pipeline.contents.users.ids[0], time=1)])
    assert queries.times is None
    assert queries.histories.timestamps is None
