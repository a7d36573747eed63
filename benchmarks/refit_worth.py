"""What a refit on all interactions is worth: the newest item of each user is hidden from both.

::

    python benchmarks/refit_worth.py --data runs/ml-100k/dataset --out runs/refit-ml-100k

takes a data set that ``twotower prepare`` split by leave-last-two, hides the newest interaction of
each user altogether, and splits what is left again. The default model is trained and chosen on
that as ever, and refitted on all of it; then both are asked for the hidden item, with everything
else as the history. Rows are named ``v10`` and ``v10-refit``, and ``+rerank`` with the second
stage; protocol ``full``, in ``benchmarks/results/refit-<data set>.json``. Run again, it goes on
where it stopped.
"""

import argparse
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from twotower.console import reporting
from twotower.data import Dataset, Part
from twotower.data.splits import leave_last_two
from twotower.evaluation.figures import result_rows
from twotower.evaluation.protocols import FULL, evaluate
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.factors.popularity import Popularity
from twotower.models.base import Scorer
from twotower.reporting.product_names import DEFAULT_MODEL, RERANKED
from twotower.training.variant import Variant
from twotower.workflow.models import named_variant, trained_model
from twotower.workflow.refit import refit, refit_blend, refit_folder
from twotower.workflow.reranking import both_stages, fitted_blend

RESULTS: Final = Path(__file__).parent / "results"
SPLIT: Final = "leave-last-two, newest hidden"


def main() -> None:
    """Train, refit, and ask both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="prepared data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--name", help="of the data set, for the results; default: its own")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--epochs", type=int, help="at most; default: what validation says")
    given = parser.parse_args()
    dataset = Dataset.load(given.data)
    variant = named_variant(DEFAULT_MODEL, given.text_encoder)
    if given.epochs is not None:
        variant = variant.with_epochs(given.epochs)
    name = given.name or dataset.name
    measure(name, dataset, variant, given.out, given.results / f"refit-{name}.json")


def without_newest(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The data set without each user's newest interaction, and one in which that is the test."""
    log = dataset.interactions
    newest = np.zeros(len(log.items), dtype=np.bool_)
    newest[log.indptr[1:][log.lengths > 1] - 1] = True
    seen = log.keep(~newest)
    asked = np.where(newest, Part.TEST, Part.TRAIN).astype(np.uint8)
    return (
        replace(dataset, interactions=seen, split=leave_last_two(seen.indptr)),
        replace(dataset, split=asked),
    )


def measure(name: str, dataset: Dataset, variant: Variant, out: Path, file: Path) -> None:
    """Write the results file after each model."""
    started = datetime.now(UTC)
    known, asked = without_newest(dataset)
    rows: list[Row] = []

    def ask(model: str, scorer: Scorer) -> None:
        found = evaluate(scorer, asked, protocols=[FULL])
        rows.extend(result_rows({0: found}, dataset=name, split=SPLIT, model=model))
        print(model, f"NDCG@10 {found.mean(FULL, 'NDCG@10'):.4f}", flush=True)
        write_results(file, collect_meta(started), rows)

    ask("popularity", Popularity.fit(known.interactions, len(known.items)))
    folder = out / "seed-0"
    with reporting(Console(stderr=True)) as reporter:
        model = trained_model(variant, known, folder, name=DEFAULT_MODEL, reporter=reporter)
        blend = fitted_blend(model, known, reporter)
        again = refit(DEFAULT_MODEL, model, known, refit_folder(folder), reporter=reporter)
    for label, fitted, second in (
        (DEFAULT_MODEL, model, blend),
        (f"{DEFAULT_MODEL}-refit", again, refit_blend(blend, again, known)),
    ):
        scorer = fitted.module.scorer()
        ask(label, scorer)
        ask(label + RERANKED, both_stages(scorer, second, dataset))


if __name__ == "__main__":
    main()
