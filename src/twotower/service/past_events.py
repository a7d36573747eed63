"""In-memory user events since the bundle was made, oldest first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from sys import intern
from typing import Self

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.inference.requests import Past
from twotower.service.state import Event


class PastEvents:
    """The newest events of each user. May be read while events are added.

    Events already in the bundle's histories (same user, item and time), as after retraining on
    this database, are skipped.

    At most ``most`` events are kept per user, and ``most_of_all`` in total. Beyond that, users are
    evicted in the order in which their latest events arrived; their events stay in the database
    and count again after the next training.
    """

    def __init__(self, contents: BundleContents, most: int, most_of_all: int) -> None:
        self._contents = contents
        self._most = most
        self._most_of_all = most_of_all
        self._count = 0
        self._by_user: OrderedDict[str, tuple[Past, ...]] = OrderedDict()
        self._changing = threading.Lock()  # readers need no lock: entries are replaced whole

    def __len__(self) -> int:
        return self._count

    def of(self, user_id: str) -> Sequence[Past]:
        """A user's events, oldest first."""
        return self._by_user.get(user_id, ())

    def emptied(self) -> Self:
        """The same without events."""
        return type(self)(self._contents, self._most, self._most_of_all)

    def add(self, events: Sequence[Event]) -> None:
        """Add events; each user's events are kept in order of time."""
        grouped: dict[str, list[Past]] = {}
        for event in events:
            item_id, kind = self._shared(event.item_id), intern(event.kind)
            past = Past(item_id, kind, event.rating, event.occurred_at, event.quantity)
            if not self._bundled(event.user_id, past):
                # Popped and reinserted to keep users in order of their newest events.
                grouped.setdefault(event.user_id, grouped.pop(event.user_id, [])).append(past)
        with self._changing:
            for user_id, new in grouped.items():
                before = self.of(user_id)
                known = tuple(sorted([*before, *new], key=lambda past: past.time)[-self._most :])
                self._by_user[user_id] = known
                self._by_user.move_to_end(user_id)
                self._count += len(known) - len(before)
            while self._count > self._most_of_all:
                _, forgotten = self._by_user.popitem(last=False)
                self._count -= len(forgotten)

    def forget(self, user_id: str, until: int) -> None:
        """Drop the events of a user up to a moment, in milliseconds since 1970-01-01 UTC."""
        with self._changing:
            before = self.of(user_id)
            known = tuple(past for past in before if past.time > until)
            if len(known) == len(before):
                return
            if known:
                self._by_user[user_id] = known
            else:
                del self._by_user[user_id]
            self._count -= len(before) - len(known)

    def forget_all(self, until: Callable[[str], int | None]) -> None:
        """Drop the events of every user up to the moment that ``until`` gives, if any."""
        for user_id in list(self._by_user):
            moment = until(user_id)
            if moment is not None:
                self.forget(user_id, moment)

    def _shared(self, item_id: str) -> str:
        """The catalogue's string of an id, so that a million events share one per item."""
        row = self._contents.items.find(item_id)
        return item_id if row is None else self._contents.items.ids[row]

    def _bundled(self, user_id: str, past: Past) -> bool:
        contents = self._contents
        log = contents.histories
        known = user_id in contents.users and past.item_id in contents.items
        if not known or log.timestamps is None:
            return False
        user = contents.users.index(user_id)
        row = slice(int(log.indptr[user]), int(log.indptr[user + 1]))
        same = log.items[row] == contents.items.index(past.item_id)
        return bool(np.any(same & (log.timestamps[row] == past.time)))
