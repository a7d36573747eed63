"""From a request to its items: user tower, index, re-ranking, seen items left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from twotower.data import Histories, Queries, columns
from twotower.errors import InputError
from twotower.index import search_excluding
from twotower.index.exact import top_k
from twotower.serving.bundle import load_bundle
from twotower.serving.contents import BundleContents
from twotower.serving.requests import Request, RequestReader
from twotower.serving.rerank import Reranker
from twotower.serving.user_tower import UserTower
from twotower.types import FloatArray, OffsetArray

_BLOCK: Final = 1024  # requests held at once


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One recommended item.

    Attributes
    ----------
    item_id
        External id.
    title
        The catalogue's title, where it has one.
    score
        What ranked it: of the last stage, comparable only within one answer.
    rank
        From 1.
    """

    item_id: str
    title: str | None
    score: float
    rank: int


class Pipeline:
    """Answers requests from one bundle's contents. It keeps no state between requests.

    Parameters
    ----------
    contents
        A bundle's contents, loaded or just made.
    threads
        Threads that one run of the user tower may use.
    """

    def __init__(self, contents: BundleContents, threads: int = 1) -> None:
        self.contents = contents
        self._tower = UserTower(contents, threads)
        self._reader = RequestReader(contents.users, contents.items, contents.histories)
        self._titles: list[str | None] = contents.catalogue[columns.TITLE].to_list()

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> Self:
        """From a bundle's folder; `ArtefactError` where it is broken."""
        return cls(load_bundle(folder).contents, threads)

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] = (),
        k: int = 10,
        *,
        exclude_seen: bool = True,
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
        exclude_seen
            Leave out items of the history, stored or given.
        candidates
            Items that the index hands to the re-ranker, at least ``k``.
        rerank
            Order the candidates by the bundle's re-ranker.

        Raises
        ------
        InputError
            At an unknown user without a history, an unknown item, an empty request, ``k`` below
            1, fewer candidates than ``k``, or ``rerank`` where the bundle has no re-ranker.
        """
        request = Request(user_id, history)
        (answer,) = self.recommend_batch(
            [request], k, exclude_seen=exclude_seen, candidates=candidates, rerank=rerank
        )
        return answer

    def recommend_batch(
        self,
        requests: Sequence[Request],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: int = 1000,
        rerank: bool = False,
    ) -> list[list[Recommendation]]:
        """One answer per request, in their order; parameters and errors as `recommend`."""
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        reranker = self._reranker(k, candidates) if rerank else None
        answers = []
        for start in range(0, len(requests), _BLOCK):
            queries = self._reader.queries(requests[start : start + _BLOCK])
            excluded = queries.histories if exclude_seen else _nothing(len(queries))
            scores, items = self._retrieve(queries, candidates if reranker else k, excluded)
            if reranker is not None:
                scores, order = top_k(reranker.scores(queries, items), k)
                items = np.take_along_axis(items, order, axis=1)
            answers += self._present(scores, items)
        return answers

    def similar_items(self, item_id: str, k: int = 10) -> list[Recommendation]:
        """Items whose vectors have the largest inner product with that of ``item_id``.

        Two-tower vectors have length 1, so this is their cosine.

        Raises
        ------
        InputError
            At an unknown item, or ``k`` below 1.
        """
        contents = self.contents
        item = contents.items.index(item_id)
        itself = Histories.from_lists([[item]])
        found = search_excluding(contents.index, contents.item_vectors[[item]], k, itself)
        return self._present(*found)[0]

    def title(self, item_id: str) -> str | None:
        """The catalogue's title of an item; `InputError` where the item is unknown."""
        return self._titles[self.contents.items.index(item_id)]

    def _reranker(self, k: int, candidates: int) -> Reranker:
        reranker = self.contents.reranker
        if reranker is None:
            raise InputError(
                f"bundle of {self.contents.info.model} has no re-ranker",
                "pass rerank=False, or save a bundle with re-ranker vectors",
            )
        if candidates < k:
            raise InputError(f"candidates must be at least k {k}, got {candidates}")
        return reranker

    def _retrieve(
        self, queries: Queries, k: int, excluded: Histories
    ) -> tuple[FloatArray, OffsetArray]:
        return search_excluding(self.contents.index, self._tower.encode(queries), k, excluded)

    def _present(self, scores: FloatArray, items: OffsetArray) -> list[list[Recommendation]]:
        ids, titles = self.contents.items.ids, self._titles
        return [
            [
                Recommendation(ids[item], titles[item], score, rank)
                for rank, (item, score) in enumerate(zip(*row, strict=True), start=1)
                if item >= 0  # padding
            ]
            for row in zip(items.tolist(), scores.tolist(), strict=True)
        ]


def _nothing(rows: int) -> Histories:
    return Histories.from_lists([[]] * rows)
