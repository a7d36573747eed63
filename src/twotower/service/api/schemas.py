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
"""What is wanted, in words."""
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
    """Leave out items of the history, stored or given; by default unless users come back to items
    in the log that the model was trained on."""
    filters: Filters = Field(default_factory=lambda: ANY)  # a default would be copied deeply
    rerank: bool | None = Field(None, strict=True)
    """Whether candidates are re-ranked; by default as the service is set."""
    reasons: bool = Field(True, strict=True)
    """Whether each item comes with its reason."""
    strict: bool = Field(False, strict=True)
    """Refuse unknown items and users; else items are passed over, and users get popular items."""


class UserQuery(Body):
    """The user to recommend for, by one of the first three at least, and the context."""

    user_id: Id | None = None
    """A user. An unknown one gets popular items where there is no history and no words."""
    history: list[Id] = Field(default=[], max_length=MOST)
    """Items just browsed, oldest first."""
    text: Words | None = None
    """What is wanted, in words."""
    attributes: dict[str, Any] | None = None
    """Declared columns of the user, in place of those that are known."""
    context: dict[str, Any] | None = None
    """Declared columns of the log for this request, such as its device. What derives from the time
    is filled in; null says that it is not known."""
    time: RequestTime | None = None
    """When they are for, by default now: milliseconds since 1970-01-01 UTC, or a text with an
    offset, such as ``2025-01-31T18:30:00+01:00``."""


class RecommendRequest(_Options, UserQuery):
    """A request for one user."""

    model_config = _example(
        history=["G0885", "G0888"], text="dark fantasy with hard bosses", k=10,
        filters={"max_price": 40, "max_per_franchise": 2},
    )  # fmt: skip


class BatchRequest(_Options):
    """Requests for many users, answered alike."""

    model_config = _example(requests=[{"user_id": "U0047"}, {"history": ["G0885"]}], k=10)

    requests: list[UserQuery] = Field(min_length=1, max_length=MOST)


Stage: TypeAlias = Literal["rerank"]


class UserAnswer(BaseModel):
    """Recommended items, best first."""

    recommendation_id: str
    """Names this answer, for the events that follow it."""
    user: Literal["known", "new"]
    """Whether the bundle knows the user: ``new`` is a cold start."""
    source: Literal["model", "popular"]
    """``popular`` where nothing is known of the user that the model could read: the items with
    the most events in the training log, whose number is their score."""
    unknown_items: list[str]
    """Items of the request's history that are not known: it was answered without them."""
    items: list[Recommendation]


class RecommendAnswer(UserAnswer):
    """Recommended items, best first, and the model."""

    model_version: str
    """Of the bundle that answered."""
    skipped: list[Stage] = []
    """Stages that were asked for and left out, since the request had waited too long."""
    teams: str = ""
    """Where two bundles are interleaved, for each place the one that its item came from: ``a``,
    the bundle in service, ``b``, the other one, or ``-``."""


class BatchAnswer(BaseModel):
    """One answer per request, in their order."""

    model_version: str
    answers: list[UserAnswer]


class ItemsAnswer(BaseModel):
    """Items, best first."""

    model_version: str
    items: list[Recommendation]


class _Described(Description):
    """A description that `prepare` reads as it is."""

    price: Annotated[float | None, NUMBER] = Field(None, ge=0, le=1e9)
    """In the catalogue's currency."""
    average_rating: Annotated[float | None, NUMBER] = Field(None, ge=0, le=1e3)
    """On the scale of the training log."""
    rating_count: Annotated[int | None, NUMBER] = Field(None, ge=0, le=2**53)
    released: Annotated[float | None, NUMBER] = None
    """When it came out, in the catalogue's unit (see docs/data.md); left out, it counts as newer
    than all that the catalogue has."""

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
    """An item as its owner describes it now; its id is in the address."""

    model_config = _open_example(title="Dragon Saga 4", price=29.99, category="Role-Playing")


class ItemAnswer(BaseModel):
    """An item as it is served now."""

    item_id: str
    title: str | None
    category: str | None
    price: float | None
    available: bool
    source: Literal["bundle", "added"]
    """Where its vector comes from: the training, or the item tower."""
    columns: dict[str, Any]
    """Declared columns that can be filtered by."""


class Written(BaseModel):
    """That something was written. It is on disk."""

    item_id: str
    created: bool
    """False where the very same was there already."""


class UserAttributes(Body):
    """What is known of a user: declared columns by name."""

    model_config = _example(attributes={"age": 34, "country": "DE"})

    attributes: dict[str, Any]


class UserWritten(BaseModel):
    """What is known of a user now. It is on disk."""

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
    """Which items can be had."""

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
    """The availability of an item from now on."""

    item_id: str
    available: bool
    item_known: bool
    """False where the item is not served: it counts when such an item is added."""


class StockAnswer(BaseModel):
    """The availability of each item. All are on disk."""

    items: list[StockOutcome]


class NewEvent(Event):
    """Something that a user did with an item, as `prepare` takes it."""

    user_id: WrittenId
    item_id: WrittenId
    rating: Annotated[float | None, NUMBER] = Field(None, ge=-1e6, le=1e6)
    """What a ``rating`` event rates, on the scale of the training log."""
    quantity: Annotated[float | None, NUMBER] = Field(None, ge=-1e9, le=1e9)
    """How many; negative for a return."""
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
    """Things that users did."""

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
    """What became of an event."""

    event_id: str
    recorded: bool
    """False where it was recorded before: it counts once."""
    item_known: bool
    """False where the item is not served: the event is kept for the next training alone."""


class EventsAnswer(BaseModel):
    """What became of each event. All are on disk."""

    events: list[EventOutcome]


class SplitRequest(Body):
    """Which other bundle answers, and for how many."""

    model_config = _example(bundle="bundle-2025-02", share=0.5)

    bundle: str | None = None
    """Name of a folder beside the configured one; None ends the split."""
    share: float = Field(0.5, gt=0, lt=1, strict=True)
    """Of the users, anew every day, that it answers."""


class InterleaveRequest(Body):
    """Which other bundle answers together with the one in service, and for how many."""

    model_config = _example(bundle="bundle-2025-02")

    bundle: str | None = None
    """Name of a folder beside the configured one; None ends it."""
    share: float = Field(1.0, gt=0, le=1, strict=True)
    """Of the users, anew every day, whose answers have items of both."""


class ShadowRequest(Body):
    """Which other bundle answers unseen, and for how many."""

    model_config = _example(bundle="bundle-2025-02")

    bundle: str | None = None
    """Name of a folder beside the configured one; None ends it."""
    share: float = Field(1.0, gt=0, le=1, strict=True)
    """Of the users, anew every day, whom it answers too."""


class SplitAnswer(BaseModel):
    """The split, the interleaving or the shadow from now on."""

    bundle: str | None
    share: float
    revision: int
    """Counts all of them."""
    ended: Mode | None
    """What ended with this call: there is one comparison at a time."""


class LiveReport(BaseModel):
    """What was shown, and what came of it."""

    since: int
    """Milliseconds since 1970-01-01 UTC."""
    models: list[dict[str, Any]]
    """For each model version and arm: ``answers``, ``events`` that name one, their rates, and
    the shares of new users and items."""
    positions: list[dict[str, Any]]
    """Events by kind and place in the answer."""
    split: dict[str, Any] | None
    """Units, successes and rate of both arms, and the difference with its confidence sequence."""
    interleaving: dict[str, Any] | None
    """Units that each bundle won, and the preference with its confidence sequence."""
    shadow: dict[str, Any] | None
    """Requests that a shadow was to answer too, and how its lists differ from those shown."""
    psi: float
    """Drift of the items of events, of the process that answered, see `PopularityDrift`."""


class ForgottenAnswer(BaseModel):
    """That a user was forgotten."""

    rows_deleted: int
    """Events and attributes that the database held."""
    unconfirmed: int
    """Processes that have not confirmed it yet: 0 where no answer uses any of it any more. The
    others obey as soon as they reach the database."""


class BundledHistory(BaseModel):
    """What the bundle in service holds of a user."""

    model_version: str
    history: list[dict[str, Any]]
    """Item, rating and time of each interaction, oldest first; null where the log had none."""


class PersonalData(BaseModel):
    """All that is kept of a user: the rows of each table, and the bundle's history."""

    model_config = ConfigDict(extra="allow")

    user_id: str
    events: list[dict[str, Any]]
    bundle: BundledHistory


class ReloadRequest(Body):
    """Which bundle to serve."""

    model_config = _example(bundle="bundle-2025-01")

    bundle: str | None = None
    """Name of a folder beside the configured one; None reads the configured one again."""


class HourOfEvents(BaseModel):
    """Events of one kind in one hour."""

    hour: str
    """Its beginning, UTC."""
    kind: str
    events: int


class ReloadNote(BaseModel):
    """A reload of the bundle."""

    at: str
    """When, UTC."""
    outcome: Literal["swapped", "followed", "refused"]
    """``followed`` where another process reloaded and this one took it over."""
    model_version: str
    """What was in service afterwards."""


class Activity(BaseModel):
    """What happened lately."""

    events: list[HourOfEvents]
    reloads: list[ReloadNote]
    """Of the process that answers, newest first."""


class ModelAnswer(BaseModel):
    """What is served."""

    model_version: str
    model: str
    dataset: str
    created: str
    embedding_dim: int
    metrics: dict[str, float]
    """What was measured before the bundle was made."""
    users: int
    items: int
    """Items listed, added ones included."""
    items_added: int
    items_outside_index: int
    index: dict[str, Any]
    reranks: bool
    """Whether requests are re-ranked by default."""
    takes_new_items: bool
    context: dict[str, str]
    """Columns of the context that the model reads, and their kinds."""


class Health(BaseModel):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether requests can be answered, and whether writes can."""

    status: Literal["ready", "starting"]
    state: Literal["up", "stale", "down"]
    """How the database is. While it is ``down``, or refused the last write, writes are refused,
    reads are not. While it is ``stale`` it keeps a read waiting: answers may lack the newest writes
    of other processes."""
    model_version: str | None
