"""The least-squares part alone: with the settings of v9, and with those chosen on validation.

::

    python benchmarks/least_squares.py --data runs/beauty/dataset --name beauty-2014 \
        --out benchmarks/results/least-squares-beauty-2014.json

reads a data set that ``twotower prepare`` wrote, chooses the settings as v10 does
(`twotower.workflow.selection`), and asks the test part, full ranking, of the least-squares part
with either settings and of item-kNN and EASE; protocol ``selection`` has the trials and seconds.
"""

import argparse
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from twotower.data import Dataset
from twotower.evaluation.figures import result_rows
from twotower.evaluation.protocols import FULL, evaluate
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.factors.als import ALS
from twotower.models.base import Scorer
from twotower.models.sequence_towers import SequenceConfig
from twotower.workflow.baselines import BASELINES
from twotower.workflow.datasets import find_dataset
from twotower.workflow.evaluation import split_name
from twotower.workflow.models import item_text, named_variant
from twotower.workflow.progress import Silent
from twotower.workflow.run import prepared_dataset
from twotower.workflow.selection import FactorSettings, choose_for, smoother

METRICS: Final = ("HR@10", "NDCG@10")
EASE_ITEMS: Final = 13_000


def main() -> None:
    """Choose, measure, and write the results file after each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", help="name or path, prepared into --data first")
    parser.add_argument("--data", type=Path, required=True, help="prepared data set")
    parser.add_argument("--name", help="of the data set, for the results; default: its own")
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--dim", type=int, help="most dimensions; default: v10's")
    parser.add_argument("--out", type=Path, required=True, help="results file")
    given = parser.parse_args()
    started = datetime.now(UTC)
    if given.dataset is not None:
        source, settings = find_dataset(given.dataset)
        prepared_dataset(source, given.data, settings, Silent())
    dataset = Dataset.load(given.data)
    variant = named_variant("v10", given.text_encoder)
    text = item_text(variant, dataset, Silent())
    config = variant.model
    assert isinstance(config, SequenceConfig)
    assert config.factors is not None
    if given.dim is not None:
        config = config.vary(factors=config.factors.vary(embedding_dim=given.dim))
        variant = variant.vary(model=config)
    assert config.factors is not None
    smooth = smoother(dataset, text)
    rows: list[Row] = []
    name = given.name or dataset.name

    def measured(model: str, scorer: Scorer) -> None:
        found = evaluate(scorer, dataset, protocols=[FULL], metrics=METRICS)
        rows.extend(result_rows({0: found}, dataset=name, split=split_name(dataset), model=model))
        print(
            model, *(f"{metric} {found.mean(FULL, metric):.4f}" for metric in METRICS), flush=True
        )
        write_results(given.out, collect_meta(started), rows)

    def fitted(settings: FactorSettings) -> ALS:
        lend = None
        if smooth is not None and settings.smoothing is not None:
            lend = partial(smooth, settings.smoothing)
        return ALS.fit(dataset.train, len(dataset.items), settings.factors, smooth=lend)

    bought = len(np.unique(dataset.train.items))
    for baseline in ("item-knn", "ease") if bought <= EASE_ITEMS else ("item-knn",):
        measured(baseline, BASELINES[baseline](dataset))
    found = choose_for(variant, dataset, text, 0, Silent())
    assert found is not None
    print(found.settings, len(found.trials), "trials", round(found.seconds), "s", flush=True)
    for metric, value in (("trials", len(found.trials)), ("seconds", found.seconds)):
        rows.append(
            Row(
                dataset=name, split=split_name(dataset), model="least squares, chosen",
                protocol="selection", metric=metric, value=value, users=len(dataset.users),
            )
        )  # fmt: skip
    measured("least squares, chosen", fitted(found.settings))
    measured(
        "least squares, settings of v9",
        fitted(FactorSettings(config.factors, config.smoothing)),
    )


if __name__ == "__main__":
    main()
