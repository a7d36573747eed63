"""The default model, with default settings, on every data set that is there.

::

    python benchmarks/datasets.py --out runs/datasets            # all of them
    python benchmarks/datasets.py --out runs/datasets beauty-2014-no-text ml-1m --seeds 3

``TWOTOWER_DATA`` names the folder that holds them; one that is absent is left out, and named.
Each writes ``benchmarks/results/datasets-<name>.json``: ours (one index, and both stages), the
baselines, masked (``full``) and unmasked, training seconds and peak memory. Where the log has
times, ours is also told when the target came (``full-timed``), as it knows the time of a request in
service; published results differ in just that. Models are fitted on
the training part, histories at test time are train + validation. What was trained before is read
again from ``--out``, and so is what a run that was killed had; the time is in the model, and the
memory stays that of the file that is there, if it is of the same training.
"""

import math
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from default_model import data_folder, options, prepared, variant_of
from rich.console import Console

from twotower.console import reporting
from twotower.data.declaration import Declaration
from twotower.data.readers import ColumnMapping
from twotower.data.settings import PrepareSettings
from twotower.evaluation.protocols import FULL
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.registry import FULL_TIMED, FULL_UNMASKED
from twotower.evaluation.results import Row, read_results, write_results
from twotower.reporting.product_names import DEFAULT_MODEL
from twotower.training.fit import Trained
from twotower.training.variant import Variant
from twotower.workflow.datasets import DATA_VARIABLE
from twotower.workflow.evaluation import Evaluator, evaluate_seeds
from twotower.workflow.models import trained_model
from twotower.workflow.reranking import fitted_once

EASE_ITEMS: Final = 13_000
"""EASE inverts a matrix of as many rows: beyond this it is left out."""


@dataclass(frozen=True)
class Source:
    """Where a data set lies below the folder of data sets, and how it is prepared.

    Nothing here says anything of the model.
    """

    path: str
    k_core: int = 0
    catalogue: str | None = None
    columns: ColumnMapping = field(default_factory=ColumnMapping)


_SHOP: Final = ColumnMapping(user="customer", item="sku", time="when")
SOURCES: Final = {
    "video-games-2023": Source("video-games-2023"),
    "beauty-2014": Source("beauty-2014"),
    "beauty-2014-no-text": Source("beauty-2014/interactions.parquet", catalogue="none"),
    "ml-1m": Source("ml-1m"),
    "ml-100k": Source("ml-100k", k_core=5),
    "shop": Source("shop", k_core=5, columns=_SHOP),
    "shop-k-core-1": Source("shop", k_core=1, columns=_SHOP),
    "shop-k-core-0": Source("shop", columns=_SHOP),
}
"""Those with a published split are prepared as it was published: leave-last-two."""


def main() -> None:
    """Each data set in a process of its own, so that its peak memory is its own."""
    parser = options(__doc__)
    parser.add_argument("names", nargs="*", choices=[*SOURCES, []], help="default: all")
    given = parser.parse_args()
    root = data_folder(parser)
    names = given.names or list(SOURCES)
    if len(names) == 1:
        measure(names[0], root, given.out / names[0], given.seeds, given.results, variant_of(given))
        return
    for name in names:
        if not (root / SOURCES[name].path).exists():
            print(f"{name} is left out: {SOURCES[name].path} is not in {DATA_VARIABLE}")
            continue
        command = [sys.executable, __file__, name, "--out", str(given.out)]
        command += ["--seeds", str(given.seeds), "--results", str(given.results)]
        command += ["--text-encoder", given.text_encoder]
        command += [] if given.epochs is None else ["--epochs", str(given.epochs)]
        subprocess.run(command, check=True)


def measure(name: str, root: Path, out: Path, seeds: int, results: Path, variant: Variant) -> None:
    """Prepare, train and evaluate; the results file is written after each model."""
    started = datetime.now(UTC)
    source = SOURCES[name]
    declaration = Declaration(
        name=name,
        catalogue=source.catalogue,
        columns=source.columns,
        prepare=PrepareSettings(k_core=source.k_core),
    )
    dataset = prepared(root / source.path, out / "dataset", declaration)
    print(f"{name}: {len(dataset.users):,} users, {len(dataset.items):,} items", flush=True)
    file, rows = results / f"datasets-{name}.json", list[Row]()
    folders = [out / DEFAULT_MODEL / f"seed-{seed}" for seed in range(seeds)]
    read = folders[-1].exists()
    before = read_results(file).rows if read and file.exists() else []
    with reporting(Console(stderr=True)) as reporter:
        protocols = (FULL, FULL_UNMASKED)
        evaluator = Evaluator(dataset, protocols=protocols, reporter=reporter)
        baselines = ["popularity", "item-knn", "als"]
        if len(dataset.items) <= EASE_ITEMS:
            baselines.insert(2, "ease")
        for baseline in baselines:
            rows += evaluator.baseline(baseline)
            write_results(file, collect_meta(started), rows)
        if dataset.interactions.timestamps is not None:
            evaluator = Evaluator(dataset, protocols=(*protocols, FULL_TIMED), reporter=reporter)
        trained = list[Trained]()

        def models() -> Iterator[Trained]:
            for seed, folder in enumerate(folders):
                trained.append(
                    trained_model(
                        variant, dataset, folder, name=DEFAULT_MODEL, seed=seed, reporter=reporter
                    )
                )
                yield trained[-1]

        found = evaluate_seeds(
            DEFAULT_MODEL, models(), dataset, evaluator, fitted_once(dataset, reporter)
        )
        rows += found.one_stage + found.two_stages
        timings = evaluator.timings(DEFAULT_MODEL, trained)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = timings[0].model_copy(
        update={"metric": "peak-memory-mb", "value": peak, "low": peak, "high": peak}
    )
    rows += [*timings, *(kept_memory(before, timings[0]) if read else [memory])]
    write_results(file, collect_meta(started), rows)


def kept_memory(before: Sequence[Row], seconds: Row) -> list[Row]:
    """The memory that an earlier file has of the training that took so many seconds."""
    of_timing = {row.metric: row for row in before if row.protocol == seconds.protocol}
    earlier = of_timing.get(seconds.metric)
    if earlier is None or not math.isclose(earlier.value, seconds.value, rel_tol=1e-4):
        return []
    return [of_timing["peak-memory-mb"]] if "peak-memory-mb" in of_timing else []


if __name__ == "__main__":
    main()
