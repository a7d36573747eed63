import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from starlette.testclient import TestClient

from twotower.bundle import save_bundle
from twotower.data.events import EventRules

NOW = 1_700_000_000_000
NEW = {"item_id": "n1", "title": "Game 7 Deluxe", "price": 12.5, "category": "genre-3"}


def event(name, user="user-03", item="item-41", **changes) -> dict:
    fields = {
        "event_id": name,
        "user_id": user,
        "item_id": item,
        "kind": "view",
        "occurred_at": NOW,
    }
    return {**fields, **changes}


def similar(client: TestClient, item: str) -> list[str]:
    answer = client.get(f"/v1/items/{item}/similar?k=60")
    return [one["item_id"] for one in answer.json()["items"]]


def recommended(client: TestClient, user: str = "user-03", k: int = 60) -> list[str]:
    answer = client.get(f"/v1/users/{user}/recommendations?k={k}")
    assert answer.status_code == 200
    return [one["item_id"] for one in answer.json()["items"]]


def test_a_new_item_is_there_at_the_next_request(client) -> None:
    answer = client.post("/v1/items", json=NEW)
    assert (answer.status_code, answer.json()) == (201, {"item_id": "n1", "created": True})
    assert client.get("/v1/items/n1").json() == {
        "item_id": "n1", "title": "Game 7 Deluxe", "category": "genre-3", "price": 12.5,
        "available": True, "source": "added", "columns": {},
    }  # fmt: skip
    assert "n1" in similar(client, "item-07")
    assert "n1" in recommended(client)
    assert client.get("/v1/search?q=deluxe").json()["items"][0]["item_id"] == "n1"
    history = client.post("/v1/recommendations", json={"history": ["n1"]})
    assert history.status_code == 200
    assert client.get("/v1/model").json()["items_added"] == 1


def test_adding_it_twice_adds_it_once(client) -> None:
    client.post("/v1/items", json=NEW)
    again = client.post("/v1/items", json=NEW)
    assert (again.status_code, again.json()["created"]) == (200, False)
    other = client.post("/v1/items", json={**NEW, "title": "Other"})
    assert other.status_code == 409
    assert other.json()["detail"] == "item 'n1' exists"
    assert client.post("/v1/items", json={**NEW, "item_id": "item-07"}).status_code == 409
    assert similar(client, "item-07").count("n1") == 1


def test_an_item_is_replaced(client) -> None:
    client.post("/v1/items", json=NEW)
    changed = {"title": "Game 9", "price": None}
    answer = client.put("/v1/items/n1", json=changed)
    assert answer.json()["title"] == "Game 9"
    assert answer.json()["category"] is None
    assert recommended(client).count("n1") == 1
    assert client.put("/v1/items/n2", json=changed).json()["source"] == "added"
    bundled = client.put("/v1/items/item-07", json={"title": "Renamed", "price": 1.0}).json()
    assert bundled["source"] == "bundle"
    found = client.get("/v1/search?q=renamed").json()["items"]
    assert [one["item_id"] for one in found[:1]] == ["item-07"]


@pytest.mark.parametrize("item", ["item-41", "n1"])
def test_a_deleted_item_is_gone_until_it_comes_back(client, item) -> None:
    client.post("/v1/items", json=NEW)
    assert item in recommended(client)
    answer = client.delete(f"/v1/items/{item}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert item not in recommended(client)
    assert client.get(f"/v1/items/{item}").status_code == 404
    assert client.delete(f"/v1/items/{item}").status_code == 404
    assert client.post("/v1/recommendations", json={"history": [item]}).status_code == 200
    assert client.post("/v1/items", json={**NEW, "item_id": item}).status_code == 201
    assert item in recommended(client)


def test_what_cannot_be_had_is_not_recommended(client) -> None:
    first = recommended(client)[0]
    answer = client.put(f"/v1/items/{first}/availability", json={"available": False})
    assert answer.json()["available"] is False
    assert first not in recommended(client)
    client.put(f"/v1/items/{first}/availability", json={"available": True})
    assert recommended(client)[0] == first
    assert client.put("/v1/items/x/availability", json={"available": True}).status_code == 404


def test_stock_of_many_items_at_once(client) -> None:
    first, second, third = recommended(client)[:3]
    path = "/v1/items/availability"

    def stock(**available: bool) -> dict:
        return {"items": [{"item_id": item, "available": available[item]} for item in available]}

    answer = client.post(path, json=stock(**{first: False, second: False, "n1": False}))
    assert answer.json()["items"] == [
        {"item_id": first, "available": False, "item_known": True},
        {"item_id": second, "available": False, "item_known": True},
        {"item_id": "n1", "available": False, "item_known": False},
    ]
    assert recommended(client)[0] == third
    client.post("/v1/items", json=NEW)
    assert client.get("/v1/items/n1").json()["available"] is False
    client.post(path, json=stock(**{second: True, "n1": True}))
    assert recommended(client)[0] == second
    assert client.get("/v1/items/n1").json()["available"] is True
    twice = client.post(path, json={"items": stock(a=True)["items"] * 2})
    assert (twice.status_code, "item 'a' is named twice" in twice.json()["detail"]) == (422, True)
    wrong = client.post(path, json={"items": [{"item_id": first, "available": "no"}]})
    assert wrong.status_code == 422
    many = client.post(path, json=stock(**{f"i{number}": False for number in range(1001)}))
    assert many.json()["detail"] == "items must be at most 1000, got 1001"
    assert recommended(client)[0] == second


def test_an_event_changes_the_next_recommendation(client) -> None:
    before = recommended(client)
    answer = client.post("/v1/events", json={"events": [event("e1", item=before[0], kind="cart")]})
    assert answer.json() == {"events": [{"event_id": "e1", "recorded": True, "item_known": True}]}
    after = recommended(client)
    assert before[0] not in after
    assert after != before[1:]
    again = client.post("/v1/events", json={"events": [event("e1", item=before[0], kind="cart")]})
    assert again.json()["events"][0]["recorded"] is False
    assert recommended(client) == after


def test_an_unknown_user_with_an_event_is_known(client) -> None:
    path = "/v1/users/newcomer/recommendations"
    assert client.get(path).json()["source"] == "popular"
    assert client.get(f"{path}?strict=true").status_code == 404
    events = [event("e1", "newcomer"), event("e2", "newcomer", "never heard of", kind="buy")]
    answer = client.post("/v1/events", json={"events": events})
    assert [one["item_known"] for one in answer.json()["events"]] == [True, False]
    body = client.get(path).json()
    assert (body["user"], body["source"]) == ("new", "model")
    assert body["items"]


def test_an_event_id_is_used_once(client) -> None:
    client.post("/v1/events", json={"events": [event("e1")]})
    answer = client.post("/v1/events", json={"events": [event("e2"), event("e1", item="item-02")]})
    assert answer.status_code == 409
    assert answer.json()["detail"] == "event id 'e1' was used for another event"
    later = client.post("/v1/events", json={"events": [event("e2")]})
    assert later.json()["events"][0]["recorded"] is True  # nothing of the refused call was kept


def test_it_is_all_there_after_a_restart(served) -> None:
    with served() as client:
        client.post("/v1/items", json=NEW)
        client.delete("/v1/items/item-02")
        client.put("/v1/items/item-04/availability", json={"available": False})
        client.put("/v1/items/item-05", json={"title": "Renamed"})
        client.post("/v1/events", json={"events": [event("e1"), event("e2", "newcomer")]})
        before = recommended(client), recommended(client, "newcomer"), similar(client, "n1")
    with served() as client:
        after = recommended(client), recommended(client, "newcomer"), similar(client, "n1")
        assert after == before
        assert client.get("/v1/items/item-05").json()["title"] == "Renamed"
        assert client.get("/v1/items/item-02").status_code == 404


def test_what_another_process_writes_is_taken_over(served) -> None:
    with served() as one, served() as two:
        one.post("/v1/items", json=NEW)
        one.post("/v1/events", json={"events": [event("e1")]})
        assert two.get("/v1/items/n1").status_code == 404
        two.app.state.context.service.catch_up()
        assert recommended(two) == recommended(one)
        two.post("/v1/events", json={"events": [event("e2", item="item-44")]})
        one.app.state.context.service.catch_up()
        assert recommended(two) == recommended(one)


def test_the_index_takes_in_what_stands_outside_when_it_is_enough(served) -> None:
    import threading

    with served(extend_share=0.05) as client:
        for number in range(8):
            item = {"item_id": f"n{number}", "title": f"Game {number}"}
            assert client.post("/v1/items", json=item).status_code == 201
        for thread in threading.enumerate():
            if thread.name == "twotower-index":
                thread.join()
        assert client.get("/v1/model").json()["items_outside_index"] < 8
        assert {f"n{number}" for number in range(8)} < set(recommended(client, k=100))


@pytest.mark.parametrize(
    "changes",
    [{"item_id": "a\nb"}, {"title": ""}, {"title": "a\0b"}, {"price": -1}, {"price": "dear"},
     {"category": ""}, {"rating_count": 10**30}, {"colour": "red"}, {"item_id": None},
     {"released": "soon"}],
)  # fmt: skip
def test_bad_items_are_refused(client, changes) -> None:
    answer = client.post("/v1/items", json={**NEW, **changes})
    assert answer.status_code == 422
    assert client.get("/v1/items/n1").status_code == 404


@pytest.mark.parametrize(
    "changes",
    [{"kind": "stare"}, {"occurred_at": -1}, {"occurred_at": 10**18}, {"rating": 1e300},
     {"user_id": ""}, {"event_id": "x" * 201}],
)  # fmt: skip
def test_bad_events_are_refused(client, changes) -> None:
    answer = client.post("/v1/events", json={"events": [event("e1"), event("e2", **changes)]})
    assert answer.status_code == 422
    good = client.post("/v1/events", json={"events": [event("e1")]})
    assert good.json()["events"][0]["recorded"] is True


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"occurred_at": 1_795_900_130}, "1795900130 is January 1970; send milliseconds since"),
        ({"occurred_at": 99_999_999_999}, "99999999999 is March 1973; send milliseconds since"),
        ({"occurred_at": 4_102_444_800_000}, "4102444800000 is in the future, now is "),
        ({"occurred_at": 1_700_000_000_000_000}, "less than or equal to 253402300799999"),
        ({"occurred_at": False}, "valid integer"),
        ({"occurred_at": "1700000000000"}, "valid integer"),
        ({"kind": "rating", "rating": 8}, "rating: 8 is not on the scale of the training log"),
        ({"kind": "rating", "rating": -0.5}, "rating: -0.5 is not on the scale"),
        ({"kind": "rating", "rating": True}, "Input should be a number"),
        ({"kind": "rating"}, "an event of kind 'rating' needs a rating"),
        ({"kind": "rating", "rating": None}, "an event of kind 'rating' needs a rating"),
        ({"user_id": "   "}, "an id is blank"),
        ({"user_id": " eve"}, "an id begins or ends with a blank: ' eve'"),
        ({"item_id": "item-41 "}, "an id begins or ends with a blank: 'item-41 '"),
        ({"user_id": "NA"}, "'NA' stands for a missing value, and cannot be an id"),
        ({"item_id": "null"}, "'null' stands for a missing value"),
        ({"user_id": ".."}, "'..' cannot be an id"),
    ],
)
def test_events_that_prepare_would_reject_are_refused(client, changes, said) -> None:
    answer = client.post("/v1/events", json={"events": [event("e1"), event("e2", **changes)]})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert answer.json()["detail"].startswith("events.1")
    good = client.post("/v1/events", json={"events": [event("e1")]})
    assert good.json()["events"][0]["recorded"] is True


def test_the_ends_of_the_scale_and_of_time_are_taken(client) -> None:
    now = time.time_ns() // 1_000_000
    events = [
        event("low", kind="rating", rating=0), event("high", kind="rating", rating=5.0),
        event("early", occurred_at=100_000_000_000), event("now", occurred_at=now),
    ]  # fmt: skip
    assert client.post("/v1/events", json={"events": events}).status_code == 200
    assert client.post("/v1/events", json={"events": events}).status_code == 200  # again, as well


@pytest.fixture
def kinds_client(open_contents, weights, served, tmp_path) -> Iterator[TestClient]:
    """Over a bundle whose log has kinds of events."""
    rules = EventRules(weights={"view": 0.2, "purchase": 1, "refund": -1}, target="purchase")
    log = open_contents.histories
    size = len(log.items)
    log = replace(
        log, rules=rules, kinds=np.zeros(size, np.uint8), weights=np.full(size, 0.2, np.float32)
    )
    info = open_contents.info.vary(events=rules)
    save_bundle(tmp_path / "bundle", replace(open_contents, info=info, histories=log), weights)
    with served() as client:
        yield client


def test_the_kinds_of_events_are_those_of_the_training_log(kinds_client) -> None:
    good = event("e1", kind="purchase", quantity=2)
    assert kinds_client.post("/v1/events", json={"events": [good]}).status_code == 200
    assert kinds_client.post("/v1/events", json={"events": [good]}).json()["events"][0] == {
        "event_id": "e1", "recorded": False, "item_known": True,
    }  # fmt: skip
    for changes, said in (
        ({"kind": "buy"}, "events.0.kind: 'buy' is no kind of event that is served"),
        ({"kind": "purchase", "quantity": 0}, "a quantity of 0 says nothing"),
        ({"kind": "purchase", "quantity": "2"}, "Input should be a number"),
    ):
        answer = kinds_client.post("/v1/events", json={"events": [event("e2", **changes)]})
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
    answer = kinds_client.post("/v1/events", json={"events": [event("e2", kind="buy")]})
    assert answer.json()["fix"] == "send one of view, purchase, refund"


def test_without_declared_kinds_the_usual_ones_are_served(client) -> None:
    answer = client.post("/v1/events", json={"events": [event("e1", kind="purchase")]})
    assert (answer.status_code, answer.json()["fix"]) == (
        422,
        "send one of view, cart, buy, rating",
    )


@pytest.mark.parametrize("changes", [{"kind": "refund"}, {"kind": "purchase", "quantity": -1}])
def test_a_returned_item_is_out_of_the_history_and_never_recommended(kinds_client, changes) -> None:
    before = recommended(kinds_client, "newcomer")
    assert "item-41" in before
    bought = event("e1", "newcomer", kind="purchase")
    other = event("e2", "newcomer", "item-07", kind="view")
    back = event("e3", "newcomer", **changes, occurred_at=NOW + 1)
    assert (
        kinds_client.post("/v1/events", json={"events": [bought, other, back]}).status_code == 200
    )
    assert "item-41" not in recommended(kinds_client, "newcomer")
    query = {"user_id": "newcomer", "k": 60, "exclude_seen": False}
    answer = kinds_client.post("/v1/recommendations", json=query).json()["items"]
    assert "item-41" not in [one["item_id"] for one in answer]
    assert {one["reason"]["item_id"] for one in answer if one["reason"]} == {"item-07"}
    all_back = event("e4", "newcomer", "item-07", kind="refund", occurred_at=NOW + 2)
    assert kinds_client.post("/v1/events", json={"events": [all_back]}).status_code == 200
    popular = kinds_client.get("/v1/users/newcomer/recommendations?k=60").json()
    assert popular["source"] == "popular"
    assert not {"item-41", "item-07"} & {one["item_id"] for one in popular["items"]}


def test_a_declared_rating_scale_is_in_the_bundle_and_holds_at_the_door(
    open_contents, weights, served, tmp_path
) -> None:
    info = open_contents.info.vary(rating_scale=(1, 10))
    save_bundle(tmp_path / "bundle", replace(open_contents, info=info), weights)
    with served() as client:
        for rating, status in ((1, 200), (10, 200), (0.5, 422), (11, 422)):
            one = event(f"e{rating}", kind="rating", rating=rating)
            assert client.post("/v1/events", json={"events": [one]}).status_code == status
        one = event("e", kind="rating", rating=0.5)
        assert client.post("/v1/events", json={"events": [one]}).json()["fix"] == "send 1 to 10"


@pytest.mark.parametrize(
    "changes",
    [{"item_id": "   "}, {"item_id": "n1 "}, {"item_id": "nan"}, {"item_id": "."},
     {"item_id": ".."}, {"item_id": "n1/similar"}, {"item_id": "n1/availability"},
     {"item_id": "/similar"}, {"title": " "}, {"category": "  "}, {"released": False},
     {"price": True}, {"price": "12"}, {"rating_count": True}, {"average_rating": False},
     {"average_rating": 5.5}],
)  # fmt: skip
def test_items_that_cannot_be_reached_or_prepared_are_refused(client, changes) -> None:
    answer = client.post("/v1/items", json={**NEW, **changes})
    assert answer.status_code == 422, answer.text
    assert client.get("/v1/model").json()["items_added"] == 0


@pytest.mark.parametrize("name", ["n1/similar", "nan", " n1"])
def test_put_adds_no_item_that_cannot_be_reached(client, name) -> None:
    answer = client.put(f"/v1/items/{quote(name, safe='')}", json={"title": "Game"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("item_id: ")
    assert "Value error" not in answer.json()["detail"]


@pytest.mark.parametrize(
    "name",
    ["a/b", "/", "a/", "/a", "a//b", "...", "a/../b", "a?b", "a#b", "a+b c", "é\u3042",
     "similar", "availability", "recommendations", "a/similar/b", "x/recommendations", "-1", "0"],
)  # fmt: skip
def test_whatever_is_added_can_be_reached(client, name) -> None:
    path = f"/v1/items/{quote(name, safe='')}"
    assert client.post("/v1/items", json={**NEW, "item_id": name}).status_code == 201
    assert client.get(path).json()["item_id"] == name
    assert client.get(f"{path}/similar").status_code == 200
    assert client.put(f"{path}/availability", json={"available": False}).status_code == 200
    assert client.put(path, json={"title": "Game 7"}).json()["title"] == "Game 7"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("available", [0, 1, "no", "true", None])
def test_availability_is_true_or_false(client, available) -> None:
    path = "/v1/items/item-07/availability"
    assert client.put(path, json={"available": available}).status_code == 422


@pytest.mark.parametrize(
    "changes",
    [{"exclude_seen": 0}, {"rerank": "no"}, {"reasons": 1}, {"strict": "yes"}, {"k": True},
     {"k": "3"}, {"filters": {"min_price": False}}, {"filters": {"max_per_category": True}}],
)  # fmt: skip
def test_what_is_no_truth_or_number_is_not_read_as_such(client, changes) -> None:
    body = {"history": ["item-03"], **changes}
    assert client.post("/v1/recommendations", json=body).status_code == 422


def test_a_filter_knows_the_categories_of_a_field_with_several(client) -> None:
    body = {**NEW, "category": "Drama|Comedy"}
    assert client.post("/v1/items", json=body).status_code == 201
    for name in ("Comedy", "Drama", "Drama|Comedy"):
        wanted = {"history": ["item-01"], "filters": {"categories": [name]}}
        answer = client.post("/v1/recommendations", json=wanted).json()
        assert [one["item_id"] for one in answer["items"]] == ["n1"]
    wanted["filters"] = {"categories": ["comdy"]}
    answer = client.post("/v1/recommendations", json=wanted)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "unknown category 'comdy'"
    assert "near ones are 'Comedy'" in answer.json()["fix"]


def test_a_bundle_that_takes_no_new_items_says_so(served, contents, weights, tmp_path) -> None:
    from twotower.bundle import save_bundle

    save_bundle(tmp_path / "bundle", contents, weights)
    with served() as client:
        answer = client.post("/v1/items", json=NEW)
        assert answer.status_code == 422
        assert answer.json()["detail"] == "bundle of v5 holds no item tower"
        assert client.put("/v1/items/item-07", json={"title": "Renamed"}).status_code == 200
