"""Recommendation pipeline: user tower, index, re-ranking, filters, reasons."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from math import inf
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.bundle.storage import load_bundle
from twotower.bundle.throttle import Pause, no_pause
from twotower.data.schema import Column, Schema, checked, known_values, values_of_texts
from twotower.errors import InputError
from twotower.features import TextEncoder
from twotower.index import ItemIndex
from twotower.inference.answers import (
    NEWEST,
    Answer,
    Reason,
    Recommendation,
    reasons_for,
    recommendations,
)
from twotower.inference.filters import ANY, Filters, categories_of, check_categories
from twotower.inference.item_encoder import ItemEncoder, text_vectors
from twotower.inference.item_table import ItemTable
from twotower.inference.options import (
    DEFAULTS,
    OptionFields,
    RecommendOptions,
    check_filters,
    check_k,
)
from twotower.inference.popular import PopularItems
from twotower.inference.ranking import RankedItems, filled
from twotower.inference.requests import Reading, Request, RequestReader, checked_time, context_at
from twotower.inference.retrieval import search_block
from twotower.inference.search import TextSearch, positive
from twotower.inference.stages import Stages, Timings, add_time, second_stage, similar
from twotower.inference.text_encoder import text_encoder_of
from twotower.inference.user_tower import UserTower
from twotower.types import IndexArray, OffsetArray

if TYPE_CHECKING:
    from twotower.features.declared_columns import Encoded
    from twotower.inference.business_rules import ActiveRules, BusinessRules

__all__ = ["Pipeline", "Recommendation"]

_BLOCK: Final = 1024  # requests held at once
_COST_OF_ITEM: Final = 50  # in items of a history
_NOTHING: Final = np.zeros(0, dtype=np.int32)
_NO_ROWS: Final = np.zeros(0, dtype=np.int64)


class Pipeline:
    """Answers requests from one bundle's contents. It keeps no state between requests.

    Immutable: `with_items` and `with_index` return another pipeline, which shares everything that
    did not change. A request is answered by the pipeline that it started with.

    Parameters
    ----------
    threads
        Threads that one run of the user tower may use.
    room
        Whether to reserve capacity for items added later: see `ItemTable.of`.

    Attributes
    ----------
    items
        The current items.
    index
        Index of the first `ItemIndex.size` of them; later rows are scored exactly.
    stale
        Rows in the index that changed since it was built; they are scored exactly too.
    """

    def __init__(self, contents: BundleContents, threads: int = 1, room: bool = False) -> None:
        self.items = ItemTable.of(contents, room)
        self.contents = contents = self.items.contents
        self.index: ItemIndex = contents.index
        self.stale = _NO_ROWS
        self.rules: ActiveRules | None = None
        self._indexed = 0
        self._threads = threads
        self._tower = UserTower(contents, threads)
        stored = contents.histories
        gaps = self._tower.reads_gaps
        if not self._tower.reads_features:
            stored = replace(stored, ratings=None, timestamps=stored.timestamps if gaps else None)
        self._reader = RequestReader(
            contents.users,
            self.items,
            stored,
            reads_attributes=self._tower.knows_attributes,
            reads_now=gaps,
            ratings=contents.histories.ratings,
            returned=contents.returned,
        )

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> Self:
        """Load a pipeline from a bundle's folder; `ArtefactError` if the bundle is broken."""
        return cls(load_bundle(folder).contents, threads)

    def with_items(self, items: ItemTable) -> Self:
        """The same over a changed item table. Rows missing from the index are searched too."""
        other = self._over(items)
        other._text = self._text.following(self.items, items)
        other.stale = other._stale_rows()
        return other

    def _over(self, items: ItemTable) -> Self:
        """A copy over other items, with the same index and text search."""
        other = copy(self)
        other.items = items
        history = None if items.history is None else items.history.rows
        other._tower = self._tower.reading(history, items.user_features.rows)
        other._reader = self._reader.over(items)
        other.rules = None if self.rules is None else self.rules.over(items)
        return other

    def with_rules(self, rules: "BusinessRules | None") -> Self:
        """The same with these business rules, or without any for None.

        `InputError` if a rule names a category or column that no item has.
        """
        from twotower.inference.business_rules import ActiveRules  # only needed with rules

        other = copy(self)
        other.rules = None if rules is None else ActiveRules.of(rules, self.items)
        return other

    def without_changes(self) -> Self:
        """The pipeline with the bundle's items and index only, as before any change."""
        contents = replace(self.contents)  # a new object, so that the two do not share an index
        other = self._over(ItemTable.of(contents))  # without room, so it copies before it grows
        other.__dict__.pop("_text", None)  # it knows titles added later
        other.contents, other.index = contents, contents.index
        other.stale, other._indexed = _NO_ROWS, 0
        return other

    def with_index(self, index: ItemIndex, changes: int | None = None) -> Self:
        """The same with another index over the first rows of the table.

        ``changes`` is `ItemTable.changes` of the table that the index was built from; by default
        this pipeline's.
        """
        other = copy(self)
        other.index = index
        other._indexed = self.items.changes if changes is None else changes
        other.stale = other._stale_rows()
        return other

    def _stale_rows(self) -> OffsetArray:
        rows = self.items.changed_since(self._indexed)
        return rows[rows < self.index.size]

    @property
    def outside_index(self) -> int:
        """Number of rows that are missing from the index or stale in it."""
        return len(self.items) - self.index.size + len(self.stale)

    def lags(self, share: float) -> bool:
        """Whether more than this share of the items is `outside_index`."""
        return self.outside_index > share * len(self.items)

    def whole_index(self) -> ItemIndex:
        """An index of every row: the current one (the bundle's, if stale rows exist), extended."""
        index = self.contents.index if len(self.stale) else self.index
        return index.extended(self.items.vectors.rows[index.size :])

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] = (),
        k: int = 10,
        *,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        time: int | str | datetime | None = None,
        **options: Unpack[OptionFields],
    ) -> list[Recommendation]:
        """Recommend items for one user.

        Parameters
        ----------
        user_id
            A known user, or None.
        history
            Ids of the items just browsed, oldest first; appended to the user's stored history.
            The tower reads the newest `ModelInfo.history_length`, the user features read all.
        k
            Items to return; fewer only if fewer exist.
        text
            A description of what the user wants. It is read as the few items that it describes
            best.
        attributes
            Declared columns of the user, instead of the bundle's values.
        context
            Declared columns of the log for this request, such as its device. Columns derived from
            the time are filled in if left out.
        time
            Time of the request, by default now: milliseconds since 1970-01-01 UTC, or a datetime
            or ISO 8601 text with an offset.
        options
            ``filters``, ``exclude_seen``, ``rerank``, ``candidates`` and ``reasons``: see
            `RecommendOptions`.

        Raises
        ------
        InputError
            At an unknown user without a history, an unknown item, a text that describes no item,
            an empty request, a time without an offset, ``k`` below 1, fewer candidates than ``k``,
            or ``rerank`` if the bundle has no re-ranker.
        """
        request = self.request(user_id, history, text, attributes, context, time)
        (answer,) = self.recommend_batch([request], RecommendOptions(k, **options))
        return answer

    def request(
        self,
        user_id: str | None,
        history: Sequence[str],
        text: str | None,
        attributes: Mapping[str, Any] | None,
        context: Mapping[str, Any] | None,
        time: int | str | datetime | None,
    ) -> Request:
        """A `Request` from a caller's arguments, checked against the bundle; see `recommend`."""
        return Request(
            user_id,
            history,
            text,
            attributes=None if attributes is None else self.checked_attributes(attributes),
            time=None if time is None else checked_time(time),
            context=None if context is None else self.checked_context(context),
        )

    def recommend_batch(
        self,
        requests: Sequence[Request],
        options: RecommendOptions = DEFAULTS,
        timings: Timings | None = None,
    ) -> list[list[Recommendation]]:
        """One list per request, in order; raises as `recommend`, whatever ``options.strict`` says.

        The seconds spent in each stage are added to ``timings``.
        """
        clock: Timings = {} if timings is None else timings
        answers = []
        for reading, rows in self._ranked(requests, options, clock):
            began = perf_counter()
            for row, ranked in enumerate(rows):
                because = None
                if options.reasons:
                    history = reading.queries.histories.row(row)
                    causes = reading.causes(row)
                    because = reasons_for(
                        self.items, ranked.items, history, causes, self._least_praise
                    )
                answers.append(self._shown(ranked, options.k, because))
            add_time(clock, "present", began)
        return answers

    def answers(
        self,
        requests: Sequence[Request],
        options: RecommendOptions = DEFAULTS,
        timings: Timings | None = None,
    ) -> list[Answer]:
        """One answer per request, in order, with the source of its items.

        Unless ``options.strict``, unknown items of a history are ignored and listed in the answer,
        and users without any input for the model get `popular` items.

        Raises
        ------
        InputError
            As `recommend`, but for unknown users and items only if ``options.strict``.
        """
        users, strict = self.contents.users, options.strict
        empty = [
            request for request in requests if request.user_id in users and not self.reads(request)
        ]
        if strict and empty:
            raise InputError(
                f"nothing is known of user {empty[0].user_id!r} that the model could read",
                "pass a history or words, or take popular items: strict=False",
                cli_fix="pass --history or --text, or take popular items: leave out --strict",
            )
        known = [
            (request, []) if strict else self._reader.without_unknown(request)
            for request in requests
        ]
        places = [
            place
            for place, (request, unknown) in enumerate(known)
            if strict
            or self.reads(request)
            or (request.user_id is None and not unknown)  # an empty request is an error
        ]
        found = self.recommend_batch([known[place][0] for place in places], options, timings)
        of_model = dict(zip(places, found, strict=True))
        popular = []
        if len(places) < len(requests):
            popular = self.popular(options.k, filters=options.filters)
        answers = []
        for place, (request, unknown) in enumerate(known):
            if place in of_model:
                answers.append(Answer(of_model[place], "model", unknown))
                continue
            returned = self._reader.known(request).returned
            own = popular
            if returned:
                own = self.popular(options.k, filters=options.filters, without=returned)
            answers.append(Answer(own, "popular", unknown))
        return answers

    def popular(
        self, k: int = 10, *, filters: Filters = ANY, without: Sequence[int] = ()
    ) -> list[Recommendation]:
        """The items with the most events in the bundle's log; the score is the number of events.

        ``without`` are table rows to leave out.
        """
        self._check(k, filters)
        popular = self._popular.over(self.items)
        return self._shown(popular.best(k, filters, without, self.rules), k)

    def _check(self, k: int, filters: Filters) -> None:
        check_k(k)
        check_filters(filters)
        check_categories(filters, self.items.names)

    def _shown(
        self, ranked: RankedItems, k: int, reasons: Sequence[Reason | None] | None = None
    ) -> list[Recommendation]:
        """A ranked list as recommendations."""
        moved = None if self.rules is None else self.rules.names_of(ranked.items, k)
        return recommendations(self.items, ranked, reasons, moved)

    def reads(self, request: Request) -> bool:
        """Whether the request or its user's stored data contain any input for the model."""
        return self._reader.is_readable(request)

    def work(self, requests: Sequence[Request], k: int) -> int:
        """Estimated cost of these requests: for each, ``k`` times (history length + 50).

        The history counts up to `NEWEST` items, the most that are searched for a reason; the 50
        stand for the cost of a recommended item without a reason.
        """
        lengths = self._reader.lengths(requests)
        return k * sum(min(length, NEWEST) + _COST_OF_ITEM for length in lengths)

    @staticmethod
    def most_work(count: int, k: int) -> int:
        """Upper bound of the `work` of ``count`` requests, whatever their histories."""
        return k * count * (NEWEST + _COST_OF_ITEM)

    def rank(
        self, requests: Sequence[Request], options: RecommendOptions = DEFAULTS
    ) -> list[RankedItems]:
        """As `recommend_batch`, but only rows of `items` and scores: for very many requests."""
        return [ranked for _, rows in self._ranked(requests, options, {}) for ranked in rows]

    def _ranked(
        self, requests: Sequence[Request], options: RecommendOptions, clock: Timings
    ) -> Iterator[tuple[Reading, list[RankedItems]]]:
        """Rank the requests block by block."""
        filters, rules = options.filters, self.rules
        check_categories(filters, self.items.names)
        second = second_stage(self.contents, options)
        count = options.k if second is None else second.candidates
        without_seen = options.excludes_seen(self.contents)
        for start in range(0, len(requests), _BLOCK):
            block = requests[start : start + _BLOCK]
            began = perf_counter()
            reading = self._reader.read(block, self._described(block))
            vectors = self._tower.encode(
                reading.queries, self._attributes(block, reading), self._context(block)
            )
            began = add_time(clock, "encode", began)
            seen = [reading.excluded(row, without_seen) for row in range(len(block))]
            eligible = self.items.eligible_for(filters)
            parts = [eligible] if rules is None else rules.parts(eligible)
            found = search_block(self.index, vectors, count, eligible, seen)
            add_time(clock, "search", began)
            per_row = zip(vectors, seen, zip(*found, strict=True), strict=True)
            rows = []
            for row, (vector, excluded, first) in enumerate(per_row):
                masks = [part.without(excluded) for part in parts]
                stages = Stages(self.index, self.items, vector, masks, first, clock, self.stale)
                best: Callable[[int], RankedItems] = stages.retrieve
                if second is not None:
                    query = reading.queries.select(np.asarray([row]))
                    best = partial(stages.rerank, second, query)
                if rules is not None:
                    best = rules.ranking(best, options.k)
                ranked = filled(best, options.k, filters, self.items)
                rows.append(ranked if rules is None else rules.placed(ranked, options.k))
            yield reading, rows

    def _attributes(self, block: Sequence[Request], reading: Reading) -> "Encoded | None":
        """Encoded user columns of a block if any request states some; None to use the bundle's."""
        stated = [row for row, request in enumerate(block) if request.attributes is not None]
        declared = self.contents.declared
        if not stated or declared is None or declared.users is None:
            return None
        columns = declared.users.take(reading.queries.users.astype(np.int64) + 1)
        attributes = [block[row].attributes or {} for row in stated]
        given = self._tower.columns_of(attributes, partial(text_vectors, self.text_encoder))
        columns.codes[stated], columns.weights[stated] = given.codes, given.weights
        columns.dense[stated] = given.dense
        return columns

    def _context(self, block: Sequence[Request]) -> "Encoded | None":
        """Encoded contexts of a block; None if the model reads none, or no request has any."""
        if not self._tower.reads_context:
            return None
        stated = [request.context or {} for request in block]
        if derived := self._time_columns:
            now = time.time_ns() // 1_000_000
            stated = [
                {**context_at(request.time, now, derived), **given}
                for request, given in zip(block, stated, strict=True)
            ]
        return self._tower.context_of(stated) if any(stated) else None

    @cached_property
    def _time_columns(self) -> dict[str, Column]:
        """Context columns derived from the time of a request."""
        read = self.read_context
        return {name: column for name, column in self._schema.time_columns.items() if name in read}

    def context_without_time(self, context: Mapping[str, Any] | None) -> dict[str, Any]:
        """The checked context for lists that are computed now and shown later.

        Columns derived from the time are missing values, unless the context gives them.
        """
        given = {} if context is None else self.checked_context(context)
        return {**dict.fromkeys(self._time_columns), **given}

    def checked_context(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The context of a request, checked against the schema.

        Nulls are dropped, except in columns derived from the time: there null means unknown.

        Raises
        ------
        InputError
            If the model reads no context, at a name not declared for events, or at a value of the
            wrong kind.
        """
        if context and not self._tower.reads_context:
            raise InputError(
                f"this model reads no context, got {', '.join(map(repr, context))}",
                "leave the context out, or declare columns of the log under [schema.events] and "
                "train on them",
            )
        read = self.read_context
        values = checked(context, read, "events")
        return {
            name: value
            for name, value in values.items()
            if value is not None or read[name].is_of_time
        }

    def parsed_context(self, texts: Sequence[str]) -> dict[str, Any]:
        """A context parsed from texts such as ``device=phone``; raises as `checked_context`."""
        return self.checked_context(values_of_texts(texts, self._schema.events))

    def known_context(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a context, perhaps written for another model, that this model can read."""
        return known_values(context, self.read_context, "events")

    @property
    def read_context(self) -> dict[str, Column]:
        """Declared columns of the log that the model reads from a request's context."""
        return self._schema.features("events") if self._tower.reads_context else {}

    def checked_event_context(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The context of an event to record; raises as `checked_attributes`."""
        return checked(context, self._schema.events, "events")

    def checked_attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes of a user from a request, checked against the schema.

        `InputError` at a name that the schema does not declare, or a value of the wrong kind.
        """
        return checked(attributes, self._schema.users, "users")

    def known_attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The stored attributes that the schema declares and whose values have the right kind."""
        return known_values(attributes, self._schema.users, "users")

    def checked_columns(
        self, columns: Mapping[str, Any], described: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Declared columns of an item from a request; raises as `checked_attributes`.

        Fields of ``described`` (those of every item, such as title and price) are included if they
        are declared as columns.
        """
        declared = self._schema.items
        both = {
            name: list(categories_of(value))
            if declared[name].kind == "list" and isinstance(value, str)
            else value
            for name, value in described.items()
            if name in declared
        }
        return checked({**both, **columns}, declared, "items")

    @property
    def _schema(self) -> Schema:
        declared = self.contents.declared
        return Schema() if declared is None else declared.schema

    def _described(self, block: Sequence[Request]) -> list[IndexArray]:
        """Rows of the items that each request's text describes; empty if no request has text."""
        if all(request.text is None for request in block):
            return []
        return [
            _NOTHING if request.text is None else self._text.described(request.text, self.items)
            for request in block
        ]

    def similar_items(
        self, item_id: str, k: int = 10, *, filters: Filters = ANY
    ) -> list[Recommendation]:
        """The items most similar to ``item_id``, by mean cosine over the parts of the vectors.

        `InputError` at an unknown item, or ``k`` below 1.
        """
        self._check(k, filters)
        row = self.items.row(item_id)
        return recommendations(self.items, similar(self.items, row, k, filters, self.rules))

    def search(self, text: str, k: int = 10, *, filters: Filters = ANY) -> list[Recommendation]:
        """Text search: items whose titles contain the words of ``text`` or are close in meaning.

        The score is the IDF-weighted share of the words that the title contains; with a text
        encoder, the mean of that and the cosine of text and item. Only items with a score above 0
        are returned, so there may be fewer than ``k``.
        """
        self._check(k, filters)
        scores = np.where(self.items.passing(filters), self._text.scores(text, self.items), 0)

        def best(count: int) -> RankedItems:
            items = positive(scores, count)
            return RankedItems(items, scores[items])

        return recommendations(self.items, filled(best, k, filters, self.items))

    def title(self, item_id: str) -> str | None:
        """The title of an item, or None; `InputError` if the item is unknown."""
        return self.items.titles.rows[self.items.row(item_id)]  # type: ignore[no-any-return]

    @cached_property
    def item_encoder(self) -> ItemEncoder:
        """Encoder of cold-start items; `InputError` if the bundle cannot encode them."""
        return ItemEncoder(self.contents, self.text_encoder, self._threads)

    def warm(self, pause: Pause = no_pause) -> None:
        """Load what is otherwise loaded on first use; `ArtefactError` if it is broken.

        ``pause`` is called every few milliseconds.
        """
        self._text = TextSearch(self.items, self.text_encoder, pause)
        with suppress(InputError):  # a bundle need not take new items
            _ = self.item_encoder

    @cached_property
    def rating_range(self) -> tuple[float, float] | None:
        """Lowest and highest rating in the bundle's log; None if it has no ratings."""
        ratings = self.contents.histories.ratings
        if ratings is None or not np.isfinite(ratings).any():
            return None
        return float(np.nanmin(ratings)), float(np.nanmax(ratings))

    @cached_property
    def _least_praise(self) -> float:
        """The middle of the rating scale: an item rated lower is not given as a reason."""
        scale = self.contents.info.rating_scale or self.rating_range
        return -inf if scale is None else (scale[0] + scale[1]) / 2

    @cached_property
    def _popular(self) -> PopularItems:
        return PopularItems(self.items)

    @cached_property
    def _text(self) -> TextSearch:
        return TextSearch(self.items, self.text_encoder)

    @cached_property
    def text_encoder(self) -> TextEncoder | None:
        """The bundle's text encoder, or None if it holds none."""
        return text_encoder_of(self.contents, self._threads)
