"""State database of a service: items, availability, events and the bundle in service."""

from twotower.service.state.errors import (
    StateConflictError,
    StateReplacedError,
    StateUnavailableError,
)
from twotower.service.state.forgotten import Forgetting, Forgotten, Tombstone
from twotower.service.state.records import (
    BundleInService,
    Changes,
    Cursor,
    Event,
    EventKind,
    ItemFields,
    StoredItem,
)
from twotower.service.state.store import StateStore

__all__ = [
    "BundleInService",
    "Changes",
    "Cursor",
    "Event",
    "EventKind",
    "Forgetting",
    "Forgotten",
    "ItemFields",
    "StateConflictError",
    "StateReplacedError",
    "StateStore",
    "StateUnavailableError",
    "StoredItem",
    "Tombstone",
]
