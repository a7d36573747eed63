r"""What known items pay for new ones to be shown: v9 on a hold-out, with and without them.

::

    python benchmarks/new_items_cost.py --data runs/video-games-new/data \
        --model runs/video-games-new/models/v9/seed-0

asks every user of the hold-out (see ``docs/evaluation.md``) for an item that training has events
of, with what stands for the factors of the other items and without it, full ranking, on the
validation part, by which the scales of `twotower.features.ColdItems` were chosen, and on the test
part: protocols ``new-items-shown`` and ``new-items-left-out``. ``change`` is one over the other,
less 1.
"""

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from twotower.data import Dataset, Part
from twotower.evaluation.figures import result_rows
from twotower.evaluation.protocols import FULL, evaluate_queries
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.factors.scorer import trained_items
from twotower.models.sequence import SequenceTower
from twotower.workflow.models import saved_model
from twotower.workflow.progress import Silent

METRICS = ("HR@10", "HR@50", "NDCG@10")
SHOWN, HIDDEN, CHANGE = "new-items-shown", "new-items-left-out", "change"


def rows_of(dataset: Dataset, module: SequenceTower, part: Part) -> Iterator[Row]:
    """The figures of both, and the change."""
    queries, targets = dataset.held_out(part)
    known = trained_items(dataset.train, len(dataset.items))[targets.items]
    asked = np.flatnonzero(known & (queries.histories.lengths > 0))
    queries, targets = queries.select(asked), targets.select(asked)
    name, values = part.name.lower(), {}
    for protocol, context in ((HIDDEN, module.without_cold_items()), (SHOWN, nullcontext())):
        with context:
            found = evaluate_queries(
                module.scorer(), queries, targets, protocols=[FULL], metrics=METRICS
            )
        values[protocol] = {metric: found.mean(FULL, metric) for metric in METRICS}
        figures = result_rows({0: found}, dataset=dataset.name, split="hold-out", model=name)
        yield from (row.model_copy(update={"protocol": protocol}) for row in figures)
    for metric in METRICS:
        change = values[SHOWN][metric] / values[HIDDEN][metric] - 1
        print(f"{name}: {metric} {values[SHOWN][metric]:.4f}, {change:+.2%}", flush=True)
        yield Row(
            dataset=dataset.name, split="hold-out", model=name, protocol=CHANGE, metric=metric,
            value=change, users=len(asked),
        )  # fmt: skip


def main() -> None:
    """Measure both parts and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="what 'hold-out' wrote")
    parser.add_argument("--model", type=Path, required=True, help="a v9 trained on it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/new-items-cost.json"))
    given = parser.parse_args()
    started = datetime.now(UTC)
    dataset = Dataset.load(given.data)
    module = saved_model(given.model, dataset, Silent()).module
    if not isinstance(module, SequenceTower):
        raise SystemExit(f"{given.model} is no sequence model")
    rows = [row for part in (Part.VALIDATION, Part.TEST) for row in rows_of(dataset, module, part)]
    write_results(given.out, collect_meta(started), rows)


if __name__ == "__main__":
    main()
