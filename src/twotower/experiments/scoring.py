"""Evaluate baselines and trained models alike, with one set of sampled negatives."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from twotower.data import Dataset, Histories, Part, Queries
from twotower.errors import InputError
from twotower.evaluation.negatives import load_negatives, sample_negatives, save_negatives
from twotower.evaluation.protocols import PROTOCOLS, SAMPLED, Evaluation, evaluate, result_rows
from twotower.evaluation.results import Row
from twotower.experiments.models import saved_model
from twotower.experiments.progress import Reporter, Silent
from twotower.models.base import Scorer
from twotower.models.item_knn import ItemKNN
from twotower.models.popularity import Popularity
from twotower.training.fit import Trained
from twotower.training.storage import read_description
from twotower.types import IndexArray

BASELINES: Final[Mapping[str, Callable[[Histories, int], Scorer]]] = {
    "popularity": Popularity.fit,
    "item-knn": ItemKNN.fit,
}
"""Models without a training loop: name → fit(train, num_items)."""


class Evaluator:
    """Evaluates scorers on one part of a data set; every model meets the same negatives.

    With ``negatives_file`` they are kept there, and taken from there the next time.

    Where some query has fewer than 100 items left to sample, the sampled protocol is left out,
    with a note; asked for alone, it is an `InputError`.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        part: Part = Part.TEST,
        protocols: Sequence[str] = PROTOCOLS,
        negatives_file: Path | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._dataset, self._part, self._protocols = dataset, part, protocols
        self._reporter = reporter or Silent()
        queries, targets = dataset.held_out(part)
        self._users = len(queries)
        self._split = dataset.summary["settings"]["split"]["kind"]
        if part is Part.VALIDATION:
            self._split += ", validation"
        self._negatives: IndexArray | None = None
        if SAMPLED in protocols:
            try:
                self._negatives = _negatives(negatives_file, queries, targets, len(dataset.items))
            except InputError as error:
                if len(protocols) == 1:
                    raise
                # Too small a catalogue must not keep the other protocols from being measured.
                self._protocols = [name for name in protocols if name != SAMPLED]
                self._reporter.note(f"{SAMPLED} is left out: {error.what}")

    def __call__(self, label: str, scorer: Scorer) -> Evaluation:
        """Evaluate one model of one seed."""
        found = evaluate(
            scorer,
            self._dataset,
            part=self._part,
            protocols=self._protocols,
            negatives=self._negatives,
            progress=self._reporter.counting(f"evaluate {label}", self._users),
        )
        first = self._protocols[0]
        self._reporter.note(
            f"{label}: {self._part.name.lower()} HR@10 {found.mean(first, 'HR@10'):.4f}, "
            f"NDCG@10 {found.mean(first, 'NDCG@10'):.4f} ({first})"
        )
        return found

    def baseline(self, name: str) -> list[Row]:
        """Rows of a baseline, fitted on the training part."""
        scorer = BASELINES[name](self._dataset.train, len(self._dataset.items))
        rows = self.rows(name, {0: self(name, scorer)})
        return [row.model_copy(update={"seeds": []}) for row in rows]  # nothing random in it

    def timings(self, model: str, trained: Sequence[Trained]) -> list[Row]:
        """Training seconds and the best epoch of a model: mean over seeds, smallest, largest."""
        states = {one.seed: one.state for one in trained}
        measured = {
            "training-seconds": [sum(e.seconds for e in state.epochs) for state in states.values()],
            "best-epoch": [1.0 + (state.best_epoch or 0) for state in states.values()],
        }
        return [
            Row(
                dataset=self._dataset.name,
                split=self._split,
                model=model,
                protocol="timing",
                metric=metric,
                value=sum(values) / len(values),
                low=min(values),
                high=max(values),
                seeds=sorted(states),
                users=self._users,
            )
            for metric, values in measured.items()
        ]

    def rows(self, model: str, runs: Mapping[int, Evaluation]) -> list[Row]:
        """Rows of a model from its runs by seed."""
        return result_rows(runs, dataset=self._dataset.name, split=self._split, model=model)


def _negatives(
    file: Path | None, queries: Queries, targets: Histories, num_items: int
) -> IndexArray:
    """Stored negatives where there are some, else newly sampled ones, which are then stored."""
    if file is not None and file.exists():
        return load_negatives(file, queries, targets, num_items)
    negatives = sample_negatives(queries, targets, num_items)
    if file is not None:
        save_negatives(file, queries, negatives)
    return negatives


def evaluate_models(
    dataset: Dataset,
    folders: Sequence[Path],
    *,
    baselines: bool = True,
    part: Part = Part.TEST,
    protocols: Sequence[str] = PROTOCOLS,
    reporter: Reporter | None = None,
) -> list[Row]:
    """Rows of the baselines and of saved models; folders with one name are seeds of one model."""
    reporter = reporter or Silent()
    evaluator = Evaluator(dataset, part=part, protocols=protocols, reporter=reporter)
    rows = [row for name in BASELINES if baselines for row in evaluator.baseline(name)]
    runs: dict[str, dict[int, Evaluation]] = {}
    for folder in folders:
        name = read_description(folder)["name"]
        trained = saved_model(folder, dataset, reporter)
        scorer = trained.module.scorer()
        runs.setdefault(name, {})[trained.seed] = evaluator(f"{name} seed {trained.seed}", scorer)
    for name, found in runs.items():
        rows += evaluator.rows(name, found)
    return rows
