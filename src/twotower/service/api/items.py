"""Items routes: add, replace and delete items, set availability."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from twotower.config import first_problem
from twotower.service.api.auth import Scope
from twotower.service.api.json_route import JsonRoute
from twotower.service.api.problems import RefusedError, responses
from twotower.service.api.routes import check_rating, fast, needs, served, unknown_item, within
from twotower.service.api.rules import NewItemId
from twotower.service.api.schemas import (
    Availability,
    ItemAnswer,
    NewItem,
    ReplacedItem,
    Stock,
    StockAnswer,
    Written,
)
from twotower.service.service import Service
from twotower.service.state.records import Description, Id, ItemFields

router = APIRouter(route_class=JsonRoute, prefix="/v1", tags=["items"])

ItemId = Annotated[Id, Path(examples=["N0001"])]
WRITE = [needs(Scope.WRITE)]


@router.get(
    "/items/{item_id:path}",
    response_model=ItemAnswer,
    responses=responses(404),
    dependencies=[needs(Scope.READ)],
)
async def get_item(item_id: ItemId, request: Request) -> Response:
    """Get an item as currently served."""
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
    """Add an item. Once this is answered, it is on disk and served from the next request on."""
    shared, service = served(request)
    check_rating(service, "average_rating", item.average_rating)
    fields = _fields(service, item.item_id, item)
    created = await shared.run(shared.writers, service.create_item, fields)
    return fast({"item_id": item.item_id, "created": created}, 201 if created else 200)


@router.post(
    "/items/availability", response_model=StockAnswer, responses=responses(), dependencies=WRITE
)
async def set_stock(stock: Stock, request: Request) -> Response:
    """Set the availability of many items atomically."""
    shared, service = served(request)
    within("items", len(stock.items), shared.settings.max_batch)
    available = {item.item_id: item.available for item in stock.items}
    await shared.run(shared.writers, service.set_stock, available)
    items = service.pipeline.items
    outcomes = [{**vars(item), "item_known": item.item_id in items} for item in stock.items]
    return fast({"items": outcomes})


# Ids may contain slashes, so routes with a suffix after the id must come before the id alone.
@router.put(
    "/items/{item_id:path}/availability",
    response_model=ItemAnswer,
    responses=responses(404),
    dependencies=WRITE,
)
async def set_availability(item_id: ItemId, state: Availability, request: Request) -> Response:
    """Set whether an item is available. Unavailable items are not recommended."""
    shared, service = served(request)
    _shown(service, item_id)
    await shared.run(shared.writers, service.set_availability, item_id, state.available)
    return fast(_shown(service, item_id))


@router.put(
    "/items/{item_id:path}",
    response_model=ItemAnswer,
    responses=responses(404),
    dependencies=WRITE,
)
async def put_item(item_id: ItemId, item: ReplacedItem, request: Request) -> Response:
    """Add an item, or replace its description. The bundle's items keep their trained vectors."""
    shared, service = served(request)
    if item_id not in service.pipeline.items:
        _check_new_id(item_id)
    check_rating(service, "average_rating", item.average_rating)
    await shared.run(shared.writers, service.put_item, _fields(service, item_id, item))
    return fast(_shown(service, item_id))


@router.delete(
    "/items/{item_id:path}", status_code=204, responses=responses(404), dependencies=WRITE
)
async def delete_item(item_id: ItemId, request: Request) -> Response:
    """Remove an item from the catalogue. It still counts in histories that contain it."""
    shared, service = served(request)
    _shown(service, item_id)
    await shared.run(shared.writers, service.delete_item, item_id)
    return Response(status_code=204)


def _fields(service: Service, item_id: str, item: NewItem | ReplacedItem) -> ItemFields:
    """A description to store; fields that are also declared columns are checked, and stored as
    both.
    """
    plain = {name: getattr(item, name) for name in Description.model_fields}
    given = {name: value for name, value in plain.items() if value is not None}
    columns = service.pipeline.checked_columns(item.model_extra or {}, given)
    return ItemFields(item_id=item_id, columns=columns or None, **plain)


_NEW_ID: Final[TypeAdapter[str]] = TypeAdapter(NewItemId)


def _check_new_id(item_id: str) -> None:
    """422 if `prepare` would reject an id, or no request could name it."""
    try:
        _NEW_ID.validate_python(item_id)
    except ValidationError as error:
        what = f"item_id: {first_problem(error).what}"
        raise RefusedError(422, what, value=item_id, fix="use another id") from None


def _shown(service: Service, item_id: str) -> dict[str, Any]:
    items = service.pipeline.items
    row = items.find(item_id)
    if row is None or not items.listed[row]:
        raise unknown_item(item_id)
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
