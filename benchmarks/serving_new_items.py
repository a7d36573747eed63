"""New users and new items of real franchises, through the service as it answers.

    python benchmarks/serving_new_items.py --bundle runs/video-games/bundle

A franchise is told from titles (`twotower.inference.filters.franchise`), with at least five items.

``new-users``: a cold-start user browsed three items of a franchise. ``franchise@10`` is the share
franchises of which another item is among the ten recommended, ``franchise-or-category@10`` the
share where one is, or one of the category that most of the three have. Popularity and item-kNN,
fitted on the same histories, answer the same requests.

``new-items``: a real item's title, category and price are added under a new id, and the next
request asks for the items similar to a sibling: another item of the franchise. ``siblings@10`` is
the share of siblings whose ten similar items hold the new one, ``franchises@10`` the share of
franchises with such a sibling, of at most five looked at.
"""

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from twotower.data import Histories, Queries
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.factors.item_knn import ItemKNN
from twotower.factors.popularity import Popularity
from twotower.inference.filters import franchise
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.service.service import Service
from twotower.service.settings import ServeSettings
from twotower.service.state.records import ItemFields
from twotower.types import FloatArray

RESULTS: Final = Path(__file__).parent / "results" / "serving-new-items.json"
BROWSED: Final = 3
SMALLEST: Final = 5
SIBLINGS: Final = 5
K: Final = 10
Recommender = Callable[[list[int]], list[int]]
"""Rows of the ten items for rows that were browsed."""


class Franchise(NamedTuple):
    """One franchise of the catalogue, as rows."""

    items: frozenset[int]
    browsed: list[int]
    added: int
    siblings: list[int]
    category: str | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--franchises", type=int, default=500, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        state = f"sqlite:///{folder}/state.sqlite3"
        service = Service(ServeSettings(bundle=given.bundle, state_url=state))
        contents = service.pipeline.contents
        catalogue = contents.catalogue
        if "category" not in catalogue.columns:
            catalogue = catalogue.with_columns(category=None)
        categories = catalogue["category"].cast(str).to_list()
        found = franchises(catalogue["title"].to_list(), categories, given.franchises, given.seed)
        everybody = np.arange(len(contents.items), dtype=np.int32)

        def add(model: str, protocol: str, metric: str, hits: Sequence[bool]) -> None:
            rows.append(
                Row(
                    dataset=contents.info.dataset, split="bundle", model=model, protocol=protocol,
                    metric=metric, value=float(np.mean(hits)), users=len(hits),
                )
            )  # fmt: skip
            print(f"{model:12s} {protocol:10s} {metric:26s} {rows[-1].value:.4f} of {len(hits)}")

        def served(rerank: bool) -> Recommender:
            options = RecommendOptions(K, rerank=rerank, strict=False)

            def answer(browsed: list[int]) -> list[int]:
                wanted = Request(history=[contents.items.ids[row] for row in browsed])
                (found,) = service.pipeline.answers([wanted], options)
                return contents.items.indices(one.item_id for one in found.items).tolist()

            return answer

        recommenders = {contents.info.model: served(rerank=False)}
        if contents.reranker is not None:
            recommenders[f"{contents.info.model}+rerank"] = served(rerank=True)
        log = contents.histories
        popularity = Popularity.fit(log, len(everybody))
        neighbours = ItemKNN.fit(log, len(everybody))
        recommenders["popularity"] = best_of(lambda _: popularity.counts)
        recommenders["item-knn"] = best_of(lambda queries: neighbours.scores(queries)[0])
        for name, recommend in recommenders.items():
            answers = [recommend(one.browsed) for one in found]
            pairs = list(zip(found, answers, strict=True))
            same = [not one.items.isdisjoint(answer) for one, answer in pairs]
            alike = [
                one.category is not None and one.category in {categories[row] for row in answer}
                for one, answer in pairs
            ]
            either = [a or b for a, b in zip(same, alike, strict=True)]
            add(name, "new-users", f"franchise@{K}", same)
            add(name, "new-users", f"franchise-or-category@{K}", either)

        seen: list[list[bool]] = []
        known = set(ItemFields.model_fields) - {"item_id"}
        for number, one in enumerate(found):
            fields = {n: v for n, v in catalogue.row(one.added, named=True).items() if n in known}
            item_id = f"new-{number}"
            service.create_item(ItemFields(**{**fields, "item_id": item_id}))
            lists = [
                service.pipeline.similar_items(contents.items.ids[row], K) for row in one.siblings
            ]
            seen.append([item_id in {near.item_id for near in items} for items in lists])
        name = contents.info.model
        add(name, "new-items", f"siblings@{K}", [hit for hits in seen for hit in hits])
        add(name, "new-items", f"franchises@{K}", [any(hits) for hits in seen])
        service.close()
    write_results(given.out, collect_meta(started, packages=(*PACKAGES, "onnxruntime")), rows)


def franchises(
    titles: Sequence[str | None], categories: Sequence[str | None], most: int, seed: int
) -> list[Franchise]:
    """At most so many franchises, drawn, and in each what is browsed and what is added."""
    rng = np.random.default_rng(seed)
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, title in enumerate(titles):
        name = franchise(title)
        if name is not None:
            rows[name].append(row)
    large = [members for members in rows.values() if len(members) >= SMALLEST]
    chosen = rng.permutation(len(large))[:most].tolist()
    found = []
    for members in (large[place] for place in chosen):
        drawn = rng.permutation(members).tolist()
        browsed, added, others = drawn[:BROWSED], drawn[BROWSED], drawn[BROWSED + 1 :]
        siblings = [*others, *browsed][:SIBLINGS]
        named = Counter(categories[row] for row in browsed if categories[row] is not None)
        usual = named.most_common(1)
        found.append(
            Franchise(frozenset(members), browsed, added, siblings, usual[0][0] if usual else None)
        )
    return found


def best_of(scores_of: Callable[[Queries], FloatArray]) -> Recommender:
    """Recommends the highest scores, without what was browsed."""

    def answer(browsed: list[int]) -> list[int]:
        scores = scores_of(Queries.anonymous(Histories.from_lists([browsed]))).astype(np.float64)
        scores[browsed] = -np.inf
        return np.argsort(-scores, kind="stable")[:K].tolist()

    return answer


if __name__ == "__main__":
    main()
