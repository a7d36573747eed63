"""Records of the state store."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import gt
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import Field, StringConstraints

from twotower.config import Body, Config
from twotower.data.time_zones import LARGEST_TIME
from twotower.service.state.forgotten import Tombstone

Id: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
"""An external id: no control characters."""
Text: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""PostgreSQL stores no NUL."""
EventKind: TypeAlias = Annotated[
    str, StringConstraints(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f]+$")
]
"""A kind of event; the bundle defines which kinds exist."""


class Description(Body):
    """Description of an item."""

    title: Annotated[Text, StringConstraints(min_length=1, max_length=500)]
    description: Annotated[Text, StringConstraints(max_length=20_000)] | None = None
    features: Annotated[Text, StringConstraints(max_length=20_000)] | None = None
    """Bullet points, in one text."""
    price: float | None = Field(None, ge=0, le=1e9)
    """In the catalogue's currency."""
    category: Annotated[Text, StringConstraints(min_length=1, max_length=200)] | None = None
    store: Annotated[Text, StringConstraints(max_length=200)] | None = None
    """Maker or seller."""
    average_rating: float | None = Field(None, ge=0, le=1e3)
    rating_count: int | None = Field(None, ge=0, le=2**53)
    image: Annotated[Text, StringConstraints(max_length=2000)] | None = None
    """URL of the main picture."""
    released: float | None = None
    """Release time, in the catalogue's unit (see docs/data.md); if left out, the item counts as
    newer than the whole catalogue."""


class ItemFields(Description):
    """Description of an item, with its id."""

    item_id: Id
    columns: dict[str, Any] | None = None
    """Declared columns, checked against the bundle's schema."""


class Event(Config):
    """An interaction of a user with an item."""

    event_id: Id
    """Chosen by the sender; an event sent twice counts once."""
    user_id: Id
    item_id: Id
    kind: EventKind
    rating: float | None = Field(None, ge=-1e6, le=1e6)
    """Rating of a ``rating`` event, on the scale of the training log."""
    occurred_at: int = Field(ge=0, le=LARGEST_TIME)
    """Milliseconds since 1970-01-01 UTC."""
    quantity: float | None = Field(None, ge=-1e9, le=1e9)
    """Number of items; negative for a return, which cancels earlier events with the item."""
    recommendation_id: Id | None = None
    """Id of the answer that led to the event, if any."""
    position: int | None = Field(None, ge=1, le=100_000)
    """Position of the item in that answer, from 1 on."""
    context: dict[str, Any] | None = None
    """Declared columns of the log for this event, such as the device, for the next training."""


def event_of(row: Any) -> Event:
    """Event from a row of the events table, unchecked."""
    return Event.model_construct(
        event_id=row.event_id,
        user_id=row.user_id,
        item_id=row.item_id,
        kind=row.kind,
        rating=row.rating,
        occurred_at=row.timestamp,
        quantity=row.quantity,
        recommendation_id=row.recommendation_id,
        position=row.position,
        context=row.context,
    )


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One row of the items table."""

    fields: ItemFields
    """The description; of a deleted item the last one."""
    deleted: bool = False
    text_encoder: str | None = None
    """Name of the encoder of ``text_vector``, or None."""
    text_vector: bytes | None = None
    """float32 bytes of the unit vector of the item's text; spares encoding it on a restart."""
    model_version: str | None = None
    """Version of the bundle that made ``encoding``, or None."""
    encoding: bytes | None = None
    """The item as encoded by that bundle (`inference.item_encoder.EncodedItems`), so that neither
    a restart nor another process need encode it again."""


@dataclass(frozen=True, slots=True)
class BundleInService:
    """The bundle that the last reload named."""

    name: str | None
    """Folder beside the configured one; None for the configured one."""
    revision: int
    """Number of the reload in this database."""


class Cursor(NamedTuple):
    """How far a reader has read each table."""

    items: int = 0
    availability: int = 0
    events: int = 0
    users: int = 0
    forgotten: int = 0

    def is_ahead_of(self, other: "Cursor") -> bool:
        """Whether it has read more of any table than the other one."""
        return any(map(gt, self, other))

    def after(self, row: "Cursor") -> "Cursor | None":
        """The cursor after the row that ``row`` numbers; None if it does not follow directly."""
        found = Cursor(*(new or own for new, own in zip(row, self, strict=True)))
        steps = [new - own for new, own in zip(found, self, strict=True)]
        return found if sorted(steps) == [0, 0, 0, 0, 1] else None


@dataclass(frozen=True, slots=True)
class Changes:
    """Writes after a cursor, oldest first, and the cursor to continue from."""

    items: Sequence[StoredItem]
    """Added, changed or deleted."""
    availability: Sequence[tuple[str, bool]]
    """Item id and whether it is available."""
    events: Sequence[Event]
    cursor: Cursor
    """The next read's start."""
    users: Sequence[tuple[str, dict[str, Any]]] = ()
    """User id and declared columns of that user."""
    forgotten: Sequence[Tombstone] = ()

    def __bool__(self) -> bool:
        return any((self.items, self.availability, self.events, self.users, self.forgotten))
