"""HTTP client of the service's API."""

import time
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from twotower.errors import TwoTowerError


class ServiceError(TwoTowerError):
    """The service answered with a problem.

    Attributes
    ----------
    status
        The response's status code.
    problem
        The problem details (RFC 9457); empty if the response had none.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        what = problem.get("detail") or "no answer that can be read"
        fix = problem.get("fix")
        super().__init__(f"{status}: {what}" + (f"; {fix}" if fix else ""))


class Client:
    """Calls the service. Methods return the API's JSON.

    Parameters
    ----------
    address
        Base URL, such as ``http://127.0.0.1:8000``.
    key
        An API key, or None.
    timeout
        Time limit of a call in seconds.
    transport
        httpx transport, for tests.

    Examples
    --------
    ::

        with Client("http://127.0.0.1:8000", key="tt_...") as client:
            client.recommend(user_id="U0047", k=5)
            client.add_item(item_id="N1", title="Dragon Saga 4", price=39.99)
    """

    def __init__(
        self,
        address: str,
        key: str | None = None,
        *,
        timeout: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(
            base_url=address, headers=headers, timeout=timeout, transport=transport
        )

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] = (),
        text: str | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Items for a user, a history or a text; ``options`` such as ``k``, ``filters``."""
        wanted = {"user_id": user_id, "history": list(history), "text": text, **options}
        return self._list("items", "POST", "recommendations", wanted)

    def recommend_batch(
        self, requests: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[list[dict[str, Any]]]:
        """The items for each request; see `answers`."""
        return [answer["items"] for answer in self.answers(requests, **options)]

    def answers(
        self, requests: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[dict[str, Any]]:
        """One answer per request: its ``items``, their ``source`` and the ``unknown_items``."""
        wanted = {"requests": [dict(request) for request in requests], **options}
        return self._list("answers", "POST", "recommendations/batch", wanted)

    def similar_items(self, item_id: str, k: int = 10) -> list[dict[str, Any]]:
        """Items most similar to an item."""
        return self._list("items", "GET", f"items/{_part(item_id)}/similar", params={"k": k})

    def search(self, text: str, k: int = 10) -> list[dict[str, Any]]:
        """Search items by text."""
        return self._list("items", "GET", "search", params={"q": text, "k": k})

    def item(self, item_id: str) -> dict[str, Any]:
        """An item as currently served."""
        return self._call("GET", f"items/{_part(item_id)}")

    def add_item(self, item_id: str, title: str, **fields: Any) -> bool:
        """Add an item; False if an identical one exists."""
        body = {"item_id": item_id, "title": title, **fields}
        return bool(self._call("POST", "items", body)["created"])

    def put_item(self, item_id: str, title: str, **fields: Any) -> dict[str, Any]:
        """Add an item or replace its description."""
        return self._call("PUT", f"items/{_part(item_id)}", {"title": title, **fields})

    def delete_item(self, item_id: str) -> None:
        """Remove an item from the catalogue."""
        self._call("DELETE", f"items/{_part(item_id)}")

    def set_availability(self, item_id: str, available: bool) -> dict[str, Any]:
        """Set an item available or not."""
        path = f"items/{_part(item_id)}/availability"
        return self._call("PUT", path, {"available": available})

    def set_stock(self, available: Mapping[str, bool]) -> list[dict[str, Any]]:
        """Set many items available or not, atomically; returns for each whether it is served."""
        items = [
            {"item_id": item_id, "available": is_free} for item_id, is_free in available.items()
        ]
        return self._list("items", "POST", "items/availability", {"items": items})

    def record(
        self, user_id: str, item_id: str, kind: str = "view", *, event_id: str | None = None,
        rating: float | None = None, quantity: float | None = None, occurred_at: int | None = None,
        recommendation_id: str | None = None, position: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> bool:  # fmt: skip
        """Record an event, by default at the current time; False if its id was recorded before.

        ``recommendation_id`` and ``position`` name the answer that led to it and the item's rank;
        ``context`` holds declared columns of the log, such as the device.

        If a call may be retried, pass an ``event_id``, so that the event counts once.
        """
        event = {
            "event_id": event_id or uuid.uuid4().hex,
            "user_id": user_id,
            "item_id": item_id,
            "kind": kind,
            "rating": rating,
            "quantity": quantity,
            "occurred_at": time.time_ns() // 1_000_000 if occurred_at is None else occurred_at,
            "recommendation_id": recommendation_id,
            "position": position,
            "context": None if context is None else dict(context),
        }
        return bool(self.record_all([event])[0]["recorded"])

    def record_all(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Record events atomically."""
        body = {"events": [dict(event) for event in events]}
        return self._list("events", "POST", "events", body)

    def forget_user(self, user_id: str) -> dict[str, Any]:
        """Forget a user everywhere; ``unconfirmed`` counts processes yet to confirm."""
        return self._call("DELETE", f"users/{_part(user_id)}")

    def export_user(self, user_id: str) -> dict[str, Any]:
        """All data stored about a user."""
        return self._call("GET", f"users/{_part(user_id)}/export")

    def model(self) -> dict[str, Any]:
        """The model in service."""
        return self._call("GET", "model")

    def activity(self, hours: int = 24) -> dict[str, Any]:
        """Events by kind and hour, and the newest reloads."""
        return self._call("GET", "activity", params={"hours": hours})

    def metrics(self) -> str:
        """All metrics, in Prometheus' text format."""
        answer = self._http.get("/metrics")
        if not answer.is_success:
            raise ServiceError(answer.status_code, {})
        return answer.text

    def reload(self, bundle: str | None = None) -> dict[str, Any]:
        """Swap in a bundle."""
        return self._call("POST", "models/reload", {"bundle": bundle})

    def split(self, bundle: str | None, share: float = 0.5) -> dict[str, Any]:
        """Answer a share of the users from another bundle (A/B test); None ends it."""
        return self._call("POST", "models/split", {"bundle": bundle, "share": share})

    def interleave(self, bundle: str | None, share: float = 1.0) -> dict[str, Any]:
        """Interleave both bundles' items for a share of the users; None ends it."""
        return self._call("POST", "models/interleave", {"bundle": bundle, "share": share})

    def shadow(self, bundle: str | None, share: float = 1.0) -> dict[str, Any]:
        """Send a share of the traffic to a shadow bundle too, without showing it; None ends it."""
        return self._call("POST", "models/shadow", {"bundle": bundle, "share": share})

    def live(self, days: float = 7) -> dict[str, Any]:
        """Recommendations shown in the last days, and their outcomes."""
        return self._call("GET", "live", params={"days": days})

    def answer(self, user_id: str | None = None, **wanted: Any) -> dict[str, Any]:
        """As `recommend`, but the whole answer: ``recommendation_id``, ``items`` and so on."""
        return self._call("POST", "recommendations", {"user_id": user_id, **wanted})

    def ready(self) -> bool:
        """Whether the service answers requests."""
        try:
            return self._http.get("/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(
        self, method: str, path: str, body: object = None, params: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = self._http.request(method, f"/v1/{path}", json=body, params=params)
        try:
            content = answer.json() if answer.content else {}
        except ValueError:
            content = {}
        if not answer.is_success:
            raise ServiceError(answer.status_code, content)
        found: dict[str, Any] = content
        return found

    def _list(self, field: str, *call: Any, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call(*call, **options)[field]
        return found


def _part(text: str) -> str:
    return quote(text, safe="")
