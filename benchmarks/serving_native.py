"""The calls of one request that are not Python, with every input laid out beforehand."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from twotower.bundle.blend import LONG_RECENCY, Blend, ItemLinks
from twotower.bundle.contents import BundleContents
from twotower.data import Histories, Queries
from twotower.factors.fold_in import column_norms
from twotower.index import ItemIndex
from twotower.index.faiss_index import FaissIndex
from twotower.inference.pipeline import Pipeline
from twotower.inference.retrieval import depth
from twotower.inference.user_tower import UserTower, open_session
from twotower.types import FloatArray, IndexArray, OffsetArray

Search = Callable[[FloatArray, int], tuple[FloatArray, OffsetArray]]


class NativeCalls:
    """Runs them for the request of a number; what they give is thrown away.

    Parameters
    ----------
    pipeline
        Whose calls they are.
    histories
        Item ids of each request.
    candidates
        Items that the second stage gets; None for no second stage.
    """

    def __init__(
        self, pipeline: Pipeline, histories: list[list[str]], candidates: int | None
    ) -> None:
        contents = pipeline.contents
        contents = pipeline.contents
        self._session = open_session(contents.user_tower)
        self._search = searcher(pipeline.index)
        tower = UserTower(contents)
        spectrum = None if contents.factors is None else column_norms(contents.factors)
        self._requests = []
        for history in histories:
            rows = contents.items.indices(history)
            queries = Queries.anonymous(Histories.from_lists([rows.tolist()]))
            vector = tower.encode(queries)
            count = depth((candidates or 10) + len(rows), len(pipeline.items), 0)
            count = min(count, pipeline.index.size)
            items = self._search(vector, count)[1][0][:candidates]
            self._requests.append(
                (
                    tower.feed(queries),
                    None if spectrum is None else System.of(contents, rows, spectrum),
                    vector,
                    count,
                    None if candidates is None else Second.of(contents, rows, items),
                )
            )

    def __call__(self, request: int) -> None:
        """The calls of one request."""
        feed, system, vector, count, second = self._requests[request]
        self._session.run(None, feed)
        if system is not None:
            system.solve()
        self._search(vector, count)
        if second is not None:
            second.sum_up()


class System(NamedTuple):
    """The linear system of one fold-in: see `twotower.factors.fold_in`."""

    own: FloatArray
    scaled: FloatArray
    ridge: FloatArray
    wanted: FloatArray

    @classmethod
    def of(cls, contents: BundleContents, rows: IndexArray, spectrum: FloatArray) -> "System":
        """Gather it for a history."""
        info = contents.info.fold_in
        assert info is not None
        assert contents.factors is not None
        own = contents.factors[rows]
        weights = info.confidence * info.recency ** np.arange(len(rows))[::-1]
        weights = np.maximum(weights, 1e-6).astype(np.float32)
        return cls(own, own / (spectrum + info.regularisation), np.diag(1 / weights), 1 + weights)

    def solve(self) -> FloatArray:
        """The user's vector."""
        kernel = self.scaled @ self.own.T
        taken = np.linalg.solve(kernel + self.ridge, kernel @ self.wanted)
        vector: FloatArray = (self.wanted - taken) @ self.scaled
        return vector


class Links(NamedTuple):
    """Links from the items of a history, laid out to be summed up."""

    items: IndexArray
    values: FloatArray

    @classmethod
    def of(cls, links: ItemLinks, rows: IndexArray, recency: float) -> "Links":
        """Gather those of a history's items, oldest first."""
        weights = (recency ** np.arange(len(rows))[::-1]).astype(np.float32)
        spans = [slice(*links.indptr[row : row + 2].tolist()) for row in rows.tolist()]
        weighted = zip(weights, spans, strict=True)
        return cls(
            np.concatenate([links.items[span] for span in spans]),
            np.concatenate([weight * links.weights[span] for weight, span in weighted]),
        )


class Second(NamedTuple):
    """What the second stage sums up and multiplies: see `twotower.bundle.blend`."""

    blend: Blend
    length: int
    links: tuple[Links, ...]
    items: OffsetArray
    about: FloatArray
    signals: FloatArray

    @classmethod
    def of(cls, contents: BundleContents, rows: IndexArray, items: OffsetArray) -> "Second":
        """Gather it for a history and its candidates."""
        blend = contents.reranker
        assert isinstance(blend, Blend)
        age = np.arange(len(rows))[::-1]
        none = np.zeros(len(items), np.float32)
        links = [
            Links.of(blend.neighbours, rows, blend.recency),
            Links.of(blend.transitions, rows, blend.transition_recency),
        ]
        if blend.network is not None:
            links.append(Links.of(blend.neighbours, rows, LONG_RECENCY))
        return cls(
            blend,
            len(rows),
            tuple(links),
            items,
            (blend.text_recency**age).astype(np.float32) @ blend.text[rows],
            blend.signals(rows, items, none, none),
        )

    def sum_up(self) -> FloatArray:
        """The candidates' scores, but for what is added to them in Python."""
        scores = self.blend.combined(self.signals, self.length)
        scores += self.blend.text[self.items] @ self.about
        for links in self.links:
            sums = np.zeros(self.blend.num_items, np.float32)
            np.add.at(sums, links.items, links.values)
            scores += sums[self.items]
        return scores


def searcher(index: ItemIndex) -> Search:
    """The search without what surrounds it: FAISS's own, where FAISS it is."""
    if not isinstance(index, FaissIndex):
        return index.search
    faiss_index = index._index

    def search(queries: FloatArray, k: int) -> tuple[FloatArray, OffsetArray]:
        parameters = index._parameters(k)
        found: tuple[FloatArray, OffsetArray] = faiss_index.search(queries, k, params=parameters)
        return found

    return search
