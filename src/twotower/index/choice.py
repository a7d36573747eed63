"""Automatic index selection by measured recall and latency."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Final, Literal

from pydantic import Field

from twotower.config import Config
from twotower.errors import ArtefactError
from twotower.index.build import CONFIG_FILE, IndexConfig, named_index
from twotower.index.compare import Measurement, compare
from twotower.index.exact import ExactConfig, FlatConfig
from twotower.index.hnsw import HnswConfig
from twotower.index.ivf import IvfConfig
from twotower.index.pq import PqConfig
from twotower.types import FloatArray

CANDIDATES: Final[tuple[IndexConfig, ...]] = (
    ExactConfig(),
    FlatConfig(),
    *(PqConfig(scored=scored) for scored in (1.5, 2, 2.5, 3)),
    *(
        IvfConfig(numbers="float16", probes=probes, reach=reach)
        for probes, reach in ((16, 6), (32, 9), (64, 12), (128, 16))
    ),
    *(HnswConfig(numbers="float16", ef_search=ef) for ef in (32, 64, 128)),
)
"""Configurations that `AutoConfig` measures; adjacent ones with the same structure share it."""


class IndexChoice(Config):
    """The chosen index, and the measurements behind it."""

    config: IndexConfig
    """Configuration of the chosen index."""
    reason: str
    """Human-readable reason."""
    k: int = Field(ge=1)
    """Largest number of items searched for."""
    items: int = Field(ge=1)
    """Size of the catalogue."""
    queries: int = Field(ge=0)
    """Number of user vectors used as queries."""
    measured: tuple[Measurement, ...] = ()
    """Every candidate at every ``k``; empty if nothing was measured."""


class AutoConfig(Config):
    """The fastest index that reaches a target recall.

    Timings vary between runs, so only a clearly faster index replaces exact search, and the
    measurements are stored with the index.
    """

    kind: Literal["auto"] = "auto"
    recall: float = Field(default=0.99, gt=0, le=1)
    """Minimum recall (share of the true best items found) at every ``k``."""
    gain: float = Field(default=1.2, ge=1)
    """Minimum speed-up over exact search."""
    least_items: int = Field(default=5000, ge=1)
    """Smaller catalogues use exact search without measuring: there is no time to gain."""
    queries: int = Field(default=200, ge=1)
    """Maximum number of user vectors used as queries."""
    candidates: tuple[IndexConfig, ...] = CANDIDATES
    """Configurations to measure; exact search is always added."""

    def choose(self, vectors: FloatArray, queries: FloatArray, ks: Sequence[int]) -> IndexChoice:
        """Measure the candidates as in serving, one query at a time on one thread, and choose.

        Parameters
        ----------
        vectors
            ``(items, dim)`` float32.
        queries
            ``(queries, dim)`` float32; the first `queries` are used.
        ks
            Numbers of items searched for in serving. The recall must be reached at each; the
            geometric mean of the latencies decides, which keeps a large ``k`` from dominating.

        Raises
        ------
        InputError
            As `compare`.
        """
        exact = ExactConfig()
        if len(vectors) < self.least_items or not len(queries):
            few = f"{len(vectors):,} items" if len(queries) else "no queries"
            return IndexChoice(
                config=exact, reason=f"{few}: exact", k=max(ks), items=len(vectors), queries=0
            )
        configs = self.candidates if exact in self.candidates else (exact, *self.candidates)
        used = queries[: self.queries]
        measured = compare(vectors, used, configs, ks)
        best, reason = fastest(measured, self.recall, self.gain)
        return IndexChoice(
            config=best,
            reason=reason,
            k=max(ks),
            items=len(vectors),
            queries=len(used),
            measured=tuple(measured),
        )


def fastest(measured: Sequence[Measurement], recall: float, gain: float) -> tuple[IndexConfig, str]:
    """The configuration that `AutoConfig` chooses from measurements (with exact), and why."""
    per_config: defaultdict[IndexConfig, list[Measurement]] = defaultdict(list)
    for measurement in measured:
        per_config[measurement.config].append(measurement)
    exact = per_config[ExactConfig()]
    kept = [rows for rows in per_config.values() if all(row.recall >= recall for row in rows)]
    best = min(kept, key=_typical_latency)
    ratio = _typical_latency(exact) / _typical_latency(best)
    times = ", ".join(
        f"{row.latency_us:.0f} us at k = {row.k} with recall {row.recall:.4f} "
        f"(exact {slow.latency_us:.0f})"
        for row, slow in zip(best, exact, strict=True)
    )
    compared = f"{best[0].config.kind} takes {times}: {ratio:.2f} times as fast as exact"
    if best is exact or ratio < gain:
        rest = "exact is the fastest" if best is exact else f"{compared}, not {gain}"
        return ExactConfig(), f"{rest}, of those with a recall of {recall} or more"
    return best[0].config, f"{compared}, the fastest with a recall of {recall} or more"


def _typical_latency(rows: Sequence[Measurement]) -> float:
    """Geometric mean of the latencies over the values of ``k``."""
    return geometric_mean([row.latency_us for row in rows])


def named_choice(kind: str) -> IndexConfig | AutoConfig:
    """`AutoConfig` for ``auto``, else `named_index`."""
    return AutoConfig() if kind == "auto" else named_index(kind)


def load_choice(folder: Path) -> IndexChoice | None:
    """The choice that `save_index` stored, if any; `ArtefactError` if the file is broken."""
    path = folder / CONFIG_FILE
    try:
        found = json.loads(path.read_text()).get("choice")
        return None if found is None else IndexChoice.model_validate_json(json.dumps(found))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ArtefactError(
            f"{path} holds no readable choice ({reason}); build the index again"
        ) from error
