"""Request and response schemas of the API, as OpenAPI shows them."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from twotower.config import Body
from twotower.data.time_zones import LARGEST_TIME
from twotower.inference.answers import Recommendation
from twotower.inference.filters import ANY, Filters
from twotower.service.api.rules import NUMBER, NewItemId, RequestTime, Time, WrittenId
from twotower.service.state.live import Mode
from twotower.service.state.records import Description, Event, Id

Words: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""A description of what the user wants."""
MOST: int = 100_000
"""Upper bound of any list in a request, whatever the settings are."""


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": fields})


def _open_example(**fields: Any) -> ConfigDict:
    """Of a model that takes the declared columns too, which the route checks."""
    return ConfigDict(extra="allow", json_schema_extra={"example": fields})


class _Options(Body):
    """Options of every request for recommendations."""

    k: int = Field(10, ge=1, le=MOST, strict=True)
    """Items to return."""
    exclude_seen: bool | None = Field(None, strict=True)
    """Leave out items of the history, stored or given; by default yes, unless users return to
    items in the training log."""
    filters: Filters = Field(default_factory=lambda: ANY)  # a default would be copied deeply
    rerank: bool | None = Field(None, strict=True)
    """Whether candidates are re-ranked; defaults to the service's setting."""
    reasons: bool = Field(True, strict=True)
    """Whether each item comes with its reason."""
    strict: bool = Field(False, strict=True)
    """Refuse unknown items and users; otherwise unknown items are ignored and users get popular
    items."""


class UserQuery(Body):
    """The user to recommend for, by at least one of the first three fields, and the context."""

    user_id: Id | None = None
    """A user id. An unknown user without history and text gets popular items."""
    history: list[Id] = Field(default=[], max_length=MOST)
    """Items just browsed, oldest first."""
    text: Words | None = None
    """A description of what the user wants."""
    attributes: dict[str, Any] | None = None
    """Declared columns of the user, instead of the stored ones."""
    context: dict[str, Any] | None = None
    """Declared columns of the log for this request, such as its device. Columns derived from the
    time are filled in; null means unknown."""
    time: RequestTime | None = None
    """Time of the request, by default now: milliseconds since 1970-01-01 UTC, or a text with an
    offset, such as ``2025-01-31T18:30:00+01:00``."""


class RecommendRequest(_Options, UserQuery):
    """A request for one user."""

    model_config = _example(
        history=["G0885", "G0888"], text="dark fantasy with hard bosses", k=10,
        filters={"max_price": 40, "max_per_franchise": 2},
    )  # fmt: skip


class BatchRequest(_Options):
    """Requests for many users, with the same options."""

    model_config = _example(requests=[{"user_id": "U0047"}, {"history": ["G0885"]}], k=10)

    requests: list[UserQuery] = Field(min_length=1, max_length=MOST)


Stage: TypeAlias = Literal["rerank"]


class UserAnswer(BaseModel):
    """Recommended items, best first."""

    recommendation_id: str
    """Id of this answer, to send with the events that follow it."""
    user: Literal["known", "new"]
    """Whether the bundle knows the user: ``new`` is a cold-start user."""
    source: Literal["model", "popular"]
    """``popular`` if the model has no input for the user: the items with the most events in the
    training log, with that number as the score."""
    unknown_items: list[str]
    """Unknown items of the request's history, which were ignored."""
    items: list[Recommendation]


class RecommendAnswer(UserAnswer):
    """Recommended items, best first, and the model."""

    model_version: str
    """Version of the bundle that answered."""
    skipped: list[Stage] = []
    """Requested stages that were skipped because the request had waited too long."""
    teams: str = ""
    """If two bundles are interleaved, the source of the item at each position: ``a``, the bundle
    in service, ``b``, the other one, or ``-`` for neither."""


class BatchAnswer(BaseModel):
    """One answer per request, in order."""

    model_version: str
    answers: list[UserAnswer]


class ItemsAnswer(BaseModel):
    """Items, best first."""

    model_version: str
    items: list[Recommendation]


class _Described(Description):
    """A description that `prepare` keeps unchanged."""

    price: Annotated[float | None, NUMBER] = Field(None, ge=0, le=1e9)
    """In the catalogue's currency."""
    average_rating: Annotated[float | None, NUMBER] = Field(None, ge=0, le=1e3)
    """On the scale of the training log."""
    rating_count: Annotated[int | None, NUMBER] = Field(None, ge=0, le=2**53)
    released: Annotated[float | None, NUMBER] = None
    """Release time, in the catalogue's unit (see docs/data.md); if left out, the item counts as
    newer than the whole catalogue."""

    @field_validator("title", "category")
    @classmethod
    def _is_not_blank(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("it is blank; leave it out where it is not known")
        return value


class NewItem(_Described):
    """An item as its owner describes it, with the bundle's declared columns as further fields."""

    model_config = _open_example(
        item_id="N0001", title="Dragon Saga 4", price=39.99, category="Role-Playing",
        description="The saga goes on.", features="Open world. Hard bosses.", store="Kestrel",
    )  # fmt: skip

    item_id: NewItemId


class ReplacedItem(_Described):
    """The new description of an item; its id is in the URL."""

    model_config = _open_example(title="Dragon Saga 4", price=29.99, category="Role-Playing")


class ItemAnswer(BaseModel):
    """An item as currently served."""

    item_id: str
    title: str | None
    category: str | None
    price: float | None
    available: bool
    source: Literal["bundle", "added"]
    """Source of its vector: trained in the bundle, or encoded by the item tower."""
    columns: dict[str, Any]
    """Declared columns that can be filtered on."""


class Written(BaseModel):
    """Confirmation of a write, which is on disk."""

    item_id: str
    created: bool
    """False if an identical one existed."""


class UserAttributes(Body):
    """Attributes of a user: declared columns by name."""

    model_config = _example(attributes={"age": 34, "country": "DE"})

    attributes: dict[str, Any]


class UserWritten(BaseModel):
    """The stored attributes of a user, which are on disk."""

    user_id: str
    attributes: dict[str, Any]


class Availability(Body):
    """Whether an item can be had."""

    model_config = _example(available=False)

    available: bool = Field(strict=True)


class ItemStock(Body):
    """Whether an item can be had."""

    item_id: WrittenId
    available: bool = Field(strict=True)


class Stock(Body):
    """Availability of several items."""

    model_config = _example(
        items=[{"item_id": "G0885", "available": False}, {"item_id": "G0888", "available": True}]
    )

    items: list[ItemStock] = Field(min_length=1, max_length=MOST)

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        ids = [item.item_id for item in self.items]
        if len(set(ids)) < len(ids):
            twice = next(item_id for item_id in ids if ids.count(item_id) > 1)
            raise ValueError(f"item {twice!r} is named twice; name each item once")
        return self


class StockOutcome(BaseModel):
    """The new availability of an item."""

    item_id: str
    available: bool
    item_known: bool
    """False if the item is not served: the setting applies once such an item is added."""


class StockAnswer(BaseModel):
    """The availability of each item. All are on disk."""

    items: list[StockOutcome]


class NewEvent(Event):
    """An interaction of a user with an item, valid for `prepare`."""

    user_id: WrittenId
    item_id: WrittenId
    rating: Annotated[float | None, NUMBER] = Field(None, ge=-1e6, le=1e6)
    """Rating of a ``rating`` event, on the scale of the training log."""
    quantity: Annotated[float | None, NUMBER] = Field(None, ge=-1e9, le=1e9)
    """Number of items; negative for a return."""
    occurred_at: Time = Field(ge=0, le=LARGEST_TIME, strict=True)
    """Milliseconds since 1970-01-01 UTC, from March 1973 to now."""

    @model_validator(mode="after")
    def _rates_something(self) -> Self:
        if self.kind == "rating" and self.rating is None:
            raise ValueError("an event of kind 'rating' needs a rating")
        if self.quantity == 0:
            raise ValueError("a quantity of 0 says nothing; leave the event or the quantity out")
        return self


class Events(Body):
    """User events."""

    model_config = _example(
        events=[
            {
                "event_id": "7d1f", "user_id": "U0047", "item_id": "G0885", "kind": "view",
                "occurred_at": 1735689600000,
            }
        ]
    )  # fmt: skip

    events: list[NewEvent] = Field(min_length=1, max_length=MOST)


class EventOutcome(BaseModel):
    """Outcome of recording an event."""

    event_id: str
    recorded: bool
    """False if it was recorded before: an event counts once."""
    item_known: bool
    """False if the item is not served: the event is only kept for the next training."""


class EventsAnswer(BaseModel):
    """Outcome for each event. All are on disk."""

    events: list[EventOutcome]


class SplitRequest(Body):
    """The other bundle of an A/B test, and its share of the users."""

    model_config = _example(bundle="bundle-2025-02", share=0.5)

    bundle: str | None = None
    """Name of a folder beside the configured one; None ends the split."""
    share: float = Field(0.5, gt=0, lt=1, strict=True)
    """Share of the users that it answers, drawn anew every day."""


class InterleaveRequest(Body):
    """The bundle to interleave with the one in service, and the share of the users."""

    model_config = _example(bundle="bundle-2025-02")

    bundle: str | None = None
    """Name of a folder beside the configured one; None ends it."""
    share: float = Field(1.0, gt=0, le=1, strict=True)
    """Share of the users whose answers have items of both, drawn anew every day."""


class ShadowRequest(Body):
    """The shadow bundle, and its share of the users."""

    model_config = _example(bundle="bundle-2025-02")

    bundle: str | None = None
    """Name of a folder beside the configured one; None ends it."""
    share: float = Field(1.0, gt=0, le=1, strict=True)
    """Share of the users whose requests it also answers, drawn anew every day."""


class SplitAnswer(BaseModel):
    """The comparison (split, interleaving or shadow) from now on."""

    bundle: str | None
    share: float
    revision: int
    """Number of the comparison."""
    ended: Mode | None
    """The comparison that this call ended, if any: there is one at a time."""


class LiveReport(BaseModel):
    """Shown recommendations and their outcomes."""

    since: int
    """Milliseconds since 1970-01-01 UTC."""
    models: list[dict[str, Any]]
    """For each model version and arm: ``answers``, ``events`` attributed to one, their rates, and
    the shares of new users and items."""
    positions: list[dict[str, Any]]
    """Events by kind and position in the answer."""
    split: dict[str, Any] | None
    """Units, successes and rate of both arms, and the difference with its confidence sequence."""
    interleaving: dict[str, Any] | None
    """Units that each bundle won, and the preference with its confidence sequence."""
    shadow: dict[str, Any] | None
    """Requests sent to the shadow, and how its lists differ from those shown."""
    psi: float
    """Popularity drift of the events recorded by this process: see `PopularityDrift`."""


class ForgottenAnswer(BaseModel):
    """Confirmation that a user was forgotten."""

    rows_deleted: int
    """Number of deleted events and attributes in the database."""
    unconfirmed: int
    """Processes that have not confirmed yet; at 0, no answer uses the user's data any more. The
    others follow as soon as they reach the database."""


class BundledHistory(BaseModel):
    """Data about a user in the bundle in service."""

    model_version: str
    history: list[dict[str, Any]]
    """Item, rating and time of each interaction, oldest first; null if the log has none."""


class PersonalData(BaseModel):
    """All data stored about a user: the rows of each table, and the bundle's history."""

    model_config = ConfigDict(extra="allow")

    user_id: str
    events: list[dict[str, Any]]
    bundle: BundledHistory


class ReloadRequest(Body):
    """The bundle to serve."""

    model_config = _example(bundle="bundle-2025-01")

    bundle: str | None = None
    """Name of a folder beside the configured one; None reads the configured one again."""


class HourOfEvents(BaseModel):
    """Events of one kind in one hour."""

    hour: str
    """Start of the hour, UTC."""
    kind: str
    events: int


class ReloadNote(BaseModel):
    """A reload of the bundle."""

    at: str
    """Time, UTC."""
    outcome: Literal["swapped", "followed", "refused"]
    """``followed`` if another process reloaded and this one followed."""
    model_version: str
    """Version in service afterwards."""


class Activity(BaseModel):
    """Recent events and reloads."""

    events: list[HourOfEvents]
    reloads: list[ReloadNote]
    """Reloads of the answering process, newest first."""


class ModelAnswer(BaseModel):
    """The model in service."""

    model_version: str
    model: str
    dataset: str
    created: str
    embedding_dim: int
    metrics: dict[str, float]
    """Metrics measured before the bundle was made."""
    users: int
    items: int
    """Number of listed items, including added ones."""
    items_added: int
    items_outside_index: int
    index: dict[str, Any]
    reranks: bool
    """Whether requests are re-ranked by default."""
    takes_new_items: bool
    context: dict[str, str]
    """Context columns that the model reads, with their kinds."""


class Health(BaseModel):
    """Liveness of the process."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether requests can be answered, and whether writes can."""

    status: Literal["ready", "starting"]
    state: Literal["up", "stale", "down"]
    """Health of the database. While it is ``down`` (unreachable, or it refused the last write),
    writes are refused, reads are not. While it is ``stale``, a read is overdue: answers may lack
    the newest writes of other processes."""
    model_version: str | None
