"""Request reader: turns external user and item ids into queries for the user tower."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isfinite
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from twotower.data import Histories, IdMap, Queries
from twotower.data.events import EventRules, event_weight
from twotower.data.schema import OWN, Column
from twotower.data.time_zones import (
    LARGEST_TIME,
    checked_milliseconds,
    offset_name,
    time_value_at,
)
from twotower.errors import InputError
from twotower.types import Array, FloatArray, IndexArray, OffsetArray

if TYPE_CHECKING:
    from twotower.inference.item_table import ItemTable


@dataclass(frozen=True, slots=True)
class Past:
    """An event of a user after the bundle was made."""

    item_id: str
    """External id. An item that is no longer known is ignored."""
    kind: str
    """One of `EventRules.kinds`; without rules in the bundle, ``view``, ``cart``, ``buy`` or
    ``rating``."""
    rating: float | None
    """The rating given, or None."""
    time: int
    """Milliseconds since 1970-01-01 UTC."""
    quantity: float | None = None
    """Number of items, negative for a return, or None."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: a user, the items just browsed, a text, or any combination of these."""

    user_id: str | None = None
    """External id, or None. An unknown id with a history is a cold-start user."""
    history: Sequence[str] = field(default=())
    """External item ids, oldest first, repeats allowed. They follow the user's known events."""
    text: str | None = None
    """A description of what the user wants, or None."""
    past: Sequence[Past] = field(default=())
    """The user's events since the bundle was made, oldest first; they precede ``history``."""
    attributes: Mapping[str, Any] | None = None
    """Declared columns of the user, checked; None to use the bundle's values."""
    time: int | datetime | None = None
    """Time of the request, milliseconds since 1970-01-01 UTC or a datetime with an offset; None
    for now."""
    context: Mapping[str, Any] | None = None
    """Declared columns of the log for this request, such as its device, checked; None for none.
    Columns derived from the time are filled in unless given here, even as null."""


def checked_time(value: object) -> int | datetime:
    """`Request.time` from a caller's value, which may also be ISO 8601 text with an offset.

    Raises
    ------
    InputError
        At a time without an offset, in seconds, or after the year 9999.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        if not 0 <= int(value) <= LARGEST_TIME:
            raise InputError(f"{value} is out of range", "send milliseconds since 1970-01-01 UTC")
        return checked_milliseconds(int(value))
    moment = value
    if isinstance(value, str):
        with suppress(ValueError):
            moment = datetime.fromisoformat(value)
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InputError(
            "time must be milliseconds since 1970-01-01 UTC, or a text or datetime with an offset "
            f"such as 2025-01-31T18:30:00+01:00, got {value!r:.60}"
        )
    return moment


def time_of_text(value: object) -> int | datetime:
    """`checked_time` for a URL or command line, where numbers come as text."""
    return checked_time(int(value) if isinstance(value, str) and value.isdecimal() else value)


def milliseconds_of(made: int | datetime | None, now: int) -> int:
    """`Request.time` in milliseconds since 1970; ``now`` if it is None."""
    if made is None:
        return now
    return int(made.timestamp() * 1000) if isinstance(made, datetime) else made


def context_at(
    made: int | datetime | None, now: int, columns: Mapping[str, Column]
) -> dict[str, int]:
    """Values of the columns derived from a request's time.

    Columns that use each timestamp's own offset are left out unless the request's time has one.
    """
    second = milliseconds_of(made, now) // 1000
    own = made.utcoffset() if isinstance(made, datetime) else None
    values: dict[str, int] = {}
    for name, column in columns.items():
        zone = column.time_zone
        if zone == OWN:
            zone = None if own is None else offset_name(round(own.total_seconds() / 60))
        if zone is not None:
            values[name] = time_value_at(second, column.kind, zone)
    return values


class Cause(NamedTuple):
    """How an item got into a history."""

    kind: str
    """Kind of the event; ``stored`` if the log has no kinds, ``given`` in the request's history or
    ``described`` by its text."""
    rating: float | None = None
    """The rating that came with it."""


GIVEN: Final = Cause("given")
DESCRIBED: Final = Cause("described")


@dataclass(frozen=True, slots=True)
class Known:
    """The known events of a request's user, apart from the request's own history."""

    stored: slice | OffsetArray
    """Positions of the user's events in the bundle, without those cancelled by a later return."""
    past: Sequence[Past]
    """Later events that were not cancelled, oldest first."""
    returned: Sequence[int] = ()
    """Rows of the items whose newest event is a return or otherwise negative."""

    @property
    def size(self) -> int:
        """Number of known events."""
        stored = self.stored
        count = stored.stop - stored.start if isinstance(stored, slice) else len(stored)
        return int(count) + len(self.past)


@dataclass(frozen=True, slots=True)
class Reading:
    """Queries, and where the events of their histories come from."""

    queries: Queries
    """Input of the tower: each history holds stored events, past events, the request's history and
    the items that its text describes, in this order."""
    known: Sequence[Known]
    """Known events of each user."""
    described: Sequence[int]
    """``(queries,)`` how many items at the end of each history come from the request's text: the
    user has not seen those."""
    ratings: FloatArray | None = None
    """``(stored events,)`` ratings in the bundle's log, or None."""

    def seen(self, row: int) -> IndexArray:
        """Items of one history that the user has seen."""
        histories = self.queries.histories
        items = histories.row(row)
        items = items[: len(items) - self.described[row]]
        if histories.rules is None or histories.kinds is None or histories.rules.seen is None:
            return items
        start, known = int(histories.indptr[row]), self.known[row].size
        seen = np.ones(len(items), dtype=np.bool_)
        seen[:known] = histories.rules.of_seen(histories.kinds[start : start + known])
        chosen: IndexArray = items[seen]
        return chosen

    def excluded(self, row: int, seen: bool) -> IndexArray:
        """Items not to recommend: returned ones and, if ``seen``, those the user has seen."""
        returned = np.asarray(self.known[row].returned, dtype=np.int32)
        if not seen:
            return returned
        return np.concatenate([self.seen(row), returned]) if len(returned) else self.seen(row)

    def causes(self, row: int) -> list[Cause]:
        """How each item of one history got there."""
        histories, known, described = self.queries.histories, self.known[row], self.described[row]
        given = len(histories.row(row)) - known.size - described
        if not known.size:
            return [GIVEN] * given + [DESCRIBED] * described
        start, stored = int(histories.indptr[row]), known.size - len(known.past)
        names = ["stored"] * stored
        if histories.rules is not None and histories.kinds is not None:
            kinds = histories.rules.kinds
            names = [kinds[code] for code in histories.kinds[start : start + stored].tolist()]
        ratings: list[float | None] = [None] * stored
        if self.ratings is not None:
            ratings = [
                rating if isfinite(rating) else None
                for rating in self.ratings[known.stored].tolist()
            ]
        causes = list(map(Cause, names, ratings))
        causes += [Cause(event.kind, event.rating) for event in known.past]
        return causes + [GIVEN] * given + [DESCRIBED] * described


class RequestReader:
    """Turns requests into queries.

    Items named in a request have no rating and no time. If the log has ratings, they get the
    user's mean rating (the mean of all users for a cold-start user). If it has times, they get the
    newest known time, which makes the user count as active now; if the tower reads the time of the
    request, they get that.

    Parameters
    ----------
    stored
        One row per user: their known events.
    reads_attributes
        Whether a user's attributes alone are enough for a recommendation.
    reads_now
        Whether the tower reads the time of the request.
    ratings
        Ratings of the stored events, used for reasons; by default those of ``stored``.
    returned
        One row per user: items not to recommend to them again.
    """

    def __init__(
        self,
        users: IdMap,
        items: "IdMap | ItemTable",
        stored: Histories,
        *,
        reads_attributes: bool = False,
        reads_now: bool = False,
        ratings: FloatArray | None = None,
        returned: Histories | None = None,
    ) -> None:
        self._reads_attributes = reads_attributes
        self._reads_now = reads_now
        self._users = users
        self._items = items
        self._stored = stored
        self._ratings_of_log = stored.ratings if ratings is None else ratings
        self._returned = returned
        self._rules = stored.rules
        self._mean_rating = _mean(stored.ratings, 0.0)
        self._newest = 0 if stored.timestamps is None else int(stored.timestamps.max(initial=0))

    def over(self, items: "IdMap | ItemTable") -> Self:
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
            Rows of the items that each request's text describes; empty if no request has text.

        Raises
        ------
        InputError
            At an unknown user without a history or known events, an unknown item, or a request
            without user, history and text.
        """
        known = [self.known(request) for request in requests]
        users = [self._user(*both) for both in zip(requests, known, strict=True)]
        given = [
            self._items.indices([event.item_id for event in user.past] + list(request.history))
            for request, user in zip(requests, known, strict=True)
        ]
        if described:
            given = [np.concatenate(both) for both in zip(given, described, strict=True)]
        counts = [len(rows) for rows in described] or [0] * len(requests)
        times = self._times_of(requests)
        histories = self._extend(known, given, times)
        queries = Queries(np.array(users, dtype=np.int32), histories, times)
        return Reading(queries, known, counts, self._ratings_of_log)

    def _times_of(self, requests: Sequence[Request]) -> OffsetArray | None:
        """``(requests,)`` time of each request; None if the tower does not read it."""
        if not self._reads_now:
            return None
        now = time.time_ns() // 1_000_000
        made = [milliseconds_of(request.time, now) for request in requests]
        return np.array(made, dtype=np.int64)

    def without_unknown(self, request: Request) -> tuple[Request, list[str]]:
        """The request without the unknown items of its history, and those items."""
        unknown = self._items.unknown(request.history)
        if not unknown:
            return request, unknown
        known = [item for item in request.history if item in self._items]
        return replace(request, history=known), unknown

    def is_readable(self, request: Request) -> bool:
        """Whether there is any event, history item, text or attribute to recommend from."""
        if request.text or request.history or self.known(request).size:
            return True
        known = request.attributes is not None or request.user_id in self._users
        return self._reads_attributes and known

    def lengths(self, requests: Sequence[Request]) -> list[int]:
        """Length of each history as it will be read, without the items that a text describes."""
        return [self.known(request).size + len(request.history) for request in requests]

    def known(self, request: Request) -> Known:
        """Known events of the request's user, after applying returns and other negative events."""
        user = None if request.user_id is None else self._users.find(request.user_id)
        bounds = (0, 0) if user is None else self._stored.indptr[user : user + 2].tolist()
        stored = slice(*bounds)
        if not request.past and (user is None or self._returned is None):
            return Known(stored, ())
        worth = [
            (event, event_weight(self._rules, event.kind, event.rating, event.quantity))
            for event in request.past
            if event.item_id in self._items
        ]
        past = [(event, weight) for event, weight in worth if weight is not None]
        back: dict[str, int] = {}
        for place, (event, weight) in enumerate(past):
            if weight < 0:
                back[event.item_id] = place
        kept = [
            event
            for place, (event, weight) in enumerate(past)
            if weight > 0 and place > back.get(event.item_id, -1)
        ]
        returned: Sequence[int] | IndexArray = ()
        if user is not None and self._returned is not None:
            returned = self._returned.row(user)
        if not back and not len(returned):
            return Known(stored, kept)
        again = {int(self._items.indices([event.item_id])[0]) for event in kept}
        taken = set(self._items.indices(list(back)).tolist()) if back else set()
        without = sorted((taken | {int(item) for item in returned}) - again)
        if not taken:
            return Known(stored, kept, without)
        places = np.arange(stored.start, stored.stop)
        left = ~np.isin(self._stored.items[stored], list(taken))
        return Known(places[left], kept, without)

    def _user(self, request: Request, known: Known) -> int:
        if isinstance(request.history, str):
            raise InputError(
                f"history must be a list of item ids, got the text {request.history!r}",
                f"pass [{request.history!r}]",
            )
        user_id = request.user_id
        if user_id is not None and user_id in self._users:
            return self._users.index(user_id)
        described = self._reads_attributes and request.attributes is not None
        if not (len(request.history) or request.text or len(known.past) or described):
            if user_id is None:
                raise InputError(
                    "a request needs a user id or a history, got neither",
                    "pass history=[item ids] for a cold-start user",
                )
            raise InputError(
                f"unknown user {user_id!r}",
                "pass history=[item ids] to recommend for a cold-start user",
                cli_fix="pass --history ID ID to recommend for a cold-start user",
            )
        return -1

    def _extend(
        self, known: Sequence[Known], given: Sequence[IndexArray], now: OffsetArray | None
    ) -> Histories:
        """Stored histories, each followed by its ``given`` items.

        The given items start with the past events, which have their own times and perhaps ratings.
        """
        log, rules = self._stored, self._rules
        items, ratings, timestamps, weights, kinds = [], [], [], [], []
        ends = [0]
        newest = [self._newest] * len(given) if now is None else now.tolist()
        for user, rows, last in zip(known, given, newest, strict=True):
            row, past = user.stored, user.past
            ends.append(ends[-1] + user.size - len(past) + len(rows))
            items += [log.items[row], rows]
            if log.ratings is not None:
                own = log.ratings[row]
                ratings += [own, self._ratings(own, len(rows), past)]
            if log.timestamps is not None:
                timestamps += [log.timestamps[row], _times(len(rows), past, last)]
            if rules is not None and log.kinds is not None and log.weights is not None:
                codes, worth = self._kinds(rules, len(rows), past)
                kinds += [log.kinds[row], codes]
                weights += [log.weights[row], worth]
            elif log.weights is not None:
                weights += [log.weights[row], np.ones(len(rows), dtype=np.float32)]
        return Histories(
            np.array(ends, dtype=np.int64),
            _joined(items, log.items),
            None if log.ratings is None else _joined(ratings, log.ratings),
            None if log.timestamps is None else _joined(timestamps, log.timestamps),
            None if log.weights is None else _joined(weights, log.weights),
            None if log.kinds is None else _joined(kinds, log.kinds),
            rules,
        )

    def _kinds(
        self, rules: EventRules, count: int, past: Sequence[Past]
    ) -> tuple[Array, FloatArray]:
        """Codes and weights of ``count`` items, ``past`` events first.

        Items named in the request count as the positive kind of the lowest weight, like a view.
        """
        codes = np.full(count, rules.kinds.index(rules.weakest), dtype=np.uint8)
        weights = np.full(count, rules.weights[rules.weakest], dtype=np.float32)
        for place, event in enumerate(past):
            kind = rules.kind_of(event.kind, event.rating) or rules.weakest
            codes[place] = rules.kinds.index(kind)
            weights[place] = rules.weight_of(kind, event.quantity)
        return codes, weights

    def _ratings(self, stored: Array, count: int, past: Sequence[Past]) -> Array:
        """Ratings of the ``count`` items after the ``stored`` ones, ``past`` events first."""
        ratings = np.full(count, _mean(stored, self._mean_rating))
        for place, event in enumerate(past):
            if event.rating is not None:
                ratings[place] = event.rating
        return ratings


def _times(count: int, past: Sequence[Past], newest: int) -> Array:
    """Times of ``count`` items, ``past`` events first; the others get the newest known time."""
    times = np.full(count, max(newest, past[-1].time) if past else newest, dtype=np.int64)
    times[: len(past)] = [event.time for event in past]
    return times


def _mean(ratings: Array | None, default: float) -> float:
    """Mean of the known ratings, or the default if there are none."""
    if ratings is None or not len(ratings):
        return default
    known = ratings[np.isfinite(ratings)]
    return float(known.mean()) if len(known) else default


def _joined(parts: Sequence[Array], like: Array) -> Array:
    filled = [part for part in parts if part.size]
    if len(filled) == 1 and filled[0].dtype == like.dtype:
        return filled[0]
    return np.concatenate([like[:0], *filled], dtype=like.dtype, casting="same_kind")
