"""What declared columns cost a request: ten of them, and a context too, against none.

::

    python benchmarks/serving_columns.py --out runs/serving-columns

``TWOTOWER_DATA`` names the folder with the shop. The default model is made with the ten columns of
`SCHEMA`, with these and the hour and weekday of `CONTEXT`, and without any, its factors fitted and
its towers as they were drawn, which cost as much as trained ones. The bundles answer the same
requests of known users in alternating rounds, in one process and on one thread; the hour and
weekday are those of now, as a service fills them. Writes
``benchmarks/results/serving-columns.json``: microseconds a request, the ratio to the bundle without
columns in each round (value: the median), and both with a filter by three of the columns.
"""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from twotower.data.declaration import declared
from twotower.data.prepare import prepare
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import Row, write_results
from twotower.index import ExactConfig
from twotower.inference.filters import ANY, Filters
from twotower.inference.pipeline import Pipeline
from twotower.models.build import build_model
from twotower.models.sequence_towers import SequenceConfig
from twotower.reporting.product_names import DEFAULT_MODEL
from twotower.training.fit import Trained
from twotower.training.progress import TrainingState
from twotower.training.sizing import sized
from twotower.workflow.bundling import bundle_contents, write_bundle
from twotower.workflow.datasets import DATA_VARIABLE
from twotower.workflow.models import item_text, named_variant
from twotower.workflow.progress import Silent

RESULTS: Final = Path(__file__).parent / "results" / "serving-columns.json"
SCHEMA: Final[dict[str, Any]] = {
    "items": {
        "brand": "category",
        "tags": "list",
        "colour": "category",
        "price": "number",
        "launch_date": "date",
        "in_stock": {"kind": "flag", "stock": True},
        "name": {"kind": "text", "encoder": "hashing"},
    },
    "users": {"age": "number", "country": "category", "segment": "category"},
}
CONTEXT: Final[dict[str, Any]] = {
    "events": {
        "hour": {"kind": "hour", "time_zone": "Europe/Berlin"},
        "weekday": {"kind": "weekday", "time_zone": "Europe/Berlin"},
    }
}
DECLARATION: Final[dict[str, Any]] = {
    "name": "shop",
    "users": "users.csv",
    "columns": {"user": "customer", "item": "sku", "time": "when"},
}
FILTER: Final = Filters.model_validate(
    {"where": {"colour": {"not": "blau"}, "tags": {"is": ["sale", "bio"]}, "price": {"max": 80}}}
)
USERS: Final = 200


def bundle(root: Path, out: Path, schema: dict[str, Any]) -> Path:
    """The bundle of a model with or without columns; made where it is not there."""
    if out.exists():
        return out
    dataset = prepare(
        root / "shop", declaration=declared({**DECLARATION, "schema": schema}, "shop")
    )
    variant = sized(
        named_variant(DEFAULT_MODEL, "hashing"), dataset.train, in_order=dataset.in_order
    )
    assert isinstance(variant.model, SequenceConfig)
    model = variant.model.vary(choose_factors=False, columns="all" if schema else "none")
    variant = variant.vary(model=model)
    text = item_text(variant, dataset, Silent())
    module = build_model(variant.model, dataset, text)
    module.before_fit(dataset.train, 0, {})
    module.eval()
    trained = Trained(variant, 0, module, TrainingState(dataset.fingerprint))
    write_bundle(
        out,
        bundle_contents(DEFAULT_MODEL, trained, dataset, index=ExactConfig(), new_items=False),
        trained,
    )
    return out


def seconds(pipeline: Pipeline, users: list[str], filters: Filters) -> float:
    """Mean of a request."""
    began = perf_counter()
    for user in users:
        pipeline.recommend(user, k=10, filters=filters)
    return (perf_counter() - began) / len(users)


def main() -> None:
    """Make the bundles, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundles")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        parser.error(f"set {DATA_VARIABLE} to the folder that holds the data sets")
    started = datetime.now(UTC)
    made = {
        name: Pipeline.load(bundle(Path(root), given.out / name, schema))
        for name, schema in (
            ("without", {}),
            ("with", SCHEMA),
            ("with-context", {**SCHEMA, **CONTEXT}),
        )
    }
    users = made["without"].contents.users.ids[:USERS]
    cases = {
        "without columns": (made["without"], ANY),
        "ten columns": (made["with"], ANY),
        "ten columns, filtered by three": (made["with"], FILTER),
        "ten columns, hour and weekday": (made["with-context"], ANY),
    }
    for pipeline, filters in cases.values():
        seconds(pipeline, users, filters)  # warm
    times = np.asarray(
        [
            [seconds(pipeline, users, filters) for pipeline, filters in cases.values()]
            for _ in range(given.rounds)
        ]
    )
    ratios = times / times[:, :1]
    rows = [
        Row.of_repeats(
            values, dataset="shop", split="in process", model=name, protocol="timing",
            metric=metric, users=len(users) * given.rounds,
        )
        for at, name in enumerate(cases)
        for metric, values in (("request-us", 1e6 * times[:, at]), ("ratio", ratios[:, at]))
    ]  # fmt: skip
    write_results(given.results, collect_meta(started), rows)
    for row in rows:
        print(f"{row.model}: {row.metric} {row.value:.4g} ({row.low:.4g} to {row.high:.4g})")


if __name__ == "__main__":
    main()
