"""Evaluation of baselines and trained models on the same queries."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from twotower.bundle.blend import Blend
from twotower.data import Dataset, Histories, Part, Queries, columns
from twotower.data.holdouts import SUMMARY
from twotower.errors import InputError
from twotower.evaluation.beyond_accuracy import ListFacts
from twotower.evaluation.figures import Evaluation, result_rows
from twotower.evaluation.negatives import load_negatives, sample_negatives, save_negatives
from twotower.evaluation.protocols import PROTOCOLS, evaluate_passes, prices
from twotower.evaluation.results import Row
from twotower.evaluation.scoring_plan import plan
from twotower.models.base import Scorer
from twotower.reporting.product_names import RERANKED, seed_label
from twotower.training.fit import Trained
from twotower.training.storage import check_dataset, read_description
from twotower.types import FloatArray, IndexArray
from twotower.workflow.baselines import (
    BASELINES,
    DEFAULT_BASELINES,
    TEXT_BASELINES,
    fitted_baseline,
)
from twotower.workflow.models import saved_model, text_vectors
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.reranking import SecondStage, both_stages, fitted_once

FEW_ITEMS: Final = 10
"""Number of items left to rank up to which every target is a hit at the usual cut-off."""


class Evaluator:
    """Evaluates scorers on one part of a data set, all on the same queries.

    ``protocols`` are names of `twotower.evaluation.registry`, of protocols or groups. One that
    the data set cannot support (a query with fewer than 100 items left to sample, no user with
    20 items, no hold-out) is left out, with a note; `InputError` where none is left.

    ``negatives_file`` stores the sampled negatives for later runs. ``text_encoder``
    encodes the titles, for beyond-accuracy metrics and the baseline ``content``.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        part: Part = Part.TEST,
        protocols: Sequence[str] = PROTOCOLS,
        metrics: Sequence[str] | None = None,
        negatives_file: Path | None = None,
        text_encoder: str = "minilm",
        reporter: Reporter | None = None,
    ) -> None:
        self._dataset, self._part = dataset, part
        self._reporter = reporter or Silent()
        self._text_encoder, self._metrics = text_encoder, metrics
        self._split = split_name(dataset, part)
        self._passes = plan(
            dataset,
            protocols,
            part=part,
            negatives=partial(_negatives, negatives_file),
            leave_out=lambda name, error: self._reporter.note(f"{name} is left out: {error.what}"),
        )
        if dataset.has_repeats:
            self._reporter.note(
                "the log has repeats: no item of a history is taken out of the ranking, "
                "so that full is full-unmasked"
            )
        lengths = self._passes[0].task.queries.histories.lengths
        left = len(dataset.items) - (0 * lengths if dataset.has_repeats else lengths)
        few = int((left <= FEW_ITEMS).sum())
        if few > len(left) / 2:
            self._reporter.note(
                f"{few:,} of {len(left):,} queries have at most {FEW_ITEMS} items left to rank, "
                f"all of which are hits at {FEW_ITEMS}: compare models by MRR or HR@1"
            )
        self._users = max(len(scoring.task.queries) for scoring in self._passes)
        self._queries = sum(len(scoring.task.queries) for scoring in self._passes)
        self._facts = self._described() if any(scoring.lists for scoring in self._passes) else None

    def __call__(self, label: str, scorer: Scorer) -> Evaluation:
        """Evaluate one model of one seed."""
        found = evaluate_passes(
            scorer,
            self._passes,
            metrics=self._metrics,
            facts=self._facts,
            worth=prices(self._dataset),
            progress=self._reporter.counting(f"evaluate {label}", self._queries),
        )
        for first in list(found.values)[:1]:
            shown = [name for name in ("HR@10", "NDCG@10") if name in found.metrics]
            values = (f"{name} {found.mean(first, name):.4f}" for name in shown or found.metrics)
            read = f", given {', '.join(found.context)} of the target" if found.context else ""
            self._reporter.note(
                f"{label}: {self._part.name.lower()} {', '.join(values)} ({first}{read})"
            )
        return found

    def baseline(self, name: str) -> list[Row]:
        """Rows of a baseline, fitted on the training part."""
        return self.baseline_rows(name, self(name, self.fitted_baseline(name)))

    def fitted_baseline(self, name: str) -> Scorer:
        """A baseline, fitted on the training part."""
        if name in TEXT_BASELINES:
            return TEXT_BASELINES[name](self._titles())
        return fitted_baseline(name, self._dataset, self._reporter)

    def baseline_rows(self, name: str, found: Evaluation) -> list[Row]:
        """Rows of a baseline's evaluation."""
        rows = self.rows(name, {0: found})
        return [row.model_copy(update={"seeds": []}) for row in rows]  # nothing random in it

    def _titles(self) -> FloatArray:
        _check_titles(self._dataset)
        return text_vectors(self._dataset, self._text_encoder, "title", self._reporter)

    def _described(self) -> ListFacts:
        """Item data for beyond-accuracy metrics; a note names what the catalogue lacks."""
        catalogue = self._dataset.catalogue
        for name in (columns.TITLE, columns.CATEGORY):
            if catalogue[name].is_null().all():
                self._reporter.note(f"lists are described without {name}: the catalogue has none")
        titled = not catalogue[columns.TITLE].is_null().all()
        return ListFacts.fit(self._dataset.train, catalogue, self._titles() if titled else None)

    def timings(self, model: str, trained: Sequence[Trained]) -> list[Row]:
        """Training seconds and best epoch of a model: mean, minimum and maximum over seeds.

        Seconds include the search for least-squares settings, if any.
        """
        by_seed = {fitted.seed: fitted for fitted in trained}
        measured = {
            "training-seconds": [_seconds(fitted) for fitted in by_seed.values()],
            "best-epoch": [1.0 + (fitted.state.best_epoch or 0) for fitted in by_seed.values()],
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
                seeds=sorted(by_seed),
                users=self._users,
            )
            for metric, values in measured.items()
        ]

    def rows(self, model: str, runs: Mapping[int, Evaluation]) -> list[Row]:
        """Rows of a model from its runs by seed."""
        return result_rows(runs, dataset=self._dataset.name, split=self._split, model=model)


def _seconds(trained: Trained) -> float:
    searched: float = trained.chosen.get("least_squares", {}).get("seconds", 0.0)
    return searched + trained.state.spent


def split_name(dataset: Dataset, part: Part = Part.TEST) -> str:
    """Name of the split in results files, with the hold-out and the validation part, if any."""
    split = dataset.summary["settings"]["split"]
    name: str = split["kind"]
    if name == "rolling":
        name += f"-{split['fold'] or split['folds']}-of-{split['folds']}"
    if SUMMARY in dataset.summary:
        name += "+hold-out"
    return name + ", validation" if part is Part.VALIDATION else name


def _negatives(
    file: Path | None, queries: Queries, targets: Histories, num_items: int
) -> IndexArray:
    """Negatives from the file if it exists; else newly sampled ones, which are stored there."""
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
    baselines: Sequence[str] = DEFAULT_BASELINES,
    part: Part = Part.TEST,
    protocols: Sequence[str] = PROTOCOLS,
    metrics: Sequence[str] | None = None,
    text_encoder: str = "minilm",
    rerank: bool = False,
    reporter: Reporter | None = None,
) -> list[Row]:
    """Rows of baselines and of saved models; folders with one name are seeds of one model.

    Parameters
    ----------
    metrics
        Names in `twotower.evaluation.metrics.RANK_METRICS`, with a cut-off; None for the
        usual ones.
    rerank
        Whether models with towers are also evaluated with a re-ranking stage, fitted on validation
        for each seed, under their name and ``+rerank``.

    Raises
    ------
    InputError
        Nothing to evaluate, an unknown baseline or protocol, or two folders that hold one
        model of one seed.
    ArtefactError
        A folder holds no model, or one of another data set; of another hold-out, for example.
    """
    reporter = reporter or Silent()
    for name in baselines:
        if name not in (*BASELINES, *TEXT_BASELINES):
            raise InputError(
                f"unknown baseline {name!r}",
                f"pass one of {', '.join((*BASELINES, *TEXT_BASELINES))}",
            )
        if name in TEXT_BASELINES:
            _check_titles(dataset)
    if not folders and not baselines:
        raise InputError("nothing to evaluate", "pass a trained model's folder or a baseline")
    models = _by_name_and_seed(folders, dataset)
    evaluator = Evaluator(
        dataset,
        part=part,
        protocols=protocols,
        metrics=metrics,
        text_encoder=text_encoder,
        reporter=reporter,
    )
    rows = [row for name in dict.fromkeys(baselines) for row in evaluator.baseline(name)]
    for name, seeds in models.items():
        found = evaluate_seeds(
            name,
            (saved_model(folder, dataset, reporter) for folder in seeds.values()),
            dataset,
            evaluator,
            fitted_once(dataset, reporter) if rerank else None,
        )
        rows += found.one_stage + found.two_stages
    return rows


def _check_titles(dataset: Dataset) -> None:
    if dataset.catalogue[columns.TITLE].is_null().all():
        raise InputError(
            f"the catalogue of {dataset.name!r} has no titles", "choose another baseline"
        )


class Measured(NamedTuple):
    """Rows of one model's seeds; the second stages and their rows where there are any.

    ``served`` is the evaluation of what a bundle of the first seed serves by default.
    """

    one_stage: list[Row]
    two_stages: list[Row]
    blends: list[Blend]
    served: Evaluation


def evaluate_seeds(
    name: str,
    models: Iterable[Trained],
    dataset: Dataset,
    evaluator: Evaluator,
    second_stage: SecondStage | None,
) -> Measured:
    """Evaluate each seed of a model; one with towers also with the re-ranking stage, if given."""
    one_stage: dict[int, Evaluation] = {}
    two_stages: dict[int, Evaluation] = {}
    blends: list[Blend] = []
    for trained in models:
        scorer, seed = trained.module.scorer(), trained.seed
        one_stage[seed] = evaluator(seed_label(name, seed), scorer)
        if second_stage is not None and trained.variant.model.has_towers:
            blend = second_stage(trained)
            if blend is None:
                continue
            blends.append(blend)
            both = both_stages(scorer, blend, dataset)
            two_stages[seed] = evaluator(f"{seed_label(name, seed)}, both stages", both)
    again = evaluator.rows(name + RERANKED, two_stages) if two_stages else []
    by_both = bool(blends) and blends[0].helps
    served = next(iter((two_stages if by_both else one_stage).values()))
    return Measured(evaluator.rows(name, one_stage), again, blends, served)


def _by_name_and_seed(folders: Sequence[Path], dataset: Dataset) -> dict[str, dict[int, Path]]:
    models: dict[str, dict[int, Path]] = {}
    for folder in folders:
        described = read_description(folder)
        check_dataset(folder, described, dataset)  # before anything is computed
        name, seed = described["name"], described["seed"]
        seeds = models.setdefault(name, {})
        if seed in seeds:
            raise InputError(
                f"{seeds[seed]} and {folder} both hold {name!r} of seed {seed}",
                "pass one of them, or train with another seed",
            )
        seeds[seed] = folder
    return models
