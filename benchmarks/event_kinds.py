"""What the kinds of events are worth: learn from all, predict what is bought.

::

    python benchmarks/event_kinds.py --out runs/event-kinds

prepares the shop's log in ``TWOTOWER_DATA`` once, with views, carts and purchases of which
purchases are the target, and returns that take away. The same events, split and targets are then
learned from in three ways:

``alike``
    every event counts the same, and every event is predicted in training;
``weights``
    a view counts 0.2, a cart 0.5, a purchase 1; every event is predicted, by its weight;
``target``
    the same weights of inputs; purchases alone are predicted by a model that reads histories.

Each is measured on held-out purchases, validation and test, for the baselines and the default
model. ``benchmarks/results/event-kinds-shop.json`` is written after each model; what was trained
before is read again from ``--out``.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
from default_model import RESULTS, data_folder, options, prepared, variant_of
from rich.console import Console

from twotower.console import reporting
from twotower.data import Dataset, Part
from twotower.data.declaration import Declaration
from twotower.data.events import EventRules
from twotower.data.readers import ColumnMapping
from twotower.data.settings import PrepareSettings
from twotower.evaluation.protocols import FULL
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.reporting.product_names import DEFAULT_MODEL
from twotower.training.fit import Trained
from twotower.workflow.evaluation import Evaluator
from twotower.workflow.models import trained_model

COLUMNS: Final = ColumnMapping(user="customer", item="sku", time="when", event="kind")
WEIGHTS: Final = {"view": 0.2, "cart": 0.5, "buy": 1.0}
ARMS: Final = ("alike", "weights", "target")
BASELINES: Final = ("popularity", "item-knn", "ease", "als")


def main() -> None:
    parser = options(__doc__, RESULTS / "event-kinds-shop.json")
    parser.add_argument("arms", nargs="*", choices=[*ARMS, []], help="default: all")
    parser.add_argument("--k-core", type=int, default=0)
    parser.add_argument("--no-model", action="store_true", help="baselines alone")
    given = parser.parse_args()
    root, started, variant = data_folder(parser), datetime.now(UTC), variant_of(given)
    declaration = Declaration(
        name="shop",
        columns=COLUMNS,
        events=EventRules(weights=WEIGHTS, target="buy", learn="all"),
        prepare=PrepareSettings(k_core=given.k_core),
    )
    whole = prepared(root / "shop", given.out / "dataset", declaration)
    rows: list[Row] = []
    with reporting(Console(stderr=True)) as reporter:
        for arm in given.arms or ARMS:
            dataset = learning(whole, arm)
            evaluators = [
                Evaluator(dataset, part=part, protocols=(FULL,), reporter=reporter)
                for part in (Part.VALIDATION, Part.TEST)
            ]
            for baseline in BASELINES if arm != "target" else ("als",):
                rows += [row for one in evaluators for row in one.baseline(baseline)]
                write_results(given.results, collect_meta(started), rows)
            if given.no_model:
                continue
            models = []
            for seed in range(given.seeds):
                folder = given.out / arm / f"seed-{seed}"
                models.append(
                    trained_model(
                        variant, dataset, folder, name=DEFAULT_MODEL, seed=seed, reporter=reporter
                    )
                )
            rows += [row for one in evaluators for row in measured(one, models, arm)]
            write_results(given.results, collect_meta(started), rows)


def learning(dataset: Dataset, arm: str) -> Dataset:
    """The same events, learned from in another way; its name says which."""
    log = dataset.interactions
    assert log.rules is not None
    assert log.weights is not None
    if arm == "alike":
        log = replace(log, weights=np.ones_like(log.weights))
    elif arm == "target":
        log = replace(log, rules=log.rules.model_copy(update={"learn": "target"}))
    return replace(dataset, name=f"{dataset.name}-{arm}", interactions=log)


def measured(evaluator: Evaluator, models: list[Trained], arm: str) -> Iterator[Row]:
    runs = {one.seed: evaluator(f"{arm} seed {one.seed}", one.module.scorer()) for one in models}
    yield from evaluator.rows(DEFAULT_MODEL, runs)


if __name__ == "__main__":
    main()
