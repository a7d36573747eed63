"""A bundle that is being shown, and what is worked out from it once."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np

from twotower.bundle.comparison_models import Peer
from twotower.bundle.manifest import Manifest
from twotower.bundle.storage import Bundle, load_bundle
from twotower.demo.baselines import Rivals
from twotower.demo.engine import Engine, InProcess, OverHttp
from twotower.demo.finder import TitleFinder
from twotower.demo.projection import CatalogueMap, Projection
from twotower.demo.scenarios import Scenario, scenarios
from twotower.demo.style import COLOURS
from twotower.errors import ArtefactError, TwoTowerError
from twotower.inference.item_table import ItemTable
from twotower.inference.options import RecommendOptions
from twotower.inference.pipeline import Pipeline
from twotower.inference.requests import Request
from twotower.types import BoolArray, OffsetArray

MAPPED: Final = 6000
"""Points that a browser draws without a pause."""
_EXAMPLES: Final = 50


@dataclass(frozen=True)
class Item:
    """What is shown of an item; None where the catalogue does not say."""

    item_id: str
    title: str
    category: str | None
    price: float | None


@dataclass(frozen=True)
class Opened:
    """A bundle, ready to be shown. What costs something is worked out at first use, and kept.

    Attributes
    ----------
    folder
        Of the bundle.
    manifest
        Its manifest.
    pipeline
        Over its contents.
    engine
        Who answers.
    served
        The model version that answers.
    """

    folder: Path
    manifest: Manifest
    pipeline: Pipeline
    engine: Engine
    served: str

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
    def finder(self) -> TitleFinder:
        """Finds titles."""
        return TitleFinder(self.items.titles.rows.tolist(), self.counts)

    @cached_property
    def scenarios(self) -> list[Scenario]:
        """First picks."""
        return scenarios(self.items, self.counts)

    @cached_property
    def rivals(self) -> Rivals:
        """Simpler models."""
        return Rivals(self.pipeline.contents)

    @cached_property
    def peers(self) -> dict[str, Peer]:
        """Other models by name that the bundle carries to be compared with."""
        return Bundle(self.folder, self.manifest, self.pipeline.contents).peers()

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
        """Users with histories long enough to tell something, short enough to read."""
        contents = self.pipeline.contents
        lengths = contents.histories.lengths
        fit = np.flatnonzero((lengths >= 8) & (lengths <= 20))
        rows = fit if len(fit) else np.argsort(-lengths, kind="stable")[:_EXAMPLES]
        spread = rows[:: max(len(rows) // _EXAMPLES, 1)][:_EXAMPLES]
        return [contents.users.ids[row] for row in spread.tolist()]

    @cached_property
    def found_users(self) -> list[str]:
        """Those of the examples whose last item is among ten that their other items lead to."""
        users = [self.pipeline.contents.users.index(one) for one in self.example_users]
        asked = [self.pipeline.contents.histories.row(user).tolist() for user in users]
        fit = [
            place for place, rows in enumerate(asked) if len(rows) > 1 and rows[-1] not in rows[:-1]
        ]
        requests = [
            Request(history=[self.item(row).item_id for row in asked[place][:-1]]) for place in fit
        ]
        ranked = self.pipeline.rank(requests, RecommendOptions(10)) if requests else []
        return [
            self.example_users[place]
            for place, of in zip(fit, ranked, strict=True)
            if asked[place][-1] in of.items.tolist()
        ]

    @cached_property
    def map(self) -> CatalogueMap:
        """The most popular items on the map, in the colours of the largest categories."""
        rows = np.sort(self.by_popularity[:MAPPED])
        names = self.categories[: len(COLOURS)]
        of = {self.items.names.index(name): number for number, name in enumerate(names)}
        dim = self.pipeline.contents.tower_dim
        return CatalogueMap(
            self.projection.points(self.items.vectors.rows[rows, :dim]),
            np.asarray([of.get(code, -1) for code in self.items.categories.rows[rows].tolist()]),
            names,
            [self.item(row).title for row in rows.tolist()],
        )

    @cached_property
    def categories(self) -> list[str]:
        """Names, most items first."""
        codes = self.items.categories.rows
        sizes = np.bincount(codes[codes >= 0], minlength=len(self.items.names))
        return [self.items.names[code] for code in np.argsort(-sizes, kind="stable").tolist()]

    @cached_property
    def prices(self) -> list[float]:
        """Steps for a price limit: round numbers at five shares of the catalogue."""
        known = self.items.prices.rows[np.isfinite(self.items.prices.rows)]
        if not len(known):
            return []
        steps = np.quantile(known, [0.1, 0.3, 0.5, 0.7, 0.9])
        return sorted({float(f"{step:.1g}") for step in steps.tolist() if step > 0})

    def warm(self) -> None:
        """Make ready what is otherwise made at first use; what is broken is said then."""
        with suppress(TwoTowerError):
            self.pipeline.warm()
        with suppress(TwoTowerError):
            _ = self.peers
        _ = self.items.franchises, self.map, self.found_users

    def item(self, row: int) -> Item:
        """What is shown of a row."""
        code, price = int(self.items.categories.rows[row]), float(self.items.prices.rows[row])
        item_id = self.items.ids.rows[row]
        return Item(
            item_id,
            self.items.titles.rows[row] or f"Item {item_id}, without a title",
            self.items.names[code] if code >= 0 else None,
            None if np.isnan(price) else price,
        )

    def shown(self, item_id: str, title: str | None = None) -> Item:
        """What is shown of an id, also of one that a service has and the bundle has not."""
        row = self.items.find(item_id)
        return self.item(row) if row is not None else Item(item_id, title or item_id, None, None)

    def without(self, item_ids: list[str]) -> BoolArray:
        """``(items,)`` all open items but these."""
        passing = self.items.open.copy()
        passing[self.items.indices(item_ids)] = False
        return passing
