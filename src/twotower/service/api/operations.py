"""Operations routes: health, readiness, model, metrics, reload."""

import time
from datetime import UTC, datetime
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from twotower.errors import TwoTowerError
from twotower.inference.options import RecommendOptions
from twotower.service.api.auth import Scope
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.middleware import RELOAD
from twotower.service.api.problems import responses
from twotower.service.api.routes import context, fast, needs, served
from twotower.service.api.schemas import Activity, Health, ModelAnswer, Ready, ReloadRequest
from twotower.service.service import Service
from twotower.service.state.live import activity as activity_since

router = APIRouter(route_class=JsonRoute, tags=["operations"])


@router.get("/health", response_model=Health)
async def health() -> Response:
    """Whether the process answers."""
    return fast({"status": "ok"})


@router.get(
    "/ready", response_model=Ready, responses={503: {"model": Ready, "description": "Starting."}}
)
async def ready(request: Request) -> Response:
    """Whether requests can be answered."""
    shared = context(request)
    service = shared.service
    if service is None:
        return fast({"status": "starting", "state": "down", "model_version": None}, 503)
    version = service.manifest.model_version
    return fast({"status": "ready", "state": service.state, "model_version": version})


@router.get(
    "/v1/model",
    response_model=ModelAnswer,
    responses=responses(),
    dependencies=[needs(Scope.READ)],
)
async def model(request: Request) -> Response:
    """Describe the model in service."""
    _, service = served(request)
    return fast(_described(service))


@router.get(
    "/v1/activity",
    response_model=Activity,
    responses=responses(),
    dependencies=[needs(Scope.READ)],
)
async def activity(
    request: Request, hours: Annotated[int, Query(ge=1, le=24 * 31)] = 24
) -> Response:
    """Events of the last hours by kind and hour, and the newest reloads of this process."""
    shared, service = served(request)
    since = time.time_ns() // 1_000_000 - hours * 3_600_000
    counted = await shared.run(shared.workers, service.store.read, activity_since, since)
    events = [
        {"hour": datetime.fromtimestamp(at / 1000, UTC).isoformat(), "kind": kind, "events": count}
        for at, kind, count in counted
    ]
    return fast({"events": events, "reloads": [*shared.metrics.recent_reloads]})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=responses(),
    dependencies=[needs(Scope.READ)],
)
async def metrics(request: Request) -> Response:
    """All metrics, in Prometheus' text format."""
    shared = context(request)
    service, counted = shared.service, shared.metrics
    if service is not None:
        counted.note(service)
    return Response(counted.text(), media_type=CONTENT_TYPE_LATEST)


@router.post(
    RELOAD,
    response_model=ModelAnswer,
    responses=responses(409),
    dependencies=[needs(Scope.ADMIN)],
)
async def reload(wanted: ReloadRequest, request: Request) -> Response:
    """Verify, smoke-test and swap in a bundle. Until then, or if it fails, the old one answers.

    Other processes and services on the same database follow within seconds.
    """
    shared, service = served(request)
    try:
        await shared.run(shared.workers, service.reload, wanted.bundle)
    except TwoTowerError:
        shared.metrics.reloaded(service, "refused")
        raise
    shared.metrics.reloaded(service, "swapped")
    return fast(_described(service))


def _described(service: Service) -> dict[str, object]:
    snapshot = service.current
    pipeline, manifest = snapshot.pipeline, snapshot.manifest
    contents, items = pipeline.contents, pipeline.items
    return {
        "model_version": manifest.model_version,
        "model": manifest.info.model,
        "dataset": manifest.info.dataset,
        "created": manifest.created.isoformat(),
        "embedding_dim": manifest.embedding_dim,
        "metrics": manifest.info.metrics,
        "users": len(contents.users),
        "items": int(np.count_nonzero(items.listed)),
        "items_added": int(np.count_nonzero(items.listed[items.bundled :])),
        "items_outside_index": pipeline.outside_index,
        "index": contents.index.config.model_dump(),
        "reranks": RecommendOptions(rerank=service.settings.rerank).reranks(contents),
        "takes_new_items": contents.new_items is not None,
        "context": {name: column.kind for name, column in pipeline.read_context.items()},
    }
