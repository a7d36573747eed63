"""From a request to its items: user tower, index, re-ranking, filters, reasons."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Final, Self

import numpy as np

from twotower.bundle.contents import BundleContents
from twotower.bundle.storage import load_bundle
from twotower.errors import InputError
from twotower.features import TextEncoder
from twotower.index import ItemIndex
from twotower.inference.answers import Recommendation, reasons_for, recommendations
from twotower.inference.filters import ANY, Filters
from twotower.inference.item_encoder import ItemEncoder
from twotower.inference.item_table import ItemTable
from twotower.inference.ranking import Ranked, filled
from twotower.inference.requests import Reading, Request, RequestReader
from twotower.inference.retrieval import search_block
from twotower.inference.search import TextSearch, positive
from twotower.inference.stages import Stages, Timings, add_time, second_stage, similar
from twotower.inference.text_encoder import text_encoder_of
from twotower.inference.user_tower import UserTower
from twotower.types import IndexArray

__all__ = ["Pipeline", "Recommendation"]

_BLOCK: Final = 1024  # requests held at once
_NOTHING: Final = np.zeros(0, dtype=np.int32)


class Pipeline:
    """Answers requests from one bundle's contents. It keeps no state between requests.

    A value: `with_items` and `with_index` give another pipeline, which shares all that did not
    change. A request is answered by the pipeline that it began with.

    Parameters
    ----------
    contents
        A bundle's contents, loaded or just made.
    threads
        Threads that one run of the user tower may use.
    room
        Whether items are going to be added: see `ItemTable.of`.
    """

    def __init__(self, contents: BundleContents, threads: int = 1, room: bool = False) -> None:
        self.items = ItemTable.of(contents, room)
        self.contents = contents = self.items.contents
        self.index: ItemIndex = contents.index
        self._threads = threads
        self._tower = UserTower(contents, threads)
        stored = contents.histories
        if not self._tower.reads_features:
            stored = replace(stored, ratings=None, timestamps=None)
        self._reader = RequestReader(contents.users, self.items, stored)

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> Self:
        """From a bundle's folder; `ArtefactError` where it is broken."""
        return cls(load_bundle(folder).contents, threads)

    def with_items(self, items: ItemTable) -> Self:
        """The same over a changed table of items. Rows that the index lacks are searched too."""
        self._text.follow(self.items, items)
        other = copy(self)
        other.items = items
        history = None if items.history is None else items.history.rows
        other._tower = self._tower.reading(history, items.user_features.rows)
        other._reader = self._reader.over(items)
        return other

    def with_index(self, index: ItemIndex) -> Self:
        """The same with another index, of the first rows of the table."""
        other = copy(self)
        other.index = index
        return other

    @property
    def outside_index(self) -> int:
        """Items that the index does not hold yet."""
        return len(self.items) - self.index.size

    def lags(self, share: float) -> bool:
        """Whether more than this share of the items stands outside the index."""
        return self.outside_index > share * len(self.items)

    def whole_index(self) -> ItemIndex:
        """The index with every row behind it that it lacks now."""
        return self.index.extended(self.items.vectors.rows[self.index.size :])

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] = (),
        k: int = 10,
        *,
        text: str | None = None,
        exclude_seen: bool = True,
        filters: Filters = ANY,
        candidates: int = 1000,
        rerank: bool = False,
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
        exclude_seen
            Leave out items of the history, stored or given.
        filters
            Which items may be recommended.
        candidates
            Items that the index hands to the re-ranker, at least ``k``.
        rerank
            Order the candidates by the bundle's re-ranker.

        Raises
        ------
        InputError
            At an unknown user without a history, an unknown item, words that describe no item,
            an empty request, ``k`` below 1, fewer candidates than ``k``, or ``rerank`` where
            the bundle has no re-ranker.
        """
        request = Request(user_id, history, text)
        (answer,) = self.recommend_batch(
            [request],
            k,
            exclude_seen=exclude_seen,
            filters=filters,
            candidates=candidates,
            rerank=rerank,
        )
        return answer

    def recommend_batch(
        self,
        requests: Sequence[Request],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        filters: Filters = ANY,
        candidates: int = 1000,
        rerank: bool = False,
        reasons: bool = True,
        timings: Timings | None = None,
    ) -> list[list[Recommendation]]:
        """One answer per request, in their order; parameters and errors as `recommend`.

        Parameters
        ----------
        reasons
            Whether each item is given its reason.
        timings
            Where to add the seconds that each stage took.
        """
        clock: Timings = {} if timings is None else timings
        answers = []
        for reading, rows in self._ranked(
            requests, k, exclude_seen, filters, candidates if rerank else None, clock
        ):
            began = perf_counter()
            for row, ranked in enumerate(rows):
                because = None
                if reasons:
                    history = reading.queries.histories.row(row)
                    because = reasons_for(self.items, ranked.items, history, reading.kinds(row))
                answers.append(recommendations(self.items, ranked, because))
            add_time(clock, "present", began)
        return answers

    def rank(
        self,
        requests: Sequence[Request],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        filters: Filters = ANY,
        candidates: int = 1000,
        rerank: bool = False,
    ) -> list[Ranked]:
        """As `recommend_batch`, as rows of `items` and scores alone: for very many requests."""
        blocks = self._ranked(
            requests, k, exclude_seen, filters, candidates if rerank else None, {}
        )
        return [ranked for _, rows in blocks for ranked in rows]

    def _ranked(
        self,
        requests: Sequence[Request],
        k: int,
        exclude_seen: bool,
        filters: Filters,
        candidates: int | None,
        clock: Timings,
    ) -> Iterator[tuple[Reading, list[Ranked]]]:
        """Block by block; ``candidates`` is None where there is no second stage."""
        _check_k(k)
        second = None if candidates is None else second_stage(self.contents, k, candidates)
        for start in range(0, len(requests), _BLOCK):
            block = requests[start : start + _BLOCK]
            began = perf_counter()
            reading = self._reader.read(block, self._described(block))
            vectors = self._tower.encode(reading.queries)
            began = add_time(clock, "encode", began)
            seen = [reading.seen(row) if exclude_seen else _NOTHING for row in range(len(block))]
            anybody = self.items.open_to(filters)
            found = search_block(self.index, vectors, candidates or k, anybody, seen)
            add_time(clock, "search", began)
            per_row = zip(vectors, seen, zip(*found, strict=True), strict=True)
            rows = []
            for row, (vector, had, first) in enumerate(per_row):
                may_get = anybody.without(had)
                one = Stages(self.index, self.items, vector, may_get, first, clock)
                best = one.best(second, reading.queries, row)
                rows.append(filled(best, k, filters, self.items))
            yield reading, rows

    def _described(self, block: Sequence[Request]) -> list[IndexArray]:
        """Rows of the items that each request's words describe; empty where none has words."""
        if all(one.text is None for one in block):
            return []
        return [
            _NOTHING if one.text is None else self._text.described(one.text, self.items)
            for one in block
        ]

    def similar_items(
        self, item_id: str, k: int = 10, *, filters: Filters = ANY
    ) -> list[Recommendation]:
        """Items that are most like ``item_id``: by the mean cosine of the vectors' parts.

        Raises
        ------
        InputError
            At an unknown item, or ``k`` below 1.
        """
        _check_k(k)
        row = self.items.row(item_id)
        return recommendations(self.items, similar(self.items, row, k, filters))

    def search(self, text: str, k: int = 10, *, filters: Filters = ANY) -> list[Recommendation]:
        """Items whose titles hold the words of ``text`` or, where the bundle can tell, mean it.

        The score is the share of the words that the title holds, weighted by their rarity; with
        a text encoder, the mean of that and of the cosine of text and item. Fewer than ``k``
        come back where fewer have a score above 0.
        """
        _check_k(k)
        scores = np.where(self.items.passing(filters), self._text.scores(text, self.items), 0)

        def best(count: int) -> Ranked:
            items = positive(scores, count)
            return Ranked(items, scores[items])

        return recommendations(self.items, filled(best, k, filters, self.items))

    def title(self, item_id: str) -> str | None:
        """The catalogue's title of an item; `InputError` where the item is unknown."""
        return self.items.titles.rows[self.items.row(item_id)]  # type: ignore[no-any-return]

    @cached_property
    def item_encoder(self) -> ItemEncoder:
        """What encodes new items, or `InputError`."""
        return ItemEncoder(self.contents, self.text_encoder, self._threads)

    def warm(self) -> None:
        """Load what is otherwise loaded at first use; `ArtefactError` where it is broken."""
        _ = self._text
        with suppress(InputError):  # a bundle need not take new items
            _ = self.item_encoder

    @cached_property
    def _text(self) -> TextSearch:
        return TextSearch(self.items, self.text_encoder)

    @cached_property
    def text_encoder(self) -> TextEncoder | None:
        """The encoder of the bundle's texts, or None where it holds none."""
        return text_encoder_of(self.contents, self._threads)


def _check_k(k: int) -> None:
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
