"""`run`: prepare, train, evaluate and bundle in one call; finished steps are not repeated."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from twotower.bundle.blend import Blend
from twotower.data import Dataset, Part
from twotower.data.atomic import atomic_file
from twotower.data.declaration import DECLARATION_FILE, Declaration
from twotower.data.digest import file_sha256
from twotower.data.folders import kind_of
from twotower.data.locate import Located, located
from twotower.data.prepare import prepare_located
from twotower.data.remote import is_url
from twotower.data.settings import PrepareSettings
from twotower.data.summary import summary_lines
from twotower.errors import InputError
from twotower.evaluation.figures import Evaluation
from twotower.evaluation.registry import FULL, PROTOCOLS
from twotower.evaluation.results import Row
from twotower.factors.scorer import FactorScorer, VectorScorer
from twotower.index import AutoConfig, IndexConfig
from twotower.reporting.product_names import DEFAULT_MODEL, study_name
from twotower.training.device import on_device
from twotower.training.fit import Trained
from twotower.training.variant import Variant
from twotower.workflow.baseline_check import (
    compare_on_test,
    warn_below_baselines,
    warn_for_visitors,
)
from twotower.workflow.baselines import BASELINES
from twotower.workflow.bundling import shipped_contents, write_bundle
from twotower.workflow.evaluation import Evaluator, evaluate_seeds
from twotower.workflow.models import named_variant, trained_model
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.refit import refit_folder
from twotower.workflow.reranking import fitted_once

DEFAULT_MODELS: Final = ("popularity", "item-knn", "als", DEFAULT_MODEL)
"""The default model and the baselines that it has to beat."""
SOURCE_SUFFIX: Final = ".source.json"
"""File beside a prepared data set, named after it: names and SHA-256 of what it was made from."""


@dataclass(frozen=True)
class RunResult:
    """Result of `run`; ``bundle`` is None if no two-tower was among the models."""

    dataset: Dataset
    rows: list[Row]
    bundle: Path | None

    @property
    def example_user(self) -> str:
        """A user with a history of typical length, for example recommendations."""
        lengths = self.dataset.interactions.lengths
        middle = int(np.argsort(lengths, kind="stable")[len(lengths) // 2])
        return self.dataset.users.ids[middle]

    @property
    def example_history(self) -> list[str]:
        """Three items that one user had in a row, for a cold-start user."""
        lengths = self.dataset.interactions.lengths
        first = int(np.argmax(lengths >= min(3, int(lengths.max()))))
        return [self.dataset.items.ids[item] for item in self.dataset.interactions.row(first)[:3]]


def run(
    source: Path | Sequence[str | Path],
    out: Path,
    *,
    settings: PrepareSettings | None = None,
    declaration: Declaration | None = None,
    models: Sequence[str] = DEFAULT_MODELS,
    seeds: Sequence[int] = (0,),
    protocols: Sequence[str] = PROTOCOLS,
    text_encoder: str = "minilm",
    index: IndexConfig | AutoConfig | None = None,
    refit: bool = True,
    epochs: int | None = None,
    minutes: float | None = None,
    device: str | None = None,
    precision: str | None = None,
    on_rows: Callable[[list[Row]], None] | None = None,
    reporter: Reporter | None = None,
) -> RunResult:
    """Prepare, train, evaluate and bundle; called again with the same ``out``, it resumes.

    Parameters
    ----------
    source
        What `prepare` reads, or a folder that it wrote.
    out
        Folder for ``dataset``, ``models/<name>/seed-<n>`` and ``seed-<n>-refit``,
        ``sampled-negatives.parquet`` and ``bundle``.
    settings
        How ``source`` is prepared.
    declaration
        Description of the source, as for `prepare`.
    models
        Names of baselines and variants; the last two-tower among them is bundled, and beside it
        the vectors of ALS, MF and LightGCN, for the demo to compare with.
    seeds
        Training seeds; the first one's model is bundled.
    protocols
        What is measured, see `twotower.evaluation.registry`.
    refit
        Whether the bundle holds the model refit on all interactions, see
        `twotower.workflow.refit`; else the evaluated one.
    epochs
        Most epochs of each model; None leaves it to early stopping.
    minutes
        Most training minutes of each model, see `TrainingConfig.minutes`.
    device, precision
        Where and how models are trained, see `on_device`.
    on_rows
        Called with all result rows so far after each model, so that they can be written.
    """
    reporter, models = reporter or Silent(), [study_name(name) for name in models]
    variants = {
        name: on_device(
            named_variant(name, text_encoder).with_epochs(epochs).within(minutes), device, precision
        )
        for name in models
        if name not in BASELINES
    }
    if not seeds:
        raise InputError("seeds must not be empty", "pass at least one, for example 0")
    dataset = prepared_dataset(source, out / "dataset", settings, reporter, declaration)
    evaluator = Evaluator(
        dataset,
        protocols=protocols,
        negatives_file=out / "sampled-negatives.parquet",
        text_encoder=text_encoder,
        reporter=reporter,
    )
    rows: list[Row] = []
    servable: dict[str, tuple[Trained, Blend | None, Evaluation]] = {}
    simple: dict[str, Evaluation] = {}
    comparisons: dict[str, VectorScorer] = {}
    for name in models:
        if name in BASELINES:
            baseline = evaluator.fitted_baseline(name)
            simple[name] = evaluator(name, baseline)
            rows += evaluator.baseline_rows(name, simple[name])
            if isinstance(baseline, FactorScorer):
                comparisons[name] = baseline
        else:
            measured = _measured(name, variants[name], seeds, dataset, out, evaluator, reporter)
            rows += measured.rows
            if measured.first.variant.model.has_towers:
                servable[name] = measured.first, measured.blend, measured.served
            else:
                comparisons[name] = measured.first.module.scorer()
        if on_rows is not None:
            on_rows(rows)
    if not servable:
        return RunResult(dataset, rows, None)
    name, (model, blend, served) = list(servable.items())[-1]
    compare_on_test(name, served, blend is not None and blend.helps, simple, reporter)
    contents, shipped = shipped_contents(
        name,
        model,
        dataset,
        refit=refit,
        folder=refit_folder(out / "models" / name / f"seed-{model.seed}"),
        models=out / "models",
        index=index,
        metrics={
            row.metric: row.value for row in rows if (row.model, row.protocol) == (name, FULL)
        },
        reranker=blend,
        reporter=reporter,
    )
    manifest = write_bundle(out / "bundle", contents, shipped, comparisons)
    reporter.note(f"bundle {manifest.model_version} written")
    return RunResult(dataset, rows, out / "bundle")


class _Outcome(NamedTuple):
    """Result of one model; ``blend`` is the first seed's second stage, if any."""

    rows: list[Row]
    first: Trained
    blend: Blend | None
    served: Evaluation


def _measured(
    name: str,
    variant: Variant,
    seeds: Sequence[int],
    dataset: Dataset,
    out: Path,
    evaluator: Evaluator,
    reporter: Reporter,
) -> _Outcome:
    """Train and evaluate every seed of a model, with towers also behind the second stage."""
    models = out / "models"
    trained: list[Trained] = []
    second_stage = fitted_once(dataset, reporter)

    def in_turn() -> Iterator[Trained]:
        for seed in seeds:
            folder = models / name / f"seed-{seed}"
            model = trained_model(
                variant, dataset, folder, name=name, seed=seed, models=models, reporter=reporter
            )
            if not trained:
                warn_below_baselines(name, model, dataset, reporter, second_stage)
                warn_for_visitors(model, dataset, reporter, second_stage)
            trained.append(model)
            yield model

    found = evaluate_seeds(name, in_turn(), dataset, evaluator, second_stage)
    rows = found.one_stage + evaluator.timings(name, trained) + found.two_stages
    blend = found.blends[0] if found.blends else None
    return _Outcome(rows, trained[0], blend, found.served)


def prepared_dataset(
    source: Path | Sequence[str | Path],
    folder: Path,
    settings: PrepareSettings | None,
    reporter: Reporter,
    declaration: Declaration | None = None,
) -> Dataset:
    """Prepare a data set, or read the one in ``folder`` if its settings are the same.

    A ``source`` that is already prepared is read, and saved to ``folder`` beside the models.

    Raises
    ------
    InputError
        If the existing one was made with other settings, or from files that have since changed.
    """
    said = declaration or Declaration()
    if settings is not None:
        said = said.overridden_by(Declaration(prepare=settings))
    paths = [source] if isinstance(source, str | Path) else list(source)
    if len(paths) == 1 and kind_of(Path(paths[0])) == "prepared data set":
        return _given_prepared(Path(paths[0]), folder, said, reporter)
    if folder.exists():
        dataset = Dataset.load(folder)
        if not _prepared_with(dataset, said):
            raise InputError(
                f"{folder} was prepared with other settings than wanted now",
                "delete it, or choose another output folder",
            )
        _check_unchanged(paths, folder, said, reporter)
        reporter.note(f"data set {dataset.name} found prepared")
        return dataset
    with located(paths, said) as found:
        # Before it is prepared: what changes meanwhile is seen later.
        read = None if _has_url(paths, said) else _digests(found)
        dataset = prepare_located(found, out=folder, progress=reporter.reading())
    reporter.note(
        f"data set {dataset.name} prepared: {len(dataset.users):,} users, "
        f"{len(dataset.items):,} items, {len(dataset.interactions.items):,} interactions, "
        f"{int((dataset.split == Part.TEST).sum()):,} held out for test"
    )
    for line in summary_lines(dataset.summary, cli=True):
        reporter.note(line)
    if read is not None:
        with atomic_file(_source_record(folder)) as file:
            file.write_text(json.dumps(read, indent=1), encoding="utf-8")
    return dataset


def _source_record(folder: Path) -> Path:
    return folder.with_name(folder.name + SOURCE_SUFFIX)


def _check_unchanged(
    paths: Sequence[str | Path], folder: Path, said: Declaration, reporter: Reporter
) -> None:
    """Raise if the source files have changed since the data set was prepared.

    Data sets from URLs, from an earlier release, or with missing source files are not checked.
    """
    record = _source_record(folder)
    if not record.is_file() or _has_url(paths, said):
        return
    try:
        with located(paths, said) as found:
            now = _digests(found)
    except (InputError, OSError) as error:
        reporter.note(f"the source cannot be read any more, only what was prepared of it: {error}")
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    changed = sorted({name for name, digest in before if [name, digest] not in now})
    added = sorted({name for name, digest in now if [name, digest] not in before} - {*changed})
    if changed or added:
        done = " and ".join(
            f"{', '.join(names)} {word}"
            for names, word in ((changed, "changed or went"), (added, "came"))
            if names
        )
        raise InputError(
            f"{folder} was prepared before {done}",
            "delete it, or choose another output folder",
        )


def _has_url(paths: Sequence[str | Path], said: Declaration) -> bool:
    """Whether any file is a URL, whose content is not looked at again."""
    return any(map(is_url, (*paths, said.catalogue or "", said.users or "")))


def _digests(found: Located) -> list[list[str]]:
    """Names and SHA-256 of the files that `prepare` reads."""
    files = [*(log.path for log in found.logs), *found.joined, found.catalogue, found.users]
    declaration = found.base / DECLARATION_FILE
    if declaration.is_file():
        files.append(declaration)
    return sorted([file.name, file_sha256(file)] for file in files if file is not None)


def _given_prepared(source: Path, folder: Path, said: Declaration, reporter: Reporter) -> Dataset:
    asked = said.model_dump(mode="json", by_alias=True, exclude_unset=True)
    words = [
        word if not isinstance(of, dict) else f"{word}.{key}"
        for word, of in asked.items()
        for key in (of if isinstance(of, dict) else [word])
    ]
    if words:
        raise InputError(
            f"{source} is prepared already, and {words[0]} is asked for",
            "give the log that it was made of, or leave that out",
        )
    dataset = Dataset.load(source)
    if folder.exists() and Dataset.load(folder).fingerprint != dataset.fingerprint:
        raise InputError(
            f"{folder} holds another data set than {source}",
            "delete it, or choose another output folder",
        )
    if not folder.exists():
        dataset.save(folder)
    reporter.note(f"data set {dataset.name} was given prepared")
    return dataset


def _prepared_with(dataset: Dataset, said: Declaration) -> bool:
    """Whether a data set was prepared with these settings; a split of None matches any.

    The record includes a ``dataset.toml``, which ``said`` does not: its other keys do not count.
    """
    recorded = dict(dataset.summary["settings"])
    wanted = said.prepare.model_dump(mode="json")
    declared = dataset.summary.get("declaration", {})
    for word in set(wanted) - said.prepare.model_fields_set:
        if word in declared.get("prepare", {}):
            recorded[word] = wanted[word]
    if wanted["split"] is None:
        recorded["split"] = None
    asked = said.model_dump(mode="json", by_alias=True, exclude_unset=True)
    besides = {word: of for word, of in asked.items() if word != "prepare"}
    return recorded == wanted and _within(besides, declared)


def _within(asked: Mapping[str, Any], declared: Mapping[str, Any]) -> bool:
    """Whether everything in ``asked`` was recorded with the same values."""
    return all(
        _within(value, declared.get(word) or {})
        if isinstance(value, dict)
        else declared.get(word) == value
        for word, value in asked.items()
    )
