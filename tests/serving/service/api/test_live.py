"""Recommendation ids, the report and the split over HTTP."""

import shutil


def test_an_event_is_attributed_to_its_answer(client) -> None:
    answer = client.get("/v1/users/user-03/recommendations?k=3").json()
    event = {
        "event_id": "e", "user_id": "user-03", "item_id": answer["items"][1]["item_id"],
        "kind": "buy", "occurred_at": 1_700_000_000_000,
        "recommendation_id": answer["recommendation_id"], "position": 2,
    }  # fmt: skip
    strange = {**event, "event_id": "f", "recommendation_id": "of another system"}
    for _ in range(2):
        client.post("/v1/events", json={"events": [event, strange]})
    found = client.get("/v1/live?days=3650").json()
    (row,) = found["models"]
    assert row["model_version"] == answer["model_version"]
    assert (row["answers"], row["events"], row["conversion"]) == (1, 1, 1)
    assert found["positions"] == [{"kind": "buy", "position": "2-3", "events": 1}]
    assert found["split"] is None
    text = client.get("/metrics").text
    assert 'twotower_live_events_total{arm="",kind="buy",position="2-3"' in text
    assert 'twotower_live_answers_total{arm="",user="known"' in text
    assert "twotower_live_coverage 0.05" in text


def test_a_batch_has_an_id_for_each_answer(client) -> None:
    wanted = {"requests": [{"user_id": "user-01"}, {"history": ["item-02"]}]}
    answers = client.post("/v1/recommendations/batch", json=wanted).json()["answers"]
    assert len({one["recommendation_id"] for one in answers}) == 2


def test_a_split_is_begun_and_ended(client, saved_bundle, tmp_path) -> None:
    shutil.copytree(saved_bundle, tmp_path / "other")
    begun = client.post("/v1/models/split", json={"bundle": "other", "share": 0.5})
    assert begun.json() == {"bundle": "other", "share": 0.5, "revision": 1, "ended": None}
    ids = [
        client.get(f"/v1/users/u{number}/recommendations").json()["recommendation_id"]
        for number in range(20)
    ]
    assert {one.rsplit("~", 4)[1] for one in ids} == {"a", "b"}
    assert client.get("/v1/live").json()["split"]["better"] is None
    ended = client.post("/v1/models/split", json={"bundle": None}).json()
    assert (ended["revision"], ended["ended"]) == (2, "split")
    assert client.get("/v1/live").json()["split"] is None
    assert client.post("/v1/models/split", json={"bundle": "../x"}).status_code == 422


def test_two_bundles_share_an_answer(client, saved_bundle, tmp_path) -> None:
    shutil.copytree(saved_bundle, tmp_path / "other")
    begun = client.post("/v1/models/interleave", json={"bundle": "other"})
    assert begun.json() == {"bundle": "other", "share": 1.0, "revision": 1, "ended": None}
    address = "/v1/users/user-03/recommendations?k=6"
    answer = client.get(address).json()
    assert {*answer["teams"]} == {"a", "b"}
    assert answer["teams"].count("a") == 3
    assert [one["rank"] for one in answer["items"]] == [1, 2, 3, 4, 5, 6]
    items = [one["item_id"] for one in answer["items"]]
    assert len({*items}) == 6
    place = answer["teams"].index("b")
    event = {
        "event_id": "e", "user_id": "user-03", "item_id": items[place], "kind": "buy",
        "occurred_at": 1_700_000_000_000, "recommendation_id": answer["recommendation_id"],
        "position": place + 1,
    }  # fmt: skip
    assert client.post("/v1/events", json={"events": [event]}).status_code == 200
    found = client.get("/v1/live?days=3650").json()
    assert found["split"] is None
    assert found["interleaving"]["b"] == found["interleaving"]["units"] == 1
    assert [row["arm"] for row in found["models"]] == ["i"]
    capped = {"user_id": "user-03", "k": 6, "filters": {"max_per_franchise": 1}}
    assert client.post("/v1/recommendations", json=capped).json()["teams"] == ""
    batch = {"requests": [{"user_id": "user-03"}], "k": 6}
    assert client.post("/v1/recommendations/batch", json=batch).status_code == 200
    assert client.post("/v1/models/interleave", json={"bundle": None}).json()["revision"] == 2
    alone = client.get(address).json()
    assert alone["teams"] == ""


def test_a_split_takes_an_admin_key(client, keys) -> None:
    wanted = {"bundle": None}
    for route in ("split", "interleave", "shadow"):
        answer = client.post(f"/v1/models/{route}", json=wanted, headers=keys[1]["writer"])
        assert answer.status_code == 403
