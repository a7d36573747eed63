"""Users of whom only attributes are known, against popularity, over vectors of least squares.

::

    python benchmarks/attributes.py ml-100k --out runs/columns
    python benchmarks/attributes.py shop --out runs/columns

``TWOTOWER_DATA`` names the folder of the data sets. A fifth of the users is held out of training
and asked for all that they had, by their declared columns alone: the regression that the default
model uses for them (`twotower.factors.attributes`), over the item vectors of the baseline ``als``.
It takes seconds, where `columns.py` trains the default model. Writes
``benchmarks/results/attributes-<name>.json``.
"""

from datetime import UTC, datetime
from typing import Final

import numpy as np
from columns import DECLARATIONS
from default_model import data_folder, options, prepared

from twotower.data import Dataset, Histories, Queries
from twotower.data.declaration import declared
from twotower.data.holdouts import hold_out, of_new_users
from twotower.evaluation.figures import result_rows
from twotower.evaluation.protocols import FULL, evaluate_queries
from twotower.evaluation.provenance import collect_meta
from twotower.evaluation.results import write_results
from twotower.factors.attributes import AttributeRegression
from twotower.factors.popularity import Popularity
from twotower.factors.scorer import FactorScorer
from twotower.models.sequence_towers import read_columns
from twotower.study.ablation.summary import compared, corrected
from twotower.study.columns import ATTRIBUTES, NEW_SHARE, NEW_USERS, POPULARITY
from twotower.types import FloatArray
from twotower.workflow.baselines import BASELINES

METRICS: Final = ("HR@10", "NDCG@10", "Precision@10", "Recall@20")
SPLIT: Final = "new-users"


def scorers(held: Dataset) -> dict[str, FactorScorer | Popularity]:
    """By attributes, and by popularity, both fitted on the users who were not held out."""
    items = BASELINES["als"](held).item_vectors()
    columns = read_columns(held)
    users = columns.users  # row 0 is a user of whom nothing is known
    known = users.take(np.arange(1, len(users.codes)))
    fitted = AttributeRegression.fit(known, columns.user_encoders.rows, held.train, items)

    def vectors(queries: Queries) -> FloatArray:
        return fitted(users.take(queries.users.astype(np.int64) + 1))

    return {
        ATTRIBUTES: FactorScorer(items, vectors),
        POPULARITY: Popularity.fit(held.train, len(held.items)),
    }


def main() -> None:
    """Prepare, hold out, and measure."""
    parser = options(__doc__)
    parser.add_argument("name", choices=list(DECLARATIONS))
    given = parser.parse_args()
    root, started = data_folder(parser), datetime.now(UTC)
    declaration = declared({"name": given.name, **DECLARATIONS[given.name]}, given.name)
    folder = given.out / given.name / "dataset"
    held = hold_out(prepared(root / given.name, folder, declaration), users=NEW_SHARE, items=0)
    asked = held.interactions.keep(of_new_users(held))
    users = np.flatnonzero(asked.lengths).astype(np.int32)
    queries = Queries(users, Histories.from_lists([[]] * len(users)))
    found = {
        name: evaluate_queries(
            scorer, queries, asked.select(users), protocols=(FULL,), metrics=METRICS
        )
        for name, scorer in scorers(held).items()
    }
    rows = [
        row.model_copy(update={"protocol": NEW_USERS, "seeds": []})
        for name, evaluation in found.items()
        for row in result_rows({0: evaluation}, dataset=given.name, split=SPLIT, model=name)
    ]
    gains = found[ATTRIBUTES].values[FULL] - found[POPULARITY].values[FULL]  # (users, metrics)
    differences = corrected(
        compared(
            gains, METRICS, dataset=given.name, split=SPLIT, model=ATTRIBUTES, parent=POPULARITY,
            protocol=NEW_USERS, seeds=[], parent_seeds=[],
        )
    )  # fmt: skip
    file = given.results / f"attributes-{given.name}.json"
    write_results(file, collect_meta(started), rows, differences=differences)
    for one in differences:
        print(f"{one.metric}: {one.value:+.4f} [{one.low:.4f}, {one.high:.4f}], p {one.p:.4f}")


if __name__ == "__main__":
    main()
