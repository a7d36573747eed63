"""Why BPR with hard negatives collapses on cosines, and what repairs it, on the bundled sample.

    python benchmarks/bpr_collapse.py

trains v4, v4-bpr and what lies between v4-bpr and v4-bpr-fixed, with hashed titles and seed 0.
For each: HR@10 and NDCG@10 by full ranking on validation, and ``item-mean-norm``, the length of
the mean of all unit item vectors: 1 where all items are in one point.
"""

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from twotower.data import Part
from twotower.data.prepare import prepare
from twotower.evaluation.protocols import FULL
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.training.negatives import Uniform
from twotower.training.variant import Variant
from twotower.workflow.datasets import find_dataset
from twotower.workflow.evaluation import Evaluator
from twotower.workflow.models import train_variant
from twotower.workflow.variants import V4, V4_BPR, V4_BPR_FIXED

RESULTS = Path(__file__).parent / "results" / "bpr-collapse.json"
UNIFORM = Uniform(count=4)
TRIALS: dict[str, Variant] = {
    "v4": V4,
    "v4-bpr": V4_BPR,
    "v4-bpr, scaled": V4_BPR.vary(loss=V4_BPR_FIXED.loss),
    "v4-bpr, margin": V4_BPR.vary(negatives=V4_BPR_FIXED.negatives),
    "v4-bpr-fixed": V4_BPR_FIXED,
    "v4-bpr, uniform negatives": V4_BPR.vary(negatives=UNIFORM),
    "v4-bpr, uniform negatives, scaled": V4_BPR_FIXED.vary(negatives=UNIFORM),
}


def main() -> None:
    """Run the trials and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="sample", help="name or path")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--models", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    given = parser.parse_args()
    started = datetime.now(UTC)
    source, settings = find_dataset(given.dataset)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = prepare(source, settings=settings, out=Path(folder) / "dataset")
    evaluator = Evaluator(dataset, part=Part.VALIDATION, protocols=(FULL,))
    for name in given.models:
        variant = TRIALS[name]
        training = variant.training.vary(epochs=given.epochs)
        trained = train_variant(variant.vary(training=training, text_encoder="hashing"), dataset)
        scorer = trained.module.scorer()
        found = evaluator.rows(name, {0: evaluator(name, scorer)})
        rows += [row for row in found if row.metric in ("HR@10", "NDCG@10")]
        norm = float(np.linalg.norm(scorer.item_vectors().mean(axis=0)))
        changed = {"metric": "item-mean-norm", "value": norm, "low": None, "high": None}
        rows.append(found[0].model_copy(update=changed))
        print(f"{name}: {rows[-3].value:.4f} {rows[-2].value:.4f} {norm:.3f}", flush=True)
    write_results(given.out, collect_meta(started), rows)


if __name__ == "__main__":
    main()
