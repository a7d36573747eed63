"""Quality of implicit's BPR by full ranking: the figures that MF is compared with.

    TWOTOWER_DATA=… python benchmarks/implicit_bpr.py

implicit (extra ``bench``) with 64 factors, fitted on the training part alone. Learning rate,
regularisation and epochs are the ones with the best validation NDCG@10 of the grid below; what is
chosen is evaluated on the test part once, by the protocols that this project's models meet.
"""

import argparse
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking
from threadpoolctl import threadpool_limits

from twotower.data import Dataset
from twotower.data.prepare import prepare
from twotower.evaluation.protocols import FULL, validation_ndcg
from twotower.evaluation.provenance import PACKAGES, collect_meta
from twotower.evaluation.results import write_results
from twotower.factors.scorer import FactorScorer
from twotower.workflow.datasets import find_dataset
from twotower.workflow.evaluation import Evaluator

RESULTS: Final = Path(__file__).parent / "results" / "implicit-bpr.json"
FACTORS: Final = 64
LEARNING_RATES: Final = (0.01, 0.05)
REGULARISATIONS: Final = (0.003, 0.01, 0.03)
EPOCHS: Final = (50, 100, 200)


class Trial(NamedTuple):
    """What one setting gave."""

    ndcg: float
    settings: str
    scorer: FactorScorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="video-games", help="name or path")
    parser.add_argument("--epochs", nargs="+", type=int, default=EPOCHS, help="to choose from")
    parser.add_argument("--queries", type=int, default=20_000, help="validation users to choose by")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    started = datetime.now(UTC)
    path, settings = find_dataset(given.dataset)
    dataset = prepare(path, settings=settings)
    best: Trial | None = None
    for rate, weight in itertools.product(LEARNING_RATES, REGULARISATIONS):
        for epochs, scorer in fitted(dataset, rate, weight, given.epochs, given.seed):
            ndcg = validation_ndcg(scorer, dataset, max_queries=given.queries)
            trial = Trial(ndcg, f"lr={rate} reg={weight} epochs={epochs}", scorer)
            print(f"{trial.settings}: validation NDCG@10 {ndcg:.4f}", flush=True)
            if best is None or ndcg > best.ndcg:
                best = trial
    assert best is not None
    evaluator = Evaluator(dataset)
    rows = evaluator.rows("implicit-bpr", {given.seed: evaluator(best.settings, best.scorer)})
    rows.append(
        rows[0].model_copy(
            update={
                "split": f"{rows[0].split}, validation",
                "model": f"implicit-bpr {best.settings}",
                "protocol": FULL,
                "metric": "NDCG@10",
                "value": best.ndcg,
                "low": None,
                "high": None,
                "users": min(given.queries, rows[0].users),
            }
        )
    )
    write_results(given.out, collect_meta(started, packages=(*PACKAGES, "implicit")), rows)
    for row in rows:
        print(f"{row.model} {row.protocol} {row.metric} {row.value:.4f}")


def fitted(
    dataset: Dataset, rate: float, weight: float, epochs: Sequence[int], seed: int
) -> list[tuple[int, FactorScorer]]:
    """Scorers of one fit after each of the numbers of epochs."""
    train = dataset.train
    pairs = sp.csr_matrix(
        (np.ones(len(train.items), np.float32), train.items, train.indptr),
        shape=(len(train), len(dataset.items)),
    )
    # One thread: several race for the factors, and no two fits of a seed would be alike.
    model = BayesianPersonalizedRanking(
        factors=FACTORS,
        learning_rate=rate,
        regularization=weight,
        iterations=max(epochs),
        num_threads=1,
        random_state=seed,
    )
    found = []

    def keep(epoch: int, *_: float) -> None:
        if epoch + 1 in epochs:
            users, items = model.user_factors.copy(), model.item_factors.copy()
            found.append((epoch + 1, FactorScorer(items, lambda q: users[q.users])))

    with threadpool_limits(1, user_api="blas"):
        model.fit(pairs, show_progress=False, callback=keep)
    return found


if __name__ == "__main__":
    main()
