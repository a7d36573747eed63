"""Request reading: external ids of users and items to the queries that a tower reads."""

import time
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np

from twotower.data import Histories, IdMap, Queries
from twotower.errors import InputError
from twotower.types import Array, IndexArray, OffsetArray


@dataclass(frozen=True, slots=True)
class Past:
    """Something that a user did after the bundle was made.

    Attributes
    ----------
    item_id
        External id. An item that is not known any more is passed over.
    kind
        ``view``, ``cart``, ``buy`` or ``rating``.
    rating
        The rating given, or None.
    time
        Milliseconds since 1970-01-01 UTC.
    """

    item_id: str
    kind: str
    rating: float | None
    time: int


@dataclass(frozen=True, slots=True)
class Request:
    """One request: a user, the items just browsed, words, or any of these together.

    Attributes
    ----------
    user_id
        External id, or None. An unknown id with a history is a cold-start user.
    history
        External item ids, oldest first, repeats allowed. They follow what is known of the user.
    text
        What is wanted, in words, or None.
    past
        What the user did since the bundle was made, oldest first; before ``history``.
    attributes
        Declared columns of the user, checked; None for those that the bundle knows.
    time
        When the request is made, milliseconds since 1970-01-01 UTC; None for now.
    """

    user_id: str | None = None
    history: Sequence[str] = field(default=())
    text: str | None = None
    past: Sequence[Past] = field(default=())
    attributes: Mapping[str, Any] | None = None
    time: int | None = None


class Items(Protocol):
    """Rows of items by external id: `twotower.data.IdMap` is one."""

    def __contains__(self, external: object) -> bool: ...

    def indices(self, external: Collection[str], /) -> IndexArray:
        """Rows of many ids; `InputError` at the first unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """Queries, and where the events of their histories come from.

    Attributes
    ----------
    queries
        What the tower reads: stored events, past events, the request's history, and the items
        that its words describe.
    stored
        How many events of each history are the bundle's.
    past
        For each query, the kinds of the events that follow those.
    described
        ``(queries,)`` how many items at the end of each history only the words describe: the
        user has not seen those.
    """

    queries: Queries
    stored: Sequence[int]
    past: Sequence[Sequence[str]]
    described: Sequence[int]

    def seen(self, row: int) -> IndexArray:
        """Items of one history that the user has seen."""
        history = self.queries.histories.row(row)
        return history[: len(history) - self.described[row]]

    def kinds(self, row: int) -> list[str]:
        """How each item of one history got there."""
        stored, described = self.stored[row], self.described[row]
        past = self.past[row]
        given = len(self.queries.histories.row(row)) - stored - len(past) - described
        return ["stored"] * stored + [*past] + ["given"] * given + ["described"] * described


class RequestReader:
    """Turns requests into queries.

    Items named in a request have neither rating nor time. Where the log has them, the rating is
    the user's mean (that of all users, for a cold-start user) and the time is the newest known, so
    that the user counts as active now: that of the request, where the tower reads it.

    Parameters
    ----------
    users, items
        Id maps.
    stored
        One row per user: what is known of them.
    reads_attributes
        Whether a user's attributes are enough to recommend by.
    reads_now
        Whether the time of a request makes a difference.
    """

    def __init__(
        self,
        users: IdMap,
        items: Items,
        stored: Histories,
        *,
        reads_attributes: bool = False,
        reads_now: bool = False,
    ) -> None:
        self._reads_attributes = reads_attributes
        self._reads_now = reads_now
        self._users = users
        self._items = items
        self._stored = stored
        self._mean_rating = _mean(stored.ratings, 0.0)
        self._newest = 0 if stored.timestamps is None else int(stored.timestamps.max(initial=0))

    def over(self, items: Items) -> Self:
        """The same reader over more items."""
        other = copy(self)
        other._items = items
        return other

    def queries(self, requests: Sequence[Request]) -> Queries:
        """One query per request; see `read`."""
        return self.read(requests).queries

    def read(self, requests: Sequence[Request], described: Sequence[IndexArray] = ()) -> Reading:
        """One query per request.

        Parameters
        ----------
        described
            Rows of the items that each request's words describe; empty for no words at all.

        Raises
        ------
        InputError
            At an unknown user without a history or known events, an unknown item, or where a
            request has neither user, history nor words.
        """
        past = [self._known_past(request) for request in requests]
        users = [self._user(*both) for both in zip(requests, past, strict=True)]
        given = [
            self._items.indices([event.item_id for event in before] + list(request.history))
            for request, before in zip(requests, past, strict=True)
        ]
        if described:
            given = [np.concatenate(both) for both in zip(given, described, strict=True)]
        counts = [len(rows) for rows in described] or [0] * len(requests)
        stored = [self._stored_rows(user) for user in users]
        times = self._times_of(requests)
        histories = self._extend(stored, given, past, times)
        kinds = [[event.kind for event in before] for before in past]
        known = [row.stop - row.start for row in stored]
        queries = Queries(np.array(users, dtype=np.int32), histories, times)
        return Reading(queries, known, kinds, counts)

    def _times_of(self, requests: Sequence[Request]) -> OffsetArray | None:
        """``(requests,)`` when each is made; None where that makes no difference."""
        if not self._reads_now:
            return None
        now = time.time_ns() // 1_000_000
        made = [now if request.time is None else request.time for request in requests]
        return np.array(made, dtype=np.int64)

    def without_unknown(self, request: Request) -> tuple[Request, list[str]]:
        """The request without the items of its history that are not known, and those."""
        unknown = [item for item in dict.fromkeys(request.history) if item not in self._items]
        if not unknown:
            return request, unknown
        known = [item for item in request.history if item in self._items]
        return replace(request, history=known), unknown

    def is_readable(self, request: Request) -> bool:
        """Whether there is an event, a known item, a word or an attribute to recommend by."""
        if request.text or request.history or self._length(request):
            return True
        known = request.attributes is not None or request.user_id in self._users
        return self._reads_attributes and known

    def lengths(self, requests: Sequence[Request]) -> list[int]:
        """Items of each history as it is going to be read, but for what words describe."""
        return [self._length(request) + len(request.history) for request in requests]

    def _length(self, request: Request) -> int:
        """Events of the user that are stored, or came since."""
        user = None if request.user_id is None else self._users.find(request.user_id)
        stored = self._stored_rows(-1 if user is None else user)
        return int(stored.stop - stored.start) + len(self._known_past(request))

    def _known_past(self, request: Request) -> list[Past]:
        return [event for event in request.past if event.item_id in self._items]

    def _stored_rows(self, user: int) -> slice:
        """Where the events of a user index are stored; nowhere for -1."""
        return slice(*self._stored.indptr[user : user + 2].tolist()) if user >= 0 else slice(0, 0)

    def _user(self, request: Request, past: Sequence[Past]) -> int:
        if isinstance(request.history, str):
            raise InputError(
                f"history must be a list of item ids, got the text {request.history!r}",
                f"pass [{request.history!r}]",
            )
        user_id = request.user_id
        if user_id is not None and user_id in self._users:
            return self._users.index(user_id)
        described = self._reads_attributes and request.attributes is not None
        if not (len(request.history) or request.text or len(past) or described):
            if user_id is None:
                raise InputError(
                    "a request needs a user id or a history, got neither",
                    "pass history=[item ids] for a cold-start user",
                )
            raise InputError(
                f"unknown user {user_id!r}",
                "pass history=[item ids] to recommend for a cold-start user",
            )
        return -1

    def _extend(
        self,
        stored: Sequence[slice],
        given: Sequence[IndexArray],
        past: Sequence[Sequence[Past]],
        now: OffsetArray | None,
    ) -> Histories:
        """``stored`` histories, each followed by its ``given`` items.

        The first of the given items are the ``past`` events, which have times and may have
        ratings of their own.
        """
        log = self._stored
        items, ratings, timestamps = [], [], []
        ends = [0]
        newest = [self._newest] * len(given) if now is None else now.tolist()
        for row, rows, before, last in zip(stored, given, past, newest, strict=True):
            ends.append(ends[-1] + row.stop - row.start + len(rows))
            items += [log.items[row], rows]
            if log.ratings is not None:
                ratings += [log.ratings[row], self._ratings(log.ratings[row], len(rows), before)]
            if log.timestamps is not None:
                timestamps += [log.timestamps[row], _times(len(rows), before, last)]
        return Histories(
            np.array(ends, dtype=np.int64),
            _joined(items, log.items),
            None if log.ratings is None else _joined(ratings, log.ratings),
            None if log.timestamps is None else _joined(timestamps, log.timestamps),
        )

    def _ratings(self, stored: Array, count: int, past: Sequence[Past]) -> Array:
        """Ratings of ``count`` items that follow the ``stored`` ones, ``past`` events first."""
        mean = _mean(stored, self._mean_rating)
        ratings = np.full(count, mean)
        for place, event in enumerate(past):
            if event.rating is not None:
                ratings[place] = event.rating
        return ratings


def _times(count: int, past: Sequence[Past], newest: int) -> Array:
    """Times of ``count`` items, ``past`` events first; the others are as new as can be."""
    times = np.full(count, max(newest, past[-1].time) if past else newest, dtype=np.int64)
    times[: len(past)] = [event.time for event in past]
    return times


def _mean(ratings: Array | None, default: float) -> float:
    """Mean of the ratings that are known, or the default where none is."""
    if ratings is None or not len(ratings):
        return default
    known = ratings[np.isfinite(ratings)]
    return float(known.mean()) if len(known) else default


def _joined(parts: Sequence[Array], like: Array) -> Array:
    filled = [part for part in parts if len(part)]
    if len(filled) == 1 and filled[0].dtype == like.dtype:
        return filled[0]
    return np.concatenate([like[:0], *filled], dtype=like.dtype, casting="same_kind")
