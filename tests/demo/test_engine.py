import json
from dataclasses import asdict

import httpx
import pytest

from twotower.demo.engine import InProcess, OverHttp
from twotower.demo.loaded_bundle import LoadedBundle
from twotower.errors import InputError, TwoTowerError
from twotower.inference import Filters, RecommendOptions, Request

FOUR = RecommendOptions(4)


def service(loaded: LoadedBundle, seen: list[dict]) -> httpx.MockTransport:
    """Answers as the service does, from the bundle."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/model":
            return httpx.Response(200, json={"model_version": "v9-other"})
        if request.url.path.endswith("/similar"):
            items = loaded.pipeline.similar_items("i02", 3)
            return httpx.Response(200, json={"items": [asdict(one) for one in items]})
        body = json.loads(request.content)
        seen.append(body)
        items = loaded.pipeline.recommend(history=body["history"], k=body["k"])
        return httpx.Response(200, json={"items": [asdict(one) for one in items]})

    return httpx.MockTransport(answer)


def test_a_service_recommends_as_the_bundle_does(loaded: LoadedBundle) -> None:
    seen: list[dict] = []
    there, here = (
        OverHttp("http://service", "key", service(loaded, seen)),
        InProcess(loaded.pipeline),
    )
    request = Request(history=["i02", "i04"])
    assert there.recommend(request, FOUR) == here.recommend(request, FOUR)
    assert there.similar_items("i02", 3) == here.similar_items("i02", 3)
    assert there.model_version() == "v9-other"
    narrow = Filters(max_price=20.0, categories=("sport",))
    there.recommend(request, RecommendOptions(4, narrow, exclude_seen=False))
    assert seen[-1]["filters"]["max_price"] == 20
    assert Filters(**seen[-1]["filters"]).categories == ("sport",)
    assert seen[-1]["exclude_seen"] is False


def test_an_unreachable_service_is_named() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    there = OverHttp("http://service", transport=httpx.MockTransport(refuse))
    with pytest.raises(InputError, match=r"http://service does not answer \(refused\); start it"):
        there.recommend(Request(history=["i02"]), FOUR)


def test_a_problem_is_a_twotower_error() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(401, json={"detail": "no key"}))
    with pytest.raises(TwoTowerError, match="401: no key"):
        OverHttp("http://service", transport=transport).model_version()
