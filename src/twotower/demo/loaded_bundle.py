"""Loaded bundle of the demo, with data derived from it once and cached."""

import gc
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Thread
from typing import Any, Final, Self

import numpy as np

from twotower.bundle.comparison_models import ComparisonModel
from twotower.bundle.manifest import Manifest
from twotower.bundle.storage import Bundle, load_bundle
from twotower.demo.baselines import Baselines
from twotower.demo.covers import Covers, data_summary, image_folder
from twotower.demo.engine import Engine, InProcess, OverHttp
from twotower.demo.finder import TitleFinder
from twotower.demo.projection import CatalogueMap, Projection
from twotower.demo.scenarios import Scenario, presentable, scenarios
from twotower.demo.style import COLOURS
from twotower.errors import ArtefactError, TwoTowerError
from twotower.index import top_k_of
from twotower.inference.filters import categories_of
from twotower.inference.item_table import ItemTable
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request
from twotower.service.trim_memory import trim_memory
from twotower.types import BoolArray, OffsetArray

WARMING: Final = "twotower-warm"
"""Name of the thread that prepares a bundle's cached data."""
MAPPED: Final = 6000
"""Points that a browser draws without delay."""
_EXAMPLES: Final = 50


@dataclass(frozen=True)
class Item:
    """Item data that is shown; None where the catalogue lacks it."""

    item_id: str
    title: str
    category: str | None
    price: float | None
    image: str | None = None
    """What an ``img`` element shows: an address, or a picture as a ``data:`` URL."""
    currency: str | None = None


@dataclass(frozen=True)
class LoadedBundle:
    """A bundle with its pipeline; expensive properties are computed at first use and kept."""

    folder: Path
    manifest: Manifest
    pipeline: Pipeline
    engine: Engine
    served: str
    """Model version of the engine."""

    @classmethod
    def of(cls, folder: Path, api: str | None = None, api_key: str | None = None) -> Self:
        """Load a bundle; `ArtefactError` where it is broken or holds no items."""
        bundle = load_bundle(folder)
        if not len(bundle.contents.items):
            raise ArtefactError(f"{folder} holds no items; save a bundle with a catalogue")
        pipeline = Pipeline(bundle.contents)
        if api is None:
            version = bundle.manifest.model_version
            return cls(folder, bundle.manifest, pipeline, InProcess(pipeline), version)
        service = OverHttp(api, api_key)
        return cls(folder, bundle.manifest, pipeline, service, service.model_version())

    @property
    def items(self) -> ItemTable:
        """The items by row."""
        return self.pipeline.items

    @cached_property
    def counts(self) -> OffsetArray:
        """``(items,)`` interactions of each item."""
        counts: OffsetArray = np.bincount(
            self.pipeline.contents.histories.items, minlength=len(self.items)
        )
        return counts

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """Counts of `prepare`, where the prepared data set stands beside the bundle."""
        return data_summary(self.folder, self.manifest.info.dataset_fingerprint)

    @cached_property
    def currency(self) -> str | None:
        """The currency of all prices, where the catalogue names one and no other."""
        named = ((self.summary or {}).get("catalogue") or {}).get("currencies") or []
        return str(named[0]) if len(named) == 1 else None

    @cached_property
    def covers(self) -> Covers:
        """Cover images."""
        return Covers(self.pipeline.contents.catalogue, image_folder(self.summary))

    @cached_property
    def showcase(self) -> BoolArray:
        """``(items,)`` of the bundle's items those whose titles are `presentable`."""
        titles = self.items.titles.rows[: self.items.bundled]
        return np.asarray([presentable(title) for title in titles], dtype=np.bool_)

    @cached_property
    def finder(self) -> TitleFinder:
        """Title search."""
        return TitleFinder(self.items.titles.rows.tolist(), self.counts)

    @cached_property
    def scenarios(self) -> list[Scenario]:
        """Suggested first picks."""
        return scenarios(self.items, self.counts)

    @cached_property
    def baselines(self) -> Baselines:
        """Simpler models and parts of the served one."""
        return Baselines(self.pipeline.contents)

    @cached_property
    def comparison_models(self) -> dict[str, ComparisonModel]:
        """Name → comparison model that the bundle carries."""
        return Bundle(self.folder, self.manifest, self.pipeline.contents).comparison_models()

    @cached_property
    def projection(self) -> Projection:
        """The map of the items' tower vectors."""
        return Projection.of(self.items.vectors.rows[:, : self.pipeline.contents.tower_dim])

    @cached_property
    def by_popularity(self) -> OffsetArray:
        """Rows, most popular first."""
        order: OffsetArray = np.argsort(-self.counts, kind="stable")
        return order

    @cached_property
    def example_users(self) -> list[str]:
        """Users whose histories are long enough to be informative and short enough to read."""
        contents = self.pipeline.contents
        lengths = contents.histories.lengths
        fit = np.flatnonzero((lengths >= 8) & (lengths <= 20))
        rows = fit if len(fit) else np.argsort(-lengths, kind="stable")[:_EXAMPLES]
        spread = rows[:: max(len(rows) // _EXAMPLES, 1)][:_EXAMPLES]
        return [contents.users.ids[row] for row in spread.tolist()]

    @cached_property
    def found_users(self) -> list[str]:
        """Example users whose last item is among the ten best for their other items."""
        fit: dict[str, list[int]] = {}
        for user in self.example_users:
            rows = self.history(user)
            if len(rows) > 1 and rows[-1] not in rows[:-1]:
                fit[user] = rows
        ids = self.items.ids.rows
        requests = [Request(history=ids[rows[:-1]].tolist()) for rows in fit.values()]
        ranked = self.pipeline.rank(requests, RecommendOptions(10)) if requests else []
        return [
            user
            for (user, rows), answer in zip(fit.items(), ranked, strict=True)
            if rows[-1] in answer.items
        ]

    @cached_property
    def opening_user(self) -> str:
        """The user to begin with: one whose hidden item is found, and is not merely popular."""
        for user in self.found_users:
            rows = self.history(user)
            unseen = np.ones(self.items.bundled, dtype=np.bool_)
            unseen[rows[:-1]] = False
            if rows[-1] not in top_k_of(self.baselines.popularity, 10, unseen):
                return user
        return next(iter([*self.found_users, *self.example_users]))

    @cached_property
    def map(self) -> CatalogueMap:
        """Map of the most popular items, coloured by the largest categories."""
        rows = np.sort(self.by_popularity[:MAPPED])
        names = self.categories[: len(COLOURS)]
        of = {
            code: names.index(first)
            for code, field in enumerate(self.items.names)
            if (first := categories_of(field)[0]) in names
        }
        dim = self.pipeline.contents.tower_dim
        return CatalogueMap(
            self.projection.points(self.items.vectors.rows[rows, :dim]),
            np.asarray([of.get(code, -1) for code in self.items.categories.rows[rows].tolist()]),
            names,
            [self.title(row) for row in rows.tolist()],
        )

    @cached_property
    def category_sizes(self) -> dict[str, int]:
        """Category → number of its items, largest first; an item may have several."""
        codes = self.items.categories.rows
        fields = np.bincount(codes[codes >= 0], minlength=len(self.items.names)).tolist()
        sizes: Counter[str] = Counter()
        for name, size in zip(self.items.names, fields, strict=True):
            sizes.update(dict.fromkeys(categories_of(name), size))
        return dict(sizes.most_common())

    @cached_property
    def categories(self) -> list[str]:
        """Category names, largest first."""
        return list(self.category_sizes)

    @cached_property
    def prices(self) -> list[float]:
        """Choices of a price limit: rounded quantiles of the catalogue."""
        known = self.items.prices.rows[np.isfinite(self.items.prices.rows)]
        if not len(known):
            return []
        steps = np.quantile(known, [0.1, 0.3, 0.5, 0.7, 0.9])
        return sorted({float(f"{step:.1g}") for step in steps.tolist() if step > 0})

    def warm(self) -> None:
        """Compute the cached properties ahead; errors are raised at first use instead."""
        with suppress(TwoTowerError):
            self.pipeline.warm()
        with suppress(TwoTowerError):
            _ = self.comparison_models
        _ = self.items.franchises, self.map
        if len(self.pipeline.contents.users):
            _ = self.opening_user

    def history(self, user: str) -> list[int]:
        """Rows of the items of a user of the bundle, oldest first."""
        contents = self.pipeline.contents
        rows: list[int] = contents.histories.row(contents.users.index(user)).tolist()
        return rows

    def title(self, row: int) -> str:
        """Title of a row, or words in its place."""
        title: str | None = self.items.titles.rows[row]
        return title or f"Item {self.items.ids.rows[row]}, without a title"

    def item(self, row: int) -> Item:
        """Item of a row."""
        code, price = int(self.items.categories.rows[row]), float(self.items.prices.rows[row])
        item_id = self.items.ids.rows[row]
        return Item(
            item_id,
            self.title(row),
            self.items.names[code] if code >= 0 else None,
            None if np.isnan(price) else price,
            self.covers.source(row) if row < self.items.bundled else None,
            self.currency,
        )

    def shown(self, item_id: str, title: str | None = None) -> Item:
        """Item of an id, also of an id that a service has and the bundle lacks."""
        row = self.items.find(item_id)
        return self.item(row) if row is not None else Item(item_id, title or item_id, None, None)

    def without(self, item_ids: list[str]) -> BoolArray:
        """``(items,)`` mask of all open items without these."""
        passing = self.items.eligible.copy()
        passing[self.items.indices(item_ids)] = False
        return passing


@lru_cache(maxsize=2)
def open_once(folder: str, version: str, api: str | None, api_key: str | None) -> LoadedBundle:
    """Load a bundle once per version: a bundle saved anew to the folder is loaded again.

    Data of the first page is ready on return; a thread prepares the rest.
    """
    del version
    loaded = LoadedBundle.of(Path(folder), api, api_key)
    _ = loaded.finder, loaded.scenarios, loaded.baselines.popularity
    gc.freeze()  # the garbage collector need not traverse this while the rest is prepared
    Thread(target=_warm, args=(loaded,), name=WARMING, daemon=True).start()
    return loaded


def _warm(loaded: LoadedBundle) -> None:
    """Prepare the rest, and release the memory of a replaced bundle."""
    loaded.warm()
    trim_memory()
