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

    A value: `with_items` and `with_index` give another pipeline, which shares all that did not
    change. A request is answered by the pipeline that it began with.

    Parameters
    ----------
    threads
        Threads that one run of the user tower may use.
    room
        Whether items are going to be added: see `ItemTable.of`.

    Attributes
    ----------
    items
        The items as they are now.
    index
        Of the first of them.
    stale
        Rows of the index that were written since it was made: they are searched beside it.
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
        """From a bundle's folder; `ArtefactError` where it is broken."""
        return cls(load_bundle(folder).contents, threads)

    def with_items(self, items: ItemTable) -> Self:
        """The same over a changed table of items. Rows that the index lacks are searched too."""
        other = self._over(items)
        other._text = self._text.following(self.items, items)
        other.stale = other._stale_rows()
        return other

    def _over(self, items: ItemTable) -> Self:
        """A copy over other items, but for its index and its text search."""
        other = copy(self)
        other.items = items
        history = None if items.history is None else items.history.rows
        other._tower = self._tower.reading(history, items.user_features.rows)
        other._reader = self._reader.over(items)
        other.rules = None if self.rules is None else self.rules.over(items)
        return other

    def with_rules(self, rules: "BusinessRules | None") -> Self:
        """The same under these business rules, None for none.

        `InputError` at a rule with a category or column that no item has.
        """
        from twotower.inference.business_rules import ActiveRules  # read where there are some

        other = copy(self)
        other.rules = None if rules is None else ActiveRules.of(rules, self.items)
        return other

    def without_changes(self) -> Self:
        """The bundle's items alone, with the bundle's index, as before anything was changed."""
        contents = replace(self.contents)  # another object: the index of one is not the other's
        other = self._over(ItemTable.of(contents))  # without room: it copies before it grows
        other.__dict__.pop("_text", None)  # knows the titles that came later
        other.contents, other.index = contents, contents.index
        other.stale, other._indexed = _NO_ROWS, 0
        return other

    def with_index(self, index: ItemIndex, changes: int | None = None) -> Self:
        """The same with another index, of the first rows of the table.

        ``changes`` are the `ItemTable.changes` of the table that it was made of; by default this
        pipeline's.
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
        """Rows that the index does not hold as they are."""
        return len(self.items) - self.index.size + len(self.stale)

    def lags(self, share: float) -> bool:
        """Whether more than this share of the items stands outside the index."""
        return self.outside_index > share * len(self.items)

    def whole_index(self) -> ItemIndex:
        """An index of every row: that of now, or where it is stale the bundle's, and the rest."""
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
        """Items for one user.

        Parameters
        ----------
        user_id
            A known user, or None.
        history
            Ids of the items just browsed, oldest first; they follow what is known of the user.
            The tower reads the newest `ModelInfo.history_length`, the features all.
        k
            Items to return, fewer only where fewer exist.
        text
            What is wanted, in words. It is read as the items whose titles it describes best.
        attributes
            Declared columns of the user, in place of those that the bundle knows.
        context
            Declared columns of the log for this request, such as its device. What derives from the
            time is filled in where it is left out.
        time
            When the request is made, by default now: milliseconds since 1970-01-01 UTC, or a
            datetime or ISO 8601 text with an offset.
        options
            ``filters``, ``exclude_seen``, ``rerank``, ``candidates`` and ``reasons``: see
            `RecommendOptions`.

        Raises
        ------
        InputError
            At an unknown user without a history, an unknown item, words that describe no item,
            an empty request, a time without an offset, ``k`` below 1, fewer candidates than ``k``,
            or ``rerank`` where the bundle has no re-ranker.
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
        """A `Request` of what a caller gives, checked against the bundle; see `recommend`."""
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
        """One list per request, in their order; errors as `recommend`, also if not ``strict``.

        The seconds that each stage took are added to ``timings``.
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
        """One answer per request, in their order, which also says where its items come from.

        Unless ``options.strict``, unknown items of a history are passed over, and named in the
        answer, and a user of whom nothing is known that the model could read gets `popular` items.

        Raises
        ------
        InputError
            As `recommend`; unless ``options.strict`` not for unknown users and items.
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
        """The items with the most events in the bundle's log; the score is their number.

        ``without`` are rows of the table that are left out.
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
        """A ranked list as it is answered."""
        moved = None if self.rules is None else self.rules.names_of(ranked.items, k)
        return recommendations(self.items, ranked, reasons, moved)

    def reads(self, request: Request) -> bool:
        """Whether the request, or what is known of its user, holds anything that a model reads."""
        return self._reader.is_readable(request)

    def work(self, requests: Sequence[Request], k: int) -> int:
        """Cost of these requests: for each, ``k`` times the items of its history and 50.

        A reason is looked for among so many items of the history at most; the 50 stand for what
        an item of an answer costs without any.
        """
        lengths = self._reader.lengths(requests)
        return k * sum(min(length, NEWEST) + _COST_OF_ITEM for length in lengths)

    @staticmethod
    def most_work(count: int, k: int) -> int:
        """Upper bound of the `work` of so many requests, whatever their histories."""
        return k * count * (NEWEST + _COST_OF_ITEM)

    def rank(
        self, requests: Sequence[Request], options: RecommendOptions = DEFAULTS
    ) -> list[RankedItems]:
        """As `recommend_batch`, as rows of `items` and scores alone: for very many requests."""
        return [ranked for _, rows in self._ranked(requests, options, {}) for ranked in rows]

    def _ranked(
        self, requests: Sequence[Request], options: RecommendOptions, clock: Timings
    ) -> Iterator[tuple[Reading, list[RankedItems]]]:
        """Block by block."""
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
        """Columns of a block's users, where a request gives some; None for those of the bundle."""
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
        """Encoded contexts of a block; None where none is read, or nothing is known of any."""
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
        """Columns of the context that derive from the time of a request."""
        read = self.read_context
        return {name: column for name, column in self._schema.time_columns.items() if name in read}

    def context_without_time(self, context: Mapping[str, Any] | None) -> dict[str, Any]:
        """The checked context of requests for lists that are read at another time.

        What derives from the time is not known, unless the context says it.
        """
        given = {} if context is None else self.checked_context(context)
        return {**dict.fromkeys(self._time_columns), **given}

    def checked_context(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The context of a request, checked against the schema.

        What is null is left out, but for what derives from the time: that is then not known.

        Raises
        ------
        InputError
            Where the model reads none, at a name that is not declared for events, or a value of
            another kind.
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
        """The context in texts such as ``device=phone``; raises as `checked_context`."""
        return self.checked_context(values_of_texts(texts, self._schema.events))

    def known_context(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """What the model reads of a context that another one may declare."""
        return known_values(context, self.read_context, "events")

    @property
    def read_context(self) -> dict[str, Column]:
        """Declared columns of the log that the model reads of a request."""
        return self._schema.features("events") if self._tower.reads_context else {}

    def checked_event_context(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """The context of an event to record; errors as `checked_attributes`."""
        return checked(context, self._schema.events, "events")

    def checked_attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes of a user as a request names them, checked against the schema.

        `InputError` at a name that the schema does not declare, or a value of another kind.
        """
        return checked(attributes, self._schema.users, "users")

    def known_attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Those of stored attributes that the schema declares, where they are of its kinds."""
        return known_values(attributes, self._schema.users, "users")

    def checked_columns(
        self, columns: Mapping[str, Any], described: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Declared columns of an item as a request names them; errors as `checked_attributes`.

        Of ``described``, fields of every item such as title and price, those that are declared too
        are taken.
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
        """Rows of the items that each request's words describe; empty where none has words."""
        if all(request.text is None for request in block):
            return []
        return [
            _NOTHING if request.text is None else self._text.described(request.text, self.items)
            for request in block
        ]

    def similar_items(
        self, item_id: str, k: int = 10, *, filters: Filters = ANY
    ) -> list[Recommendation]:
        """Items that are most like ``item_id``: by the mean cosine of the vectors' parts.

        `InputError` at an unknown item, or ``k`` below 1.
        """
        self._check(k, filters)
        row = self.items.row(item_id)
        return recommendations(self.items, similar(self.items, row, k, filters, self.rules))

    def search(self, text: str, k: int = 10, *, filters: Filters = ANY) -> list[Recommendation]:
        """Items whose titles hold the words of ``text`` or, where the bundle can tell, mean it.

        The score is the share of the words that the title holds, weighted by their rarity; with
        a text encoder, the mean of that and of the cosine of text and item. Fewer than ``k``
        come back where fewer have a score above 0.
        """
        self._check(k, filters)
        scores = np.where(self.items.passing(filters), self._text.scores(text, self.items), 0)

        def best(count: int) -> RankedItems:
            items = positive(scores, count)
            return RankedItems(items, scores[items])

        return recommendations(self.items, filled(best, k, filters, self.items))

    def title(self, item_id: str) -> str | None:
        """The catalogue's title of an item; `InputError` where the item is unknown."""
        return self.items.titles.rows[self.items.row(item_id)]  # type: ignore[no-any-return]

    @cached_property
    def item_encoder(self) -> ItemEncoder:
        """What encodes new items, or `InputError`."""
        return ItemEncoder(self.contents, self.text_encoder, self._threads)

    def warm(self, pause: Pause = no_pause) -> None:
        """Load what is otherwise loaded at first use; `ArtefactError` where it is broken.

        ``pause`` is called every few milliseconds of the work.
        """
        self._text = TextSearch(self.items, self.text_encoder, pause)
        with suppress(InputError):  # a bundle need not take new items
            _ = self.item_encoder

    @cached_property
    def rating_range(self) -> tuple[float, float] | None:
        """Lowest and highest rating of the bundle's log; None where it has none."""
        ratings = self.contents.histories.ratings
        if ratings is None or not np.isfinite(ratings).any():
            return None
        return float(np.nanmin(ratings)), float(np.nanmax(ratings))

    @cached_property
    def _least_praise(self) -> float:
        """The middle of the rating scale: what was rated lower is no reason to recommend."""
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
        """The encoder of the bundle's texts, or None where it holds none."""
        return text_encoder_of(self.contents, self._threads)
