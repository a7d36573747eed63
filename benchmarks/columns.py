"""What each declared column is worth, by the default model.

::

    python benchmarks/columns.py ml-100k --out runs/columns --epochs 30
    python benchmarks/columns.py ml-100k --out runs/columns --epochs 30 --whole --seeds 3
    python benchmarks/columns.py shop --out runs/columns --epochs 5 --text-encoder hashing

``TWOTOWER_DATA`` names the folder of the data sets. Writes
``benchmarks/results/columns-<name>.json``: the default model with all declared columns and times,
with neither, and without each in turn, with paired intervals; and users who were held out of
training, known by their columns alone, against popularity. The file is written after each model;
what was trained before is read again from ``--out``. ``--whole`` compares all with none alone, in
``columns-whole-<name>.json``. `twotower ablate --columns` does the same for other data.
"""

from datetime import UTC, datetime
from typing import Any, Final

from default_model import data_folder, options, prepared, variant_of
from rich.console import Console

from twotower.console import reporting
from twotower.data.declaration import declared
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import write_results
from twotower.study.columns import ColumnStudy, ablate_columns

DECLARATIONS: Final[dict[str, dict[str, Any]]] = {
    "ml-100k": {
        "users": "ml-100k.user",
        "schema": {
            "items": {"class": {"kind": "list", "separator": " "}, "release_year": "date"},
            "users": {"age": "number", "gender": "category", "occupation": "category"},
            "events": {"hour": "hour", "weekday": "weekday"},
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
    parser = options(__doc__)
    parser.add_argument("name", choices=list(DECLARATIONS))
    parser.add_argument("--whole", action="store_true", help="all columns against none alone")
    given = parser.parse_args()
    root, started, out = data_folder(parser), datetime.now(UTC), given.out / given.name
    declaration = declared({"name": given.name, **DECLARATIONS[given.name]}, given.name)
    dataset = prepared(root / given.name, out / "dataset", declaration)
    variant = variant_of(given)

    def write(study: ColumnStudy) -> None:
        kind = "columns-whole" if given.whole else "columns"
        file = given.results / f"{kind}-{given.name}.json"
        write_results(file, collect_meta(started), study.rows, differences=study.differences)

    with reporting(Console(stderr=True)) as reporter:
        ablate_columns(
            dataset,
            out,
            variant,
            seeds=given.seeds,
            each=not given.whole,
            reporter=reporter,
            measured=write,
        )


if __name__ == "__main__":
    main()
