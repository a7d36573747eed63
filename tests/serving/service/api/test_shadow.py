"""Another bundle answers requests too, and whatever it does nobody notices."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from twotower.bundle import save_bundle
from twotower.index import ExactConfig, build_index
from twotower.inference import Pipeline
from twotower.service import shadow as shadow_module

PATHS = [f"/v1/users/user-{number:02}/recommendations?k=6" for number in range(6)]


@pytest.fixture(scope="session")
def other_bundle(open_contents, weights, tmp_path_factory):
    """One that ranks items in another order."""
    vectors = open_contents.item_vectors.copy()
    vectors[0::2] *= 0.6
    other = replace(
        open_contents,
        info=open_contents.info.vary(dataset="other"),
        item_vectors=vectors,
        index=build_index(vectors, ExactConfig()),
    )
    folder = tmp_path_factory.mktemp("shadows") / "other"
    save_bundle(folder, other, weights)
    return folder


@pytest.fixture
def shadowing(client, saved_bundle, other_bundle, tmp_path, monkeypatch) -> Callable[[str], dict]:
    """Begins a shadow that does not rest, from the folder ``same`` or ``other``."""
    monkeypatch.setattr(shadow_module, "_RESTS", 0)
    for name, folder in (("same", saved_bundle), ("other", other_bundle)):
        (tmp_path / name).symlink_to(folder)

    def begin(name: str) -> dict:
        return client.post("/v1/models/shadow", json={"bundle": name}).json()

    return begin


def settle(client) -> None:
    """Wait until the shadow has nothing to do."""
    client.get("/health")  # what the event loop had to do before it is done
    shadow, _ = client.app.state.context.service.shadowed(None)
    assert shadow.thread.idle.wait(60)


def asked(client) -> list[dict]:
    """Answers to requests of every kind; their ids are their own."""
    body = {"history": ["item-03"], "k": 5, "filters": {"max_per_franchise": 1}}
    answers = []
    for path in PATHS:
        answers.append(client.get(path).json())
        settle(client)
    for wanted in (body, {"text": "game 17"}, {"user_id": "user-02", "strict": True}):
        answers.append(client.post("/v1/recommendations", json=wanted).json())
        settle(client)
    ids = [one.pop("recommendation_id") for one in answers]
    assert all("~~" in one for one in ids)  # no arm and no unit
    return answers


@pytest.mark.parametrize("name", ["same", "other"])
def test_answers_are_those_of_the_bundle_in_service(client, shadowing, name) -> None:
    begun = shadowing(name)
    assert begun == {"bundle": name, "share": 1.0, "revision": 1, "ended": None}
    unseen = asked(client)
    found = client.get("/v1/live").json()["shadow"]
    metrics = client.get("/metrics").text
    assert (found["bundle"], found["shadowed"], found["dropped"], found["failed"]) == (
        name, 9, 0, 0,
    )  # fmt: skip
    if name == "same":
        assert (found["overlap"], found["same_first"]) == (1, 1)
        assert found["a"]["items"] == found["b"]["items"]
    else:
        assert 0 < found["overlap"] < 1
        assert found["same_first"] < 1
    for arm in "ab":
        assert 0 < found[arm]["mean_ms"] <= found[arm]["p99_ms"]
        assert 0 <= found[arm]["untrained_share"] < 1
    assert 'twotower_shadow_requests_total{outcome="shadowed",version="' in metrics
    for metric in ("shadow_overlap_sum", "shadow_same_first_total", "shadow_seconds_bucket"):
        assert f"twotower_{metric}{{" in metrics
    assert 'twotower_shadow_places_total{arm="b",item="trained"' in metrics
    assert {row["arm"] for row in client.get("/v1/live").json()["models"]} == {""}
    assert client.post("/v1/models/shadow", json={"bundle": None}).json()["ended"] == "shadow"
    assert client.get("/v1/live").json()["shadow"] is None
    assert [client.get(path).json()["items"] for path in PATHS] == [
        one["items"] for one in unseen[: len(PATHS)]
    ]


@pytest.fixture
def broken(monkeypatch) -> Callable[[Callable[[], None]], None]:
    """Has something done wherever the other bundle is asked."""

    def breaks(how: Callable[[], None]) -> None:
        answers = Pipeline.answers

        def patched(pipeline: Pipeline, *given) -> list:
            if pipeline.contents.info.dataset == "other":
                how()
            return answers(pipeline, *given)

        monkeypatch.setattr(Pipeline, "answers", patched)

    return breaks


def test_a_shadow_that_fails_is_counted_and_not_seen(client, shadowing, broken) -> None:
    def fails() -> None:
        raise RuntimeError("broken")

    before = [client.get(path).json()["items"] for path in PATHS]
    shadowing("other")
    broken(fails)
    after = []
    for path in PATHS:
        after.append(client.get(path).json()["items"])
        settle(client)
    assert after == before
    found = client.get("/v1/live").json()["shadow"]
    assert (found["shadowed"], found["failed"]) == (0, len(PATHS))
    text = client.get("/metrics").text
    assert 'twotower_shadow_requests_total{outcome="failed",' in text
    assert 'twotower_errors_total{kind="RuntimeError"}' not in text


def test_a_shadow_that_hangs_holds_nothing_up(client, shadowing, broken) -> None:
    begun, released = threading.Event(), threading.Event()

    def hangs() -> None:
        begun.set()
        assert released.wait(60)

    before = [client.get(path).json()["items"] for path in PATHS]
    shadowing("other")
    broken(hangs)
    assert client.get(PATHS[0]).json()["items"] == before[0]
    assert begun.wait(60)
    assert [client.get(path).json()["items"] for path in PATHS] == before
    batch = {"requests": [{"user_id": "user-03"}]}
    assert client.post("/v1/recommendations/batch", json=batch).is_success
    found = client.get("/v1/live").json()["shadow"]
    assert (found["shadowed"], found["dropped"]) == (0, len(PATHS))
    first, _ = client.app.state.context.service.shadowed(None)
    assert shadowing("same")["ended"] == "shadow"  # its successor has a thread of its own
    client.get(PATHS[0])
    settle(client)
    assert client.get("/v1/live").json()["shadow"]["shadowed"] == 1
    released.set()
    assert first.thread.idle.wait(60)


def test_requests_are_dropped_while_others_are_to_be_answered(client, shadowing) -> None:
    shadowing("same")
    turns = client.app.state.context.turns
    client.get(PATHS[0])
    settle(client)
    turns.last_single = time.monotonic() + 60  # just now, however slow this machine is
    with turns.block(time.monotonic() + 60):  # of a batch
        for path in PATHS:
            assert client.get(path).is_success
    client.get("/health")
    found = client.get("/v1/live").json()["shadow"]
    assert (found["shadowed"], found["dropped"]) == (1, len(PATHS))
    assert 'twotower_shadow_requests_total{outcome="dropped",' in client.get("/metrics").text


def test_a_request_that_is_refused_is_not_shadowed(client, shadowing) -> None:
    shadowing("same")
    assert client.get("/v1/users/nobody/recommendations?strict=true").status_code == 404
    assert client.post("/v1/recommendations", json={"k": 3}).status_code == 422
    settle(client)
    found = client.get("/v1/live").json()["shadow"]
    assert (found["shadowed"], found["dropped"], found["failed"]) == (0, 0, 0)
