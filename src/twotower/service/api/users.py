"""Users routes: record events and attributes, forget a user, export a user's data."""

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from twotower.inference.pipeline import Pipeline
from twotower.service.api.auth import Scope
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import RefusedError, responses
from twotower.service.api.routes import check_rating, fast, needs, served, within
from twotower.service.api.rules import USUAL_KINDS, WrittenId
from twotower.service.api.schemas import (
    Events,
    EventsAnswer,
    ForgottenAnswer,
    NewEvent,
    PersonalData,
    UserAttributes,
    UserWritten,
)
from twotower.service.live import position_group
from twotower.service.recommendation_id import RecommendationId
from twotower.service.service import Service
from twotower.service.state.records import Event, Id

router = APIRouter(route_class=JsonRoute, prefix="/v1", tags=["users and events"])

UserId = Annotated[Id, Path(examples=["U0047"])]
WRITE, ADMIN = [needs(Scope.WRITE)], [needs(Scope.ADMIN)]


@router.post(
    "/events",
    response_model=EventsAnswer,
    responses=responses(409),
    dependencies=WRITE,
)
async def add_events(events: Events, request: Request) -> Response:
    """Record user events atomically. An event id that was recorded before is not counted again."""
    shared, service = served(request)
    within("events", len(events.events), shared.settings.max_batch)
    for place, event in enumerate(events.events):
        _check_kind(service, f"events.{place}.kind", event)
        check_rating(service, f"events.{place}.rating", event.rating)
        if event.context:
            service.accepted(Pipeline.checked_event_context, event.context)
    plain = [Event.model_construct(**vars(event)) for event in events.events]
    recorded = await shared.run(shared.writers, service.add_events, plain)
    items = service.pipeline.items
    for written, new in zip(plain, recorded, strict=True):
        shared.metrics.events.labels("new" if new else "again").inc()
        about = RecommendationId.read(written.recommendation_id) if new else None
        if about is not None:
            group = position_group(written.position)
            labels = (about.model_version, about.arm, written.kind, group)
            shared.metrics.attributed.labels(*labels).inc()
    outcomes = [
        {"event_id": event.event_id, "recorded": new, "item_known": event.item_id in items}
        for event, new in zip(events.events, recorded, strict=True)
    ]
    return fast({"events": outcomes})


@router.put(
    "/users/{user_id:path}",
    response_model=UserWritten,
    responses=responses(),
    dependencies=WRITE,
)
async def put_user(
    user_id: Annotated[WrittenId, Path(examples=["U0047"])], user: UserAttributes, request: Request
) -> Response:
    """Set a user's attributes, such as age and country, replacing earlier ones."""
    shared, service = served(request)
    await shared.run(shared.writers, service.put_user, user_id, user.attributes)
    return fast({"user_id": user_id, "attributes": service.current.attributes_of(user_id)})


@router.delete(
    "/users/{user_id:path}",
    response_model=ForgottenAnswer,
    responses=responses(),
    dependencies=ADMIN,
)
async def forget_user(user_id: UserId, request: Request) -> Response:
    """Forget a user: stored events and attributes, and data in the bundle and in memory.

    Once this is answered with ``unconfirmed`` 0, no process on the database uses any of it.
    """
    shared, service = served(request)
    outcome, behind = await shared.run(shared.writers, service.forget, [user_id])
    return fast({"rows_deleted": outcome.rows, "unconfirmed": behind})


@router.get(
    "/users/{user_id:path}/export",
    response_model=PersonalData,
    responses=responses(),
    dependencies=ADMIN,
)
async def export_user(user_id: UserId, request: Request) -> Response:
    """Export all data stored about a user."""
    shared, service = served(request)
    return fast(await shared.run(shared.workers, service.export, user_id))


def _check_kind(service: Service, name: str, event: NewEvent) -> None:
    """422 at an event kind that the bundle does not know."""
    rules = service.pipeline.contents.info.events
    if rules is None and event.kind in USUAL_KINDS:
        return
    if rules is not None and rules.kind_of(event.kind, event.rating) is not None:
        return
    known = USUAL_KINDS if rules is None else rules.kinds
    what = f"{name}: {event.kind!r} is no kind of event that is served"
    if rules is not None and rules.from_rating and event.rating is not None:
        what = f"{name}: a rating of {event.rating:g} is of no kind"
    raise RefusedError(422, what, value=event.kind, fix=f"send one of {', '.join(known)}")
