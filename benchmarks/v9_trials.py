"""What the parts of v9 are worth, on 20,000 validation users of Video Games 2023.

::

    TWOTOWER_DATA=… python benchmarks/v9_trials.py --model runs/video-games/models/v9/seed-0

writes ``benchmarks/results/v9-trials.json``: the least-squares part in steps from the published
method to ours, at several lengths of a factor, and the trained model's parts alone and together.
The test part is not looked at.
"""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from twotower.data import Dataset, Part
from twotower.evaluation.figures import result_rows
from twotower.evaluation.merge_results import write_merged
from twotower.evaluation.protocols import FULL, evaluate_queries
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, read_results
from twotower.factors.als import ALS, ALSConfig
from twotower.factors.text_smoothing import TextSmoothing
from twotower.models.base import Scorer
from twotower.models.sequence import SequenceTower
from twotower.models.sequence_towers import SequenceConfig
from twotower.workflow.datasets import find_dataset
from twotower.workflow.models import named_variant, saved_model, text_vectors
from twotower.workflow.progress import Silent
from twotower.workflow.run import prepared_dataset
from twotower.workflow.selection import smoother

USERS = 20_000
PLAIN = ALSConfig(popularity_discount=0.0)
PUBLISHED = PLAIN.vary(frequency_power=0.0, recency=1.0, fold_in_confidence=40.0)
NEXT = ALSConfig(next_item=True)
V9 = SequenceConfig()
LENDING = V9.smoothing
assert V9.factors is not None
assert LENDING is not None
OURS = V9.factors.vary(embedding_dim=NEXT.embedding_dim)
LEAST_SQUARES: dict[str, tuple[ALSConfig, TextSmoothing | None]] = {
    "als as published": (PUBLISHED, None),
    "als, penalty by frequency": (PUBLISHED.vary(frequency_power=1.0), None),
    "als, and newer items weigh more": (PLAIN, None),
    "als, and what comes next": (NEXT.vary(next_share=0.0, popularity_discount=0.0), None),
    "als, and a share of the own factor": (NEXT.vary(popularity_discount=0.0), None),
    "als, and popularity discounted": (NEXT, None),
    "als, and like titles lend": (NEXT, LENDING.vary(release_weight=0.0)),
    "als, and the newest item counts more": (OURS, LENDING.vary(release_weight=0.0)),
    "als, and like titles of a time lend": (OURS, LENDING),
    "als, all of it, 64 dimensions": (OURS.vary(embedding_dim=64), LENDING),
    "als, all of it, 128 dimensions": (OURS.vary(embedding_dim=128), LENDING),
    "als, all of it, 224 dimensions": (OURS.vary(embedding_dim=224), LENDING),
    "als, all of it, 384 dimensions": (OURS.vary(embedding_dim=384), LENDING),
}
"""Name → settings, and what an item borrows of items with like titles."""


def least_squares_steps(dataset: Dataset) -> Iterator[tuple[str, Scorer]]:
    """`LEAST_SQUARES`, each made when it is asked for."""
    v9 = named_variant("v9")
    text = text_vectors(dataset, v9.text_encoder, v9.text_fields, Silent())
    smooth = smoother(dataset, text)
    for name, (config, lending) in LEAST_SQUARES.items():
        lend = lending and smooth and partial(smooth, lending)
        yield name, ALS.fit(dataset.train, len(dataset.items), config, smooth=lend)


def model_parts(dataset: Dataset, model: Path) -> Iterator[tuple[str, Scorer]]:
    """A trained v9 and its parts."""
    module = saved_model(model, dataset, Silent()).module
    if not isinstance(module, SequenceTower):
        raise SystemExit(f"{model} is no sequence model")
    yield "v9", module.scorer()
    weight = float(module.factor_weight)
    module.factor_weight.fill_(0.0)
    scales = module.cold_scales.clone()
    # New items are scaled to stand beside factors: without these they would fill every list.
    module.cold_scales[0] = 1.0
    yield "v9, towers alone", module.scorer()
    module.item_map.zero_()
    yield "v9, towers alone, not projected", module.scorer()
    module.factor_weight.fill_(weight)
    module.cold_scales.copy_(scales)
    yield "v9, towers not projected", module.scorer()


def main() -> None:
    """Run the trials and write the results file after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="video-games", help="name or path")
    parser.add_argument("--data", type=Path, default=Path("runs/video-games/dataset"))
    parser.add_argument("--model", type=Path, help="folder of a trained v9")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/v9-trials.json"), help="results file"
    )
    parser.add_argument(
        "--model-only", action="store_true", help="its trials alone; the file keeps the others"
    )
    given = parser.parse_args()
    started = datetime.now(UTC)
    source, settings = find_dataset(given.dataset)
    dataset = prepared_dataset(source, given.data, settings, Silent())
    queries, targets = dataset.held_out(Part.VALIDATION)
    chosen = np.sort(np.random.default_rng(0).permutation(len(queries))[:USERS])
    queries, targets = queries.select(chosen), targets.select(chosen)
    trials = model_parts(dataset, given.model) if given.model else iter(())
    if not given.model_only:
        trials = chain(least_squares_steps(dataset), trials)
    old = read_results(given.out) if given.model_only else None
    rows: list[Row] = []
    for name, scorer in trials:
        found = evaluate_queries(
            scorer, queries, targets, protocols=[FULL], metrics=["HR@10", "HR@50", "NDCG@10"]
        )
        split = "leave-last-two, validation"
        rows += result_rows({0: found}, dataset=dataset.name, split=split, model=name)
        print(name, round(found.mean(FULL, "HR@10"), 4), round(found.mean(FULL, "NDCG@10"), 4))
        write_merged(given.out, old, collect_meta(started), rows)


if __name__ == "__main__":
    main()
