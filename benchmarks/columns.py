"""What each declared column is worth, by the default model.

::

    python benchmarks/columns.py ml-100k --out runs/columns
    python benchmarks/columns.py shop --out runs/columns

``TWOTOWER_DATA`` names the folder of the data sets. Writes
``benchmarks/results/columns-<name>.json``: the default model with all declared columns, without
any, and without each in turn, with paired intervals; and users who were held out of training, known
by their columns alone, against popularity. The file is written after each model; what was trained
before is read again from ``--out``. `twotower ablate --columns` does the same for other data.
"""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from twotower.console import reporting
from twotower.data import Dataset
from twotower.data.declaration import declared
from twotower.data.prepare import prepare
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import write_results
from twotower.study.columns import ColumnStudy, ablate_columns
from twotower.workflow.datasets import DATA_VARIABLE
from twotower.workflow.models import named_variant
from twotower.workflow.variants import DEFAULT_MODEL

RESULTS: Final = Path(__file__).parent / "results"
DECLARATIONS: Final[dict[str, dict[str, Any]]] = {
    "ml-100k": {
        "users": "ml-100k.user",
        "schema": {
            "items": {"class": {"kind": "list", "separator": " "}, "release_year": "date"},
            "users": {"age": "number", "gender": "category", "occupation": "category"},
        },
    },
    "shop": {
        "users": "users.csv",
        "columns": {"user": "customer", "item": "sku", "time": "when"},
        "schema": {
            "items": {
                "brand": "category",
                "tags": "list",
                "colour": "category",
                "price": "number",
                "launch_date": "date",
                "in_stock": {"kind": "flag", "stock": True},
            },
            "users": {"age": "number", "country": "category", "segment": "category"},
        },
    },
}
"""What a ``dataset.toml`` in the folder would say."""


def main() -> None:
    """Prepare, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(DECLARATIONS))
    parser.add_argument("--out", type=Path, required=True, help="folder for data and models")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--epochs", type=int, help="at most; default: what validation says")
    given = parser.parse_args()
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        parser.error(f"set {DATA_VARIABLE} to the folder that holds the data sets")
    started, out = datetime.now(UTC), given.out / given.name
    if (out / "dataset").exists():
        dataset = Dataset.load(out / "dataset")
    else:
        declaration = declared({"name": given.name, **DECLARATIONS[given.name]}, given.name)
        dataset = prepare(Path(root) / given.name, declaration=declaration, out=out / "dataset")
    variant = named_variant(DEFAULT_MODEL, given.text_encoder)
    if given.epochs is not None:
        variant = variant.with_epochs(given.epochs)

    def write(study: ColumnStudy) -> None:
        file = given.results / f"columns-{given.name}.json"
        write_results(file, collect_meta(started), study.rows, differences=study.differences)

    with reporting(Console(stderr=True)) as reporter:
        ablate_columns(dataset, out, variant, seeds=given.seeds, reporter=reporter, measured=write)


if __name__ == "__main__":
    main()
