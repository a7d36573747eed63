"""Forgetting and export over HTTP."""

EVENT = {
    "event_id": "e", "user_id": "a/b", "item_id": "item-01", "kind": "buy",
    "occurred_at": 1_700_000_000_000,
}  # fmt: skip


def test_a_user_is_exported_and_forgotten(client) -> None:
    client.post("/v1/events", json={"events": [EVENT, {**EVENT, "event_id": "f"}]})
    found = client.get("/v1/users/a%2Fb/export").json()
    assert [row["event_id"] for row in found["events"]] == ["e", "f"]
    assert client.get("/v1/users/a%2Fb/recommendations").json()["source"] == "model"
    answer = client.delete("/v1/users/a%2Fb")
    assert (answer.status_code, answer.json()) == (200, {"rows_deleted": 2, "unconfirmed": 0})
    assert client.get("/v1/users/a%2Fb/export").json()["events"] == []
    assert client.get("/v1/users/a%2Fb/recommendations").json()["source"] == "popular"
    again = client.post("/v1/events", json={"events": [EVENT]}).json()
    assert again["events"][0]["recorded"] is False


def test_a_user_of_the_bundle_is_a_cold_start_afterwards(client) -> None:
    before = client.get("/v1/users/user-03/recommendations").json()
    assert (before["user"], before["source"]) == ("known", "model")
    assert client.delete("/v1/users/user-03").json()["rows_deleted"] == 0
    after = client.get("/v1/users/user-03/recommendations").json()
    assert (after["user"], after["source"]) == ("new", "popular")
    assert client.get("/v1/users/user-03/recommendations?strict=true").status_code == 404
    batch = {"requests": [{"user_id": "user-03"}, {"user_id": "user-04"}]}
    answers = client.post("/v1/recommendations/batch", json=batch).json()["answers"]
    assert [one["user"] for one in answers] == ["new", "known"]


def test_it_takes_an_admin_key(client, keys) -> None:
    for name in ("reader", "writer"):
        header = keys[1][name]
        assert client.delete("/v1/users/user-03", headers=header).status_code == 403
        assert client.get("/v1/users/user-03/export", headers=header).status_code == 403


def test_no_log_names_a_forgotten_user(client, caplog) -> None:
    caplog.set_level("INFO")
    client.delete("/v1/users/user-03")
    assert "users were forgotten" in caplog.text
    assert "user-03" not in " ".join(
        str(vars(one)) for one in caplog.records if one.name.startswith("twotower")
    )
