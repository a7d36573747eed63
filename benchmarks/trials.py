"""What each setting of the models is worth, on the validation part of Video Games 2023.

::

    TWOTOWER_DATA=… python benchmarks/trials.py --out runs/trials

writes ``benchmarks/results/video-games-2023-trials.json``: for each trial HR@10 and NDCG@10 by
full ranking on validation, and the seconds and epochs of training. Trials are trained with seed
0; what is trained already is not trained again. The test part is not looked at.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from twotower.console import reporting
from twotower.data import Dataset, Part
from twotower.evaluation.protocols import FULL
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.training.negatives import Uniform
from twotower.training.variant import Variant
from twotower.workflow.datasets import find_dataset
from twotower.workflow.evaluation import Evaluator
from twotower.workflow.models import trained_model
from twotower.workflow.progress import Reporter
from twotower.workflow.run import prepared_dataset
from twotower.workflow.variants import LIGHTGCN, MF, V5, V5_NO_LOG_Q

USER = V5.model.user_tower

TRIALS: dict[str, Variant] = {
    "mf": MF,
    "mf, uniform negatives": MF.vary(negatives=Uniform(count=4)),
    "mf, initial deviation 0.1": MF.vary(model=MF.model.vary(init_std=0.1)),
    "v5": V5,
    "v5, no log-q correction": V5_NO_LOG_Q,
    "v5, a tenth of user ids hidden": V5.vary(
        model=V5.model.vary(user_tower=USER.vary(id_dropout=0.1))
    ),
    "lightgcn": LIGHTGCN,
    "lightgcn, uniform negatives": LIGHTGCN.vary(negatives=Uniform(count=4)),
    "lightgcn, batch 2,048 and learning rate 0.001": LIGHTGCN.vary(
        training=LIGHTGCN.training.vary(batch_size=2048, learning_rate=1e-3)
    ),
}


def main() -> None:
    """Run the trials that are asked for and write the results file after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/trials"), help="trained models")
    parser.add_argument("--dataset", default="video-games", help="name or path")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("benchmarks/results/video-games-2023-trials.json"),
        help="results file",
    )
    given = parser.parse_args()
    started = datetime.now(UTC)
    source, settings = find_dataset(given.dataset)
    rows: list[Row] = []
    with reporting(Console()) as reporter:
        dataset = prepared_dataset(source, given.out / "dataset", settings, reporter)
        evaluator = Evaluator(dataset, part=Part.VALIDATION, protocols=(FULL,), reporter=reporter)
        for name, variant in TRIALS.items():
            rows += trial(name, variant, dataset, given.out, evaluator, reporter)
            write_results(given.results, collect_meta(started), rows)


def trial(
    name: str,
    variant: Variant,
    dataset: Dataset,
    out: Path,
    evaluator: Evaluator,
    reporter: Reporter,
) -> list[Row]:
    """Train one variant and measure it on validation."""
    slug = name.replace(",", "").replace(" ", "-")
    trained = trained_model(variant, dataset, out / "models" / slug, name=name, reporter=reporter)
    rows = evaluator.rows(name, {0: evaluator(name, trained.module.scorer())})
    kept = [row for row in rows if row.metric in ("HR@10", "NDCG@10")]
    return kept + evaluator.timings(name, [trained])


if __name__ == "__main__":
    main()
