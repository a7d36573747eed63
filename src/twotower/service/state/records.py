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
"""A kind of event; which ones there are is the bundle's to say."""


class Description(Body):
    """An item as its owner describes it."""

    title: Annotated[Text, StringConstraints(min_length=1, max_length=500)]
    description: Annotated[Text, StringConstraints(max_length=20_000)] | None = None
    features: Annotated[Text, StringConstraints(max_length=20_000)] | None = None
    """Bullet points, in one text."""
    price: float | None = Field(None, ge=0, le=1e9)
    """In the catalogue's currency."""
    category: Annotated[Text, StringConstraints(min_length=1, max_length=200)] | None = None
    store: Annotated[Text, StringConstraints(max_length=200)] | None = None
    """Who makes or sells it."""
    average_rating: float | None = Field(None, ge=0, le=1e3)
    rating_count: int | None = Field(None, ge=0, le=2**53)
    image: Annotated[Text, StringConstraints(max_length=2000)] | None = None
    """URL of the main picture."""
    released: float | None = None
    """When it came out, in the catalogue's unit (see docs/data.md); left out, it counts as newer
    than all that the catalogue has."""


class ItemFields(Description):
    """A description, and the id of the item that it is of."""

    item_id: Id
    columns: dict[str, Any] | None = None
    """Declared columns, checked against the bundle's schema."""


class Event(Config):
    """Something that a user did with an item."""

    event_id: Id
    """Chosen by the sender; sent twice, it counts once."""
    user_id: Id
    item_id: Id
    kind: EventKind
    rating: float | None = Field(None, ge=-1e6, le=1e6)
    """What a ``rating`` event rates, on the scale of the training log."""
    occurred_at: int = Field(ge=0, le=LARGEST_TIME)
    """Milliseconds since 1970-01-01 UTC."""
    quantity: float | None = Field(None, ge=-1e9, le=1e9)
    """How many; negative for a return, which takes earlier events with the item away."""
    recommendation_id: Id | None = None
    """Of the answer that led to it, if one did."""
    position: int | None = Field(None, ge=1, le=100_000)
    """Place of the item in that answer, from 1 on."""
    context: dict[str, Any] | None = None
    """Declared columns of the log at that moment, such as the device, for the next training."""


def event_of(row: Any) -> Event:
    """Of a row of the events table, unchecked."""
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
    """float32 bytes of the unit vector of the item's text, so that a restart need not encode it."""
    model_version: str | None = None
    """Of the bundle whose ``encoding`` it is, or None."""
    encoding: bytes | None = None
    """What that bundle knows of the item (`inference.item_encoder.EncodedItems`), so that neither a
    restart nor another process need find it out again."""


@dataclass(frozen=True, slots=True)
class BundleInService:
    """The bundle that the last reload named."""

    name: str | None
    """Folder beside the configured one; None for that itself."""
    revision: int
    """Counts the reloads over one database."""


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
        """The cursor behind the rows that ``row`` numbers; None where there are others between."""
        found = Cursor(*(new or own for new, own in zip(row, self, strict=True)))
        steps = [new - own for new, own in zip(found, self, strict=True)]
        return found if sorted(steps) == [0, 0, 0, 0, 1] else None


@dataclass(frozen=True, slots=True)
class Changes:
    """What was written after a cursor, oldest first, and where to read on."""

    items: Sequence[StoredItem]
    """Added, changed or deleted."""
    availability: Sequence[tuple[str, bool]]
    """Item id and whether it can be had."""
    events: Sequence[Event]
    cursor: Cursor
    """The next read's start."""
    users: Sequence[tuple[str, dict[str, Any]]] = ()
    """User id and declared columns of that user."""
    forgotten: Sequence[Tombstone] = ()

    def __bool__(self) -> bool:
        return any((self.items, self.availability, self.events, self.users, self.forgotten))
