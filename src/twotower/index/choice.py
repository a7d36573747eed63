"""Let the measured times choose an index."""

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
"""What `AutoConfig` measures. Those of one structure stand beside each other and share it."""


class Choice(Config):
    """Which index was chosen, and why."""

    config: IndexConfig
    """The one that was chosen."""
    reason: str
    """In words."""
    k: int = Field(ge=1)
    """The most items that were asked for."""
    items: int = Field(ge=1)
    """How many there were."""
    queries: int = Field(ge=0)
    """User vectors that were asked with."""
    measured: tuple[Measurement, ...] = ()
    """Every candidate at every ``k``; empty where there was no need to measure."""


class AutoConfig(Config):
    """The fastest index that keeps the recall.

    Times differ from run to run, so exact search, which needs no trust, is left only for what is
    clearly faster, and what was measured is kept with the index.
    """

    kind: Literal["auto"] = "auto"
    recall: float = Field(default=0.99, gt=0, le=1)
    """Share of the true best items that must be found, at every ``k``."""
    gain: float = Field(default=1.2, ge=1)
    """How many times as fast as exact search another must be to be chosen."""
    least_items: int = Field(default=5000, ge=1)
    """With fewer, search is exact and nothing is measured: there is no time to win."""
    queries: int = Field(default=200, ge=1)
    """User vectors to ask with, at most."""
    candidates: tuple[IndexConfig, ...] = CANDIDATES
    """What is measured. Exact search is always among it."""

    def choose(self, vectors: FloatArray, queries: FloatArray, ks: Sequence[int]) -> Choice:
        """Measure the candidates, one query at a time, and choose.

        Parameters
        ----------
        vectors
            ``(items, dim)`` float32.
        queries
            ``(queries, dim)`` float32; the first `queries` are used.
        ks
            Numbers of items that are asked for in use. Recall must be kept at each; the geometric
            mean of the times decides, so that none of them counts more for taking longer.

        Raises
        ------
        InputError
            As `compare`.
        """
        exact = ExactConfig()
        if len(vectors) < self.least_items or not len(queries):
            few = f"{len(vectors):,} items" if len(queries) else "no queries"
            return Choice(
                config=exact, reason=f"{few}: exact", k=max(ks), items=len(vectors), queries=0
            )
        configs = self.candidates if exact in self.candidates else (exact, *self.candidates)
        asked = queries[: self.queries]
        measured = compare(vectors, asked, configs, ks)
        best, reason = fastest(measured, self.recall, self.gain)
        return Choice(
            config=best,
            reason=reason,
            k=max(ks),
            items=len(vectors),
            queries=len(asked),
            measured=tuple(measured),
        )


def fastest(measured: Sequence[Measurement], recall: float, gain: float) -> tuple[IndexConfig, str]:
    """The rule of `AutoConfig`, and its reason, over what was measured; one of it is exact."""
    per_config: defaultdict[IndexConfig, list[Measurement]] = defaultdict(list)
    for one in measured:
        per_config[one.config].append(one)
    exact = per_config[ExactConfig()]
    kept = [rows for rows in per_config.values() if all(one.recall >= recall for one in rows)]
    best = min(kept, key=_typical_latency)
    ratio = _typical_latency(exact) / _typical_latency(best)
    times = ", ".join(
        f"{one.latency_us:.0f} us at k = {one.k} with recall {one.recall:.4f} "
        f"(exact {slow.latency_us:.0f})"
        for one, slow in zip(best, exact, strict=True)
    )
    compared = f"{best[0].config.kind} takes {times}: {ratio:.2f} times as fast as exact"
    if best is exact or ratio < gain:
        rest = "exact is the fastest" if best is exact else f"{compared}, not {gain}"
        return ExactConfig(), f"{rest}, of those with a recall of {recall} or more"
    return best[0].config, f"{compared}, the fastest with a recall of {recall} or more"


def _typical_latency(rows: Sequence[Measurement]) -> float:
    """Geometric mean over what was asked for."""
    return geometric_mean([one.latency_us for one in rows])


def named_choice(kind: str) -> IndexConfig | AutoConfig:
    """``auto``, or what `named_index` has under a name."""
    return AutoConfig() if kind == "auto" else named_index(kind)


def load_choice(folder: Path) -> Choice | None:
    """What `save_index` kept of a choice, or None where there was none.

    Raises
    ------
    ArtefactError
        Where ``index.json`` is missing or broken.
    """
    path = folder / CONFIG_FILE
    try:
        found = json.loads(path.read_text()).get("choice")
        return None if found is None else Choice.model_validate_json(json.dumps(found))
    except (OSError, ValueError, AttributeError) as error:
        what = " ".join(str(error).split())
        raise ArtefactError(
            f"{path} holds no readable choice ({what}); build the index again"
        ) from error
