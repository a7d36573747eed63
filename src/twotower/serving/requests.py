"""From external ids to queries: who asks, and for which history."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from twotower.data import Histories, IdMap, Queries
from twotower.errors import InputError
from twotower.types import Array, IndexArray


@dataclass(frozen=True, slots=True)
class Request:
    """One request: a user, the items just browsed, or both.

    Attributes
    ----------
    user_id
        External id, or None. An unknown id with a history is somebody new.
    history
        External item ids, oldest first, repeats allowed. They follow what is known of the user.
    """

    user_id: str | None = None
    history: Sequence[str] = field(default=())


class RequestReader:
    """Turns requests into queries.

    Items named in a request have neither rating nor time. Where the log has them, the rating is
    the user's mean (everybody's, for somebody new) and the time is the newest in the log, so
    that the user counts as active now.

    Parameters
    ----------
    users, items
        Id maps.
    stored
        One row per user: what is known of them.
    """

    def __init__(self, users: IdMap, items: IdMap, stored: Histories) -> None:
        self._users = users
        self._items = items
        self._stored = stored
        ratings = stored.ratings
        self._mean_rating = 0.0 if ratings is None or not len(ratings) else float(ratings.mean())
        self._newest = 0 if stored.timestamps is None else int(stored.timestamps.max(initial=0))

    def queries(self, requests: Sequence[Request]) -> Queries:
        """One query per request.

        Raises
        ------
        InputError
            At an unknown user without a history, an unknown item, or neither user nor history.
        """
        users = np.asarray([self._user(request) for request in requests], dtype=np.int32)
        given = [self._items.indices(request.history) for request in requests]
        return Queries(users, self._extend(users, given))

    def _user(self, request: Request) -> int:
        if isinstance(request.history, str):
            raise InputError(
                f"history must be a list of item ids, got the text {request.history!r}",
                f"pass [{request.history!r}]",
            )
        user_id = request.user_id
        if user_id is not None and user_id in self._users:
            return self._users.index(user_id)
        if not request.history:
            if user_id is None:
                raise InputError(
                    "a request needs a user id or a history, got neither",
                    "pass history=[item ids] for somebody new",
                )
            raise InputError(
                f"unknown user {user_id!r}",
                "pass history=[item ids] to recommend for somebody new",
            )
        return -1

    def _extend(self, users: IndexArray, given: Sequence[IndexArray]) -> Histories:
        """Stored histories of ``users``, none for -1, each followed by its ``given`` items."""
        known = users >= 0
        stored = self._stored.select(users[known])
        lengths = np.zeros(len(users), dtype=np.int64)
        lengths[known] = stored.lengths
        added = np.asarray([len(items) for items in given], dtype=np.int64)
        ends = np.cumsum(lengths)
        places = np.repeat(ends, added)  # where in the stored events each given item goes
        indptr = np.concatenate([[0], ends + np.cumsum(added)])

        items = np.insert(stored.items, places, np.concatenate([*given, stored.items[:0]]))
        ratings: Array | None = None
        if stored.ratings is not None:
            rows = np.repeat(np.arange(len(users)), lengths)
            sums = np.bincount(rows, weights=stored.ratings, minlength=len(users))
            means = np.where(lengths > 0, sums / np.maximum(lengths, 1), self._mean_rating)
            ratings = np.insert(stored.ratings, places, np.repeat(means, added))
        timestamps: Array | None = None
        if stored.timestamps is not None:
            timestamps = np.insert(stored.timestamps, places, self._newest)
        return Histories(indptr, items, ratings, timestamps)
