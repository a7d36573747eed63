"""What changes while a bundle is served: items added, availability, and events."""

from twotower.service.state.errors import (
    StateConflictError,
    StateReplacedError,
    StateUnavailableError,
)
from twotower.service.state.records import Changes, Cursor, Event, EventKind, ItemFields, StoredItem
from twotower.service.state.store import StateStore

__all__ = [
    "Changes",
    "Cursor",
    "Event",
    "EventKind",
    "ItemFields",
    "StateConflictError",
    "StateReplacedError",
    "StateStore",
    "StateUnavailableError",
    "StoredItem",
]
