"""Routes that read: recommendations, similar items, search."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from twotower.inference.answers import Recommendation, recommendations
from twotower.inference.popular import PopularItems
from twotower.inference.requests import Request as Wanted
from twotower.inference.stages import Timings
from twotower.service.api.auth import Scope
from twotower.service.api.context import Context
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import responses
from twotower.service.api.routes import fast, needs, not_found, served, within
from twotower.service.api.schemas import (
    Asker,
    BatchAnswer,
    BatchRequest,
    ItemsAnswer,
    RecommendAnswer,
    RecommendRequest,
    Words,
)
from twotower.service.service import Service
from twotower.service.state.records import Id

router = APIRouter(
    route_class=JsonRoute, prefix="/v1", tags=["recommend"], dependencies=[needs(Scope.READ)]
)

K = Annotated[int, Query(ge=1, le=100_000, description="Items to return.")]


@router.get(
    "/users/{user_id:path}/recommendations",
    response_model=RecommendAnswer,
    responses=responses(404),
)
async def recommend_for_user(
    user_id: Annotated[Id, Path(examples=["U0047"])],
    request: Request,
    k: K = 10,
    rerank: bool | None = None,
) -> Response:
    """Items for a known user: one of the bundle, or one who did something since."""
    shared, one = served(request)
    within("k", k, shared.settings.max_k)
    if not one.knows(user_id):
        raise not_found(
            f"unknown user {user_id!r}", "POST /v1/recommendations with a history or words"
        )
    return _answer(one, shared, Asker(user_id=user_id), k, {"rerank": rerank})


@router.post("/recommendations", response_model=RecommendAnswer, responses=responses())
async def recommend(wanted: RecommendRequest, request: Request) -> Response:
    """Items for a user, for somebody who just browsed some items, for words, or all of these."""
    shared, one = served(request)
    within("k", wanted.k, shared.settings.max_k)
    within("items of history", len(wanted.history), shared.settings.max_history)
    options = _options(wanted)
    if wanted.text is not None:  # an encoder may take milliseconds
        return await shared.in_thread(_answer, one, shared, wanted, wanted.k, options)
    return _answer(one, shared, wanted, wanted.k, options)


@router.post("/recommendations/batch", response_model=BatchAnswer, responses=responses())
async def recommend_batch(wanted: BatchRequest, request: Request) -> Response:
    """Items for many users at once. Who is not known gets popular items, and is marked.

    A request with an unknown item in its history refuses all.
    """
    shared, one = served(request)
    within("k", wanted.k, shared.settings.max_k)
    within("requests", len(wanted.requests), shared.settings.max_batch)
    for asker in wanted.requests:
        within("items of history", len(asker.history), shared.settings.max_history)

    def work() -> Response:
        asked = wanted.requests
        strange = [_is_stranger(one, asker) for asker in asked] if wanted.unknown != "fail" else []
        known = [asker for place, asker in enumerate(asked) if not (strange and strange[place])]
        found = iter(_recommend(one, shared, known, wanted.k, _options(wanted)) if known else ())
        instead: list[Recommendation] = []
        if wanted.unknown == "popular" and any(strange):
            items = one.pipeline.items
            instead = recommendations(items, PopularItems(items).best(wanted.k, wanted.filters))
        answers = [instead if one else next(found) for one in strange] or list(found)
        other = "popular" if wanted.unknown == "popular" else "none"
        sources = [other if one else "model" for one in strange] or ["model"] * len(answers)
        version = one.manifest.model_version
        return fast({"model_version": version, "answers": answers, "sources": sources})

    return await shared.in_thread(work)


@router.get("/items/{item_id:path}/similar", response_model=ItemsAnswer, responses=responses(404))
async def similar_items(
    item_id: Annotated[Id, Path(examples=["G0885"])], request: Request, k: K = 10
) -> Response:
    """Items whose vectors are nearest to that of an item."""
    shared, one = served(request)
    within("k", k, shared.settings.max_k)
    pipeline = one.pipeline
    row = pipeline.items.find(item_id)
    if row is None or not pipeline.items.listed[row]:
        raise not_found(f"unknown item {item_id!r}", "search for it: /v1/search?q=title")
    found = pipeline.similar_items(item_id, k)
    return fast({"model_version": one.manifest.model_version, "items": found})


@router.get("/search", response_model=ItemsAnswer, responses=responses())
async def search(
    q: Annotated[Words, Query(description="Words of a title, or what is wanted.")],
    request: Request,
    k: K = 10,
) -> Response:
    """Items by their titles: the words, and what they mean where the bundle can tell."""
    shared, one = served(request)
    within("k", k, shared.settings.max_k)
    found = await shared.in_thread(one.pipeline.search, q, k)
    return fast({"model_version": one.manifest.model_version, "items": found})


def _is_stranger(one: Service, asker: Asker) -> bool:
    """Whether nothing is known of who asks, but an id."""
    told = asker.history or asker.text is not None or asker.user_id is None
    return not told and not one.knows(asker.user_id or "")


def _options(wanted: RecommendRequest | BatchRequest) -> dict[str, Any]:
    return {
        "exclude_seen": wanted.exclude_seen,
        "filters": wanted.filters,
        "rerank": wanted.rerank,
        "reasons": wanted.reasons,
    }


def _answer(
    one: Service, shared: Context, asker: Asker, k: int, options: dict[str, Any]
) -> Response:
    (items,) = _recommend(one, shared, [asker], k, options)
    known = asker.user_id is not None and asker.user_id in one.pipeline.contents.users
    return fast(
        {
            "model_version": one.manifest.model_version,
            "user": "known" if known else "new",
            "items": items,
        }
    )


def _recommend(
    one: Service, shared: Context, askers: Sequence[Asker], k: int, options: dict[str, Any]
) -> list[list[Recommendation]]:
    timings: Timings = {}
    requests = [Wanted(asker.user_id, asker.history, asker.text) for asker in askers]
    answers = one.recommend(requests, k, timings=timings, **options)
    pipeline = one.pipeline
    known = sum(asker.user_id in pipeline.contents.users for asker in askers)
    shared.metrics.recommended(timings, known, map(len, answers), pipeline.items.all_open.count)
    return answers
