"""What users did since the bundle was made, in memory, newest last."""

from collections.abc import Sequence

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.inference.requests import Past
from twotower.service.state import Event


class PastEvents:
    """The newest events of each user. May be read while events are added.

    Events that the bundle's histories hold already, as after a retraining on this database, are
    passed over: the same user, item and time.

    Parameters
    ----------
    contents
        The bundle's contents.
    most
        Events kept of one user.
    """

    def __init__(self, contents: BundleContents, most: int) -> None:
        self._contents = contents
        self._most = most
        self._by_user: dict[str, tuple[Past, ...]] = {}

    def of(self, user_id: str) -> Sequence[Past]:
        """A user's events, oldest first."""
        return self._by_user.get(user_id, ())

    def add(self, events: Sequence[Event]) -> None:
        """Add events; those of one user are kept in the order of their times."""
        grouped: dict[str, list[Past]] = {}
        for one in events:
            past = Past(one.item_id, one.kind, one.rating, one.occurred_at)
            if not self._bundled(one.user_id, past):
                grouped.setdefault(one.user_id, []).append(past)
        for user_id, new in grouped.items():
            known = sorted([*self.of(user_id), *new], key=lambda past: past.time)
            self._by_user[user_id] = tuple(known[-self._most :])

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
