"""Items and events routes: add, replace and delete items, set availability, record events."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from twotower.config import first_problem
from twotower.service.api.auth import Scope
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import problem, responses
from twotower.service.api.routes import RefusedError, fast, needs, not_found, served, within
from twotower.service.api.rules import (
    USUAL_KINDS,
    USUAL_RATINGS,
    NewItemId,
    WrittenId,
    rating_scale,
)
from twotower.service.api.schemas import (
    Availability,
    Events,
    EventsAnswer,
    ItemAnswer,
    NewEvent,
    NewItem,
    ReplacedItem,
    Stock,
    StockAnswer,
    UserAttributes,
    UserWritten,
    Written,
)
from twotower.service.live import Attributed, position_group
from twotower.service.service import Service
from twotower.service.state.records import Description, Event, Id, ItemFields

router = APIRouter(route_class=JsonRoute, prefix="/v1", tags=["items and events"])

ItemId = Annotated[Id, Path(examples=["N0001"])]
WRITE = [needs(Scope.WRITE)]


@router.get(
    "/items/{item_id:path}",
    response_model=ItemAnswer,
    responses=responses(404),
    dependencies=[needs(Scope.READ)],
)
async def get_item(item_id: ItemId, request: Request) -> Response:
    """An item as it is served now."""
    _, service = served(request)
    return fast(_shown(service, item_id))


@router.post(
    "/items",
    response_model=Written,
    status_code=201,
    responses={**responses(409), 200: {"description": "The very same item was there already."}},
    dependencies=WRITE,
)
async def create_item(item: NewItem, request: Request) -> Response:
    """Add an item. It is on disk, and searchable by the next request, when this is answered."""
    shared, service = served(request)
    _check_rating(service, "average_rating", item.average_rating)
    fields = _fields(service, item.item_id, item)
    created = await shared.write(service.create_item, fields)
    return fast({"item_id": item.item_id, "created": created}, 201 if created else 200)


@router.post(
    "/items/availability", response_model=StockAnswer, responses=responses(), dependencies=WRITE
)
async def set_stock(stock: Stock, request: Request) -> Response:
    """Say of many items whether they can be had, all or none."""
    shared, service = served(request)
    within("items", len(stock.items), shared.settings.max_batch)
    await shared.write(service.set_stock, {item.item_id: item.available for item in stock.items})
    items = service.pipeline.items
    outcomes = [{**vars(item), "item_known": item.item_id in items} for item in stock.items]
    return fast({"items": outcomes})


# Ids may hold slashes, so what follows an id must be looked for before the id alone.
@router.put(
    "/items/{item_id:path}/availability",
    response_model=ItemAnswer,
    responses=responses(404),
    dependencies=WRITE,
)
async def set_availability(item_id: ItemId, state: Availability, request: Request) -> Response:
    """Say whether an item can be had. One that cannot is not recommended."""
    shared, service = served(request)
    _shown(service, item_id)
    await shared.write(service.set_availability, item_id, state.available)
    return fast(_shown(service, item_id))


@router.put(
    "/items/{item_id:path}",
    response_model=ItemAnswer,
    responses=responses(404),
    dependencies=WRITE,
)
async def put_item(item_id: ItemId, item: ReplacedItem, request: Request) -> Response:
    """Add an item, or describe it anew. One of the bundle keeps the vector that was trained."""
    shared, service = served(request)
    if item_id not in service.pipeline.items:
        _check_new_id(item_id)
    _check_rating(service, "average_rating", item.average_rating)
    await shared.write(service.put_item, _fields(service, item_id, item))
    return fast(_shown(service, item_id))


@router.delete(
    "/items/{item_id:path}", status_code=204, responses=responses(404), dependencies=WRITE
)
async def delete_item(item_id: ItemId, request: Request) -> Response:
    """Take an item out of the catalogue. Histories that hold it still count it."""
    shared, service = served(request)
    _shown(service, item_id)
    await shared.write(service.delete_item, item_id)
    return Response(status_code=204)


@router.post(
    "/events",
    response_model=EventsAnswer,
    responses=responses(409),
    dependencies=WRITE,
)
async def add_events(events: Events, request: Request) -> Response:
    """Record what users did, all or nothing. An event id that came before is not counted again."""
    shared, service = served(request)
    within("events", len(events.events), shared.settings.max_batch)
    for place, event in enumerate(events.events):
        _check_kind(service, f"events.{place}.kind", event)
        _check_rating(service, f"events.{place}.rating", event.rating)
    plain = [Event.model_construct(**vars(event)) for event in events.events]
    recorded = await shared.write(service.add_events, plain)
    items = service.pipeline.items
    for written, new in zip(plain, recorded, strict=True):
        shared.metrics.events.labels("new" if new else "again").inc()
        named = Attributed.of(written) if new else None
        if named is not None:
            about, group = named.about, position_group(named.position)
            labels = (about.model_version, about.arm, named.kind, group)
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
    """Say what is known of a user, such as age and country, in place of what was said before."""
    shared, service = served(request)
    await shared.write(service.put_user, user_id, user.attributes)
    return fast({"user_id": user_id, "attributes": service.current.attributes_of(user_id)})


def _fields(service: Service, item_id: str, item: NewItem | ReplacedItem) -> ItemFields:
    """A description as it is stored: fields that are declared columns are checked, and are both."""
    plain = {name: getattr(item, name) for name in Description.model_fields}
    given = {name: value for name, value in plain.items() if value is not None}
    columns = service.pipeline.checked_columns(item.model_extra or {}, given)
    return ItemFields(item_id=item_id, columns=columns or None, **plain)


_NEW_ID: Final[TypeAdapter[str]] = TypeAdapter(NewItemId)


def _check_new_id(item_id: str) -> None:
    """422 where `prepare` would reject an id, or no request could name it."""
    try:
        _NEW_ID.validate_python(item_id)
    except ValidationError as error:
        what = f"item_id: {first_problem(error).what}"
        raise RefusedError(problem(422, what, value=item_id, fix="use another id")) from None


def _check_kind(service: Service, name: str, event: NewEvent) -> None:
    """422 at a kind of event that the bundle knows nothing of."""
    rules = service.pipeline.contents.info.events
    if rules is None and event.kind in USUAL_KINDS:
        return
    if rules is not None and rules.kind_of(event.kind, event.rating) is not None:
        return
    known = USUAL_KINDS if rules is None else rules.kinds
    what = f"{name}: {event.kind!r} is no kind of event that is served"
    if rules is not None and rules.from_rating and event.rating is not None:
        what = f"{name}: a rating of {event.rating:g} is of no kind"
    raise RefusedError(problem(422, what, value=event.kind, fix=f"send one of {', '.join(known)}"))


def _check_rating(service: Service, name: str, rating: float | None) -> None:
    """422 where `prepare` would reject a rating."""
    if rating is None:
        return
    scale = service.pipeline.contents.info.rating_scale
    log = service.pipeline.rating_range
    if scale is None and log is None:  # then no rating is trained on
        return
    low, high = scale or rating_scale(log or USUAL_RATINGS)
    if not low <= rating <= high:
        raise RefusedError(
            problem(
                422, f"{name}: {rating:g} is not on the scale of the training log",
                value=rating, fix=f"send {low:g} to {high:g}",
            )
        )  # fmt: skip


def _shown(service: Service, item_id: str) -> dict[str, Any]:
    items = service.pipeline.items
    row = items.find(item_id)
    if row is None or not items.listed[row]:
        raise not_found(f"unknown item {item_id!r}", "search for it: /v1/search?q=title")
    shown = items.describe(row)
    return {
        "item_id": item_id,
        "title": shown.titles[0],
        "category": shown.categories[0],
        "price": shown.prices[0],  # NaN is written as null
        "available": bool(items.eligible[row]),
        "source": "bundle" if row < items.bundled else "added",
        "columns": shown.columns[0] if shown.columns else {},
    }
