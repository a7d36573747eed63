"""Discovery of the results files that belong to a bundle."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

import orjson

from twotower.demo.loaded_bundle import LoadedBundle
from twotower.demo.settings import DemoSettings
from twotower.errors import TwoTowerError
from twotower.evaluation.registry import FULL
from twotower.evaluation.results import Difference, Results, Row, read_results
from twotower.reporting.product_names import with_product_names
from twotower.reporting.study_results import QUALITY, StudyFigures

Figure = TypeVar("Figure", Row, Difference)
_SIZE: Final = re.compile(r"index-(?P<items>\d+)x(?P<width>\d+)")
_COMMITTED: Final = Path("benchmarks") / "results"


@dataclass(frozen=True)
class Figures:
    """Results files that could be read, and those that could not."""

    files: dict[Path, Results]
    broken: dict[Path, str]
    """Files that look like results and cannot be read, with the reason."""

    def studies(self) -> list[tuple[str, str]]:
        """Pairs of data set and split with figures; only figures of one pair are comparable."""
        return list(
            dict.fromkeys(
                (row.dataset, row.split) for results in self.files.values() for row in results.rows
            )
        )

    def of(self, dataset: str, split: str) -> list[Results]:
        """Results of one data set and split."""
        cut = [
            results.model_copy(
                update={
                    "rows": _only(results.rows, dataset, split),
                    "differences": _only(results.differences, dataset, split),
                    "absent": [absent for absent in results.absent if absent.dataset == dataset],
                }
            )
            for results in self.files.values()
        ]
        return [results for results in cut if results.rows]

    def own_first(self, dataset: str, places: Sequence[Path]) -> "Figures":
        """Only the files of these places, where one of them has figures of the data set."""
        own = {
            path: results
            for path, results in self.files.items()
            if any(path == place.resolve() or path.parent == place.resolve() for place in places)
        }
        if any(row.dataset == dataset for results in own.values() for row in results.rows):
            return Figures(own, self.broken)
        return self


def own_places(bundle: Path) -> list[Path]:
    """Where a bundle's own figures stand: beside it, or in it."""
    bundle = bundle.resolve()
    return [bundle.parent / "results.json", bundle / "results.json", bundle / "results"]


def places(bundle: Path, given: Sequence[Path]) -> list[Path]:
    """Paths to search: the given ones, else the committed results and the bundle's own.

    The committed results lie below the working folder or, in a checkout, below its root; a
    bundle's own are in its folder or beside it, and count where both have a figure.
    """
    if given:
        return list(given)
    checkout = Path(__file__).resolve().parents[3]
    return [_COMMITTED, checkout / _COMMITTED, *own_places(bundle)]


def find_figures(where: Iterable[Path]) -> Figures:
    """Read every results file of these files and folders, each once."""
    files: dict[Path, Results] = {}
    broken: dict[Path, str] = {}
    for path in filter(_looks_like_results, _files(where)):
        try:
            files[path] = with_product_names(read_results(path))
        except TwoTowerError as error:
            broken[path] = str(error)
    return Figures(files, broken)


def best_first(figures: StudyFigures) -> StudyFigures:
    """Figures sorted by quality, by full ranking where it was measured."""
    rows = [row for row in figures.rows if row.metric == QUALITY]
    protocols = [row.protocol for row in rows]
    name = FULL if FULL in protocols else next(iter(protocols), FULL)
    quality = {row.model: row.value for row in rows if row.protocol == name}
    return replace(
        figures, rows=sorted(figures.rows, key=lambda row: -quality.get(row.model, -math.inf))
    )


def figures_of(loaded: LoadedBundle, settings: DemoSettings) -> Figures:
    """Results files of a bundle, read again when one of them changes."""
    return _figures(stamp(places(loaded.folder, settings.results)))


@lru_cache(maxsize=4)
def _figures(stamped: tuple[tuple[Path, int], ...]) -> Figures:
    return find_figures(path for path, _ in stamped)


@dataclass(frozen=True)
class Size:
    """Measurements of indexes of one size."""

    items: int
    width: int
    """Length of a vector."""
    rows: Sequence[Row]

    def of(self, metric: str) -> dict[str, Row]:
        """Kind of index → its figure."""
        return {row.model: row for row in self.rows if row.metric == metric}


def sizes(figures: Figures, dataset: str) -> list[Size]:
    """Measurements of ``twotower bench index`` on a data set, narrow and small first."""
    rows: dict[tuple[int, int], list[Row]] = {}
    for results in figures.files.values():
        for row in results.rows:
            size = _SIZE.fullmatch(row.protocol)
            if size and row.dataset == dataset:
                rows.setdefault((int(size["width"]), int(size["items"])), []).append(row)
    return [Size(items, width, rows[width, items]) for width, items in sorted(rows)]


def stamp(where: Iterable[Path]) -> tuple[tuple[Path, int], ...]:
    """JSON files among these files and folders with their modification times, as a cache key."""
    return tuple((path, path.stat().st_mtime_ns) for path in _files(where))


def _files(where: Iterable[Path]) -> list[Path]:
    """Each once."""
    found = (
        path.resolve()
        for place in where
        for path in (sorted(place.glob("*.json")) if place.is_dir() else [place])
    )
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _only(figures: Sequence[Figure], dataset: str, split: str) -> list[Figure]:
    return [found for found in figures if (found.dataset, found.split) == (dataset, split)]


def _looks_like_results(path: Path) -> bool:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return True  # `read_results` raises the reason
    return isinstance(content, dict) and {"meta", "rows"} <= set(content)
