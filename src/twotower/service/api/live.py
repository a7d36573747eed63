"""Live routes: online comparison of two bundles, and the report of outcomes."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from twotower.service.api.auth import Scope
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import responses
from twotower.service.api.routes import fast, needs, served
from twotower.service.api.schemas import (
    InterleaveRequest,
    LiveReport,
    ShadowRequest,
    SplitAnswer,
    SplitRequest,
)
from twotower.service.state.live import Mode

router = APIRouter(route_class=JsonRoute, prefix="/v1", tags=["live"])


@router.post(
    "/models/split",
    response_model=SplitAnswer,
    responses=responses(409),
    dependencies=[needs(Scope.ADMIN)],
)
async def split(wanted: SplitRequest, request: Request) -> Response:
    """Start an A/B test: answer a share of the users from another bundle.

    Replaces any running comparison. Other processes and services on the same database follow
    within seconds.
    """
    return await _begun(wanted, request, "split")


@router.post(
    "/models/interleave",
    response_model=SplitAnswer,
    responses=responses(409),
    dependencies=[needs(Scope.ADMIN)],
)
async def interleave(wanted: InterleaveRequest, request: Request) -> Response:
    """Interleave two bundles: their items share each answer and compete for the events.

    Replaces any running comparison. Other processes and services on the same database follow
    within seconds.
    """
    return await _begun(wanted, request, "interleave")


@router.post(
    "/models/shadow",
    response_model=SplitAnswer,
    responses=responses(409),
    dependencies=[needs(Scope.ADMIN)],
)
async def shadow(wanted: ShadowRequest, request: Request) -> Response:
    """Start shadow traffic: another bundle also answers, after the response, and is not shown.

    Replaces any running comparison. Other processes and services on the same database follow
    within seconds.
    """
    return await _begun(wanted, request, "shadow")


async def _begun(
    wanted: SplitRequest | InterleaveRequest | ShadowRequest, request: Request, mode: Mode
) -> Response:
    shared, service = served(request)
    arguments = (wanted.bundle, wanted.share, mode)
    made, ended = await shared.run(shared.workers, service.split, *arguments)
    return fast(
        {"bundle": made.name, "share": made.share, "revision": made.revision, "ended": ended}
    )


@router.get(
    "/live", response_model=LiveReport, responses=responses(), dependencies=[needs(Scope.READ)]
)
async def live(
    request: Request,
    days: Annotated[float, Query(gt=0, le=3650, description="How far to look back.")] = 7.0,
) -> Response:
    """Report shown recommendations and their outcomes, by model version, position and arm."""
    shared, service = served(request)
    since = int(1000 * (time.time() - 86_400 * days))
    return fast(await shared.run(shared.workers, service.live_report, since))
