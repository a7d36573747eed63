"""Users routes: forget a user, and give out all that is kept of one."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from twotower.service.api.auth import Scope
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import responses
from twotower.service.api.routes import fast, needs, served
from twotower.service.api.schemas import ForgottenAnswer, PersonalData
from twotower.service.state.records import Id

router = APIRouter(
    route_class=JsonRoute, prefix="/v1", tags=["users"], dependencies=[needs(Scope.ADMIN)]
)

UserId = Annotated[Id, Path(examples=["U0047"])]


@router.delete("/users/{user_id:path}", response_model=ForgottenAnswer, responses=responses())
async def forget_user(user_id: UserId, request: Request) -> Response:
    """Forget a user: events and attributes, and what the bundle and memory hold.

    When this is answered with ``unconfirmed`` 0, no process over the database uses any of it.
    """
    shared, service = served(request)
    outcome, behind = await shared.write(service.forget, [user_id])
    return fast({"rows_deleted": outcome.rows, "unconfirmed": behind})


@router.get("/users/{user_id:path}/export", response_model=PersonalData, responses=responses())
async def export_user(user_id: UserId, request: Request) -> Response:
    """All that is kept of a user."""
    shared, service = served(request)
    return fast(await shared.in_thread(service.export, user_id))
