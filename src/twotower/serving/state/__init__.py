"""What changes while a bundle is served: items added, availability, and events."""

from twotower.serving.state.errors import StateConflictError, StateUnavailableError
from twotower.serving.state.records import (
    Changes,
    Cursor,
    Event,
    EventKind,
    ItemFields,
    StoredItem,
)
from twotower.serving.state.store import StateStore

__all__ = [
    "Changes",
    "Cursor",
    "Event",
    "EventKind",
    "ItemFields",
    "StateConflictError",
    "StateStore",
    "StateUnavailableError",
    "StoredItem",
]
