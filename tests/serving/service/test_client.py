import httpx
import pytest
from starlette.testclient import TestClient

from twotower.bundle import save_bundle
from twotower.service.api.app import create_app
from twotower.service.api.auth import Scope, new_key
from twotower.service.client import Client, ServiceError
from twotower.service.settings import ServeSettings


@pytest.fixture
def client(open_contents, weights, tmp_path):
    """The client, calling the app in this process."""
    save_bundle(tmp_path / "bundle", open_contents, weights)
    key, line = new_key("test", Scope.ADMIN)
    (tmp_path / "keys").write_text(line)
    app = create_app(ServeSettings(bundle=tmp_path / "bundle", keys_file=tmp_path / "keys"))
    with TestClient(app) as inner:

        def send(request: httpx.Request) -> httpx.Response:
            answer = inner.request(
                request.method, str(request.url), content=request.content, headers=request.headers
            )
            return httpx.Response(
                answer.status_code, content=answer.content, headers=answer.headers
            )

        with Client("http://testserver", key, transport=httpx.MockTransport(send)) as client:
            yield client


def test_reading(client) -> None:
    assert client.ready()
    assert len(client.recommend("user-03", k=5)) == 5
    assert len(client.recommend(history=["item-01"], text="game 7", k=3)) == 3
    assert client.recommend("user-03", filters={"categories": ["genre-1"]})
    assert [len(one) for one in client.recommend_batch([{"user_id": "user-01"}], k=4)] == [4]
    assert client.similar_items("item-08", k=2)[0]["rank"] == 1
    assert client.search("game 17")[0]["item_id"] == "item-17"
    assert client.model()["users"] == 12


def test_writing(client) -> None:
    assert client.add_item("a/b ü", "Game 100", price=3.5) is True
    assert client.item("a/b ü")["price"] == 3.5
    assert client.similar_items("a/b ü", k=1)
    assert client.set_availability("a/b ü", False)["available"] is False
    assert client.add_item("n1", "Game 101", released=2017) is True
    assert client.add_item("n1", "Game 101", released=2017) is False
    assert client.item("n1")["source"] == "added"
    assert client.put_item("n1", "Game 102")["title"] == "Game 102"
    assert client.set_availability("n1", False)["available"] is False
    stock = client.set_stock({"item-07": False, "later": True})
    assert [one["item_known"] for one in stock] == [True, False]
    client.delete_item("n1")
    assert client.record("user-03", "item-50", event_id="e1") is True
    assert client.record("user-03", "item-50", "buy") is True
    assert client.reload()["items_added"] == 1


def test_a_problem_is_an_error_with_its_fix(client) -> None:
    with pytest.raises(ServiceError, match="404: unknown item 'nothing'; search for it") as raised:
        client.item("nothing")
    assert raised.value.status == 404
    assert raised.value.problem["title"] == "Not found"


def test_what_is_no_problem_is_an_error_too() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>"))
    with Client("http://x", transport=transport) as client:
        assert not client.ready()
        with pytest.raises(ServiceError, match="502: no answer that can be read"):
            client.model()
