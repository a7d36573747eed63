"""Hyperparameter search of a variant by validation NDCG@10, with Optuna (extra 'tune').

The test part is never read. Trials lie in a SQLite file; one that was killed or interrupted is
queued again by Optuna's retry callback, and its training resumes from its checkpoint.
"""

import hashlib
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twotower.data import Dataset, Part
from twotower.data.atomic import atomic_file
from twotower.data.split_choice import empty_parts
from twotower.errors import InputError, TwoTowerError
from twotower.features.pretrained import require
from twotower.study.search_space import (
    Categorical,
    Parameter,
    SearchSpace,
    changed,
    settings_of,
    value_of,
)
from twotower.training.progress import Progress, TrainingState
from twotower.training.sizing import sized
from twotower.training.variant import Variant
from twotower.workflow.models import train_variant
from twotower.workflow.progress import Bar, Reporter, Silent

STORE: Final = "trials.db"
BEST: Final = "best.json"
REASON: Final = "reason"
"""User attribute of a trial: why it failed."""
HEARTBEAT_SECONDS: Final = 10
GRACE_SECONDS: Final = 30
"""A running trial without a heartbeat for so long belongs to a process that was killed."""
_RETRIES: Final = "retry_history"
"""System attribute by which Optuna's retry callback names the trials that a trial repeats."""
MINIMUM_TRIALS: Final = 5
"""Trials that run to the end before others are compared with their median."""


@dataclass(frozen=True)
class Trial:
    """A finished trial."""

    number: int
    state: str
    """``complete``, ``pruned``, or ``failed``."""
    value: float | None
    """Validation NDCG@10 of the finished model, of a pruned trial the best one in training; None
    where it failed."""
    settings: dict[str, Any]


@dataclass(frozen=True)
class Tuned:
    """Result of a search."""

    best: Variant
    value: float
    trials: Sequence[Trial]
    file: Path
    """The best variant as JSON, which ``twotower train --settings`` reads."""


class _PruningReporter(Reporter):
    """Forwards reports, and prunes the trial after a validation where Optuna says so."""

    def __init__(self, reporter: Reporter, label: str, trial: Any) -> None:
        self._reporter, self._label, self._trial = reporter, label, trial

    def note(self, text: str) -> None:
        self._reporter.note(text)

    def failure(self, text: str) -> None:
        self._reporter.failure(text)

    def bar(self, label: str, *, uneven: bool = False) -> Bar:
        return self._reporter.bar(label, uneven=uneven)

    def training(self, label: str) -> Progress:
        shown = super().training(label)
        if label != self._label:  # a teacher, which is no trial
            return shown

        def report(state: TrainingState, steps: int, examples_per_second: float) -> None:
            shown(state, steps, examples_per_second)
            last = state.epochs[-1] if state.epochs else None
            if state.step or last is None or last.metric is None:
                return
            self._trial.report(last.metric, last.epoch)
            if self._trial.should_prune():
                from optuna import TrialPruned

                raise TrialPruned

        return report


def tune(
    variant: Variant,
    space: SearchSpace,
    dataset: Dataset,
    out: Path,
    *,
    name: str = "model",
    trials: int = 20,
    minutes: float | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Tuned:
    """Search ``space`` from ``variant`` on; called again with the same ``out``, it resumes.

    The first trial is the variant as it is, in the sizes that it takes from the log, so that the
    best is never worse. Settings are proposed by a tree-structured Parzen estimator (Bergstra et
    al., NeurIPS 2011); a trial that is below the median of the others at the same epoch is pruned.

    Parameters
    ----------
    trials
        Trials in all, those of earlier calls included.
    minutes
        No trial of this call begins later than that; the first one always does. None for no limit.
    seed
        Of the training, the same in every trial.

    Raises
    ------
    InputError
        Where Optuna is missing, the space is empty, there is no validation part, or no trial
        succeeded.
    """
    _check(space, trials, minutes)
    if not dataset.has(Part.VALIDATION):
        why, fix = empty_parts(dataset)
        raise InputError(
            f"data set {dataset.name!r} has no validation part, which a search needs: {why}",
            f"prepare it again: {fix}",
        )
    import optuna

    reporter = reporter or Silent()
    variant = sized(variant, dataset.train, in_order=dataset.in_order)
    study, retry = _open_study(out, _fingerprint(variant, space, dataset, seed), seed)
    if not study.trials:
        study.enqueue_trial(
            {p.path: value_of(variant, p.path) for p in space if _holds(p, variant)}
        )

    def objective(trial: Any) -> float:
        values = {p.path: _suggested(trial, p) for p in space}
        label = f"{name} trial {trial.number}"
        folder = out / "checkpoints" / _digest(repr(values))
        try:
            tried = changed(variant, settings_of(space, values))
            trained = train_variant(
                tried,
                dataset,
                name=label,
                seed=seed,
                checkpoint=folder,
                searches=out / "least-squares",
                models=out / "teachers",
                reporter=_PruningReporter(reporter, f"{label} seed {seed}", trial),
            )
        except KeyboardInterrupt:
            retry(study, study.trials[trial.number])
            raise
        except (TwoTowerError, optuna.TrialPruned) as ended:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(ended, TwoTowerError):
                trial.set_user_attr(REASON, str(ended))
                reporter.failure(f"{label}: {ended}")
            raise
        shutil.rmtree(folder, ignore_errors=True)
        value = float(trained.metric or 0.0)
        reporter.note(f"{label}: validation NDCG@10 {value:.4f} with {_in_words(trial.params)}")
        return value

    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def ended(study: Any, _: Any) -> None:
        advance(1)
        if deadline is not None and time.monotonic() > deadline:
            study.stop()

    finished = len(_finished(study))
    advance = reporter.counting("trials", trials)
    advance(min(finished, trials))
    study.optimize(
        objective,
        n_trials=max(0, trials - finished),
        catch=(TwoTowerError,),
        callbacks=[ended],
    )
    return _result(study, variant, space, out)


def _check(space: SearchSpace, trials: int, minutes: float | None) -> None:
    require("tuning", ("optuna",), "run pip install 'twotower[tune]'")
    if trials < 1:
        raise InputError(f"trials must be at least 1, got {trials}")
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes must be above 0, got {minutes:g}")
    if not space:
        raise InputError("the search space is empty", "name at least one setting")


def _open_study(out: Path, name: str, seed: int) -> tuple[Any, Callable[[Any, Any], None]]:
    """The Optuna study of a name, new or resumed, and the callback that queues a trial again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # failures are reported by `tune`
    for package in ("alembic", "sqlalchemy"):
        logging.getLogger(package).setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        retry = optuna.storages.RetryHeartbeatStaleTrialCallback()
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{(out / STORE).resolve()}",
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=retry,
        )
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=MINIMUM_TRIALS),
    )
    # A sampler starts from its seed: a resumed search must not propose the same again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study, retry


def _finished(study: Any) -> list[Any]:
    """Trials that ended, without those that were cut off and queued again."""
    retried = {number for trial in study.trials for number in trial.system_attrs.get(_RETRIES, ())}
    return [
        trial for trial in study.trials if trial.state.is_finished() and trial.number not in retried
    ]


def _holds(parameter: Parameter, variant: Variant) -> bool:
    """Whether the variant's own value is one that is searched."""
    value = value_of(variant, parameter.path)
    if isinstance(parameter, Categorical):
        return value in parameter.values
    return bool(parameter.low <= value <= parameter.high)


def _suggested(trial: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Categorical):
        return trial.suggest_categorical(parameter.path, list(parameter.values))
    return trial.suggest_float(parameter.path, parameter.low, parameter.high, log=parameter.log)


def _value(trial: Any) -> float | None:
    """See `Trial.value`."""
    if trial.state.name == "COMPLETE":
        return float(trial.value)
    return max(trial.intermediate_values.values(), default=None)


def _result(study: Any, variant: Variant, space: SearchSpace, out: Path) -> Tuned:
    found = [
        Trial(
            trial.number,
            {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed"),
            _value(trial),
            dict(trial.params),
        )
        for trial in _finished(study)
    ]
    complete = [trial for trial in found if trial.state == "complete" and trial.value is not None]
    if not complete:
        raise InputError(
            "no trial succeeded", "look at the failures above, or narrow the search space"
        )
    best = max(complete, key=lambda trial: trial.value or 0.0)
    settings = changed(variant, settings_of(space, best.settings))
    with atomic_file(out / BEST) as temporary:
        temporary.write_text(settings.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Tuned(settings, best.value or 0.0, found, out / BEST)


def _in_words(params: dict[str, Any]) -> str:
    return ", ".join(
        f"{path.rpartition('.')[2]} {f'{value:.4g}' if isinstance(value, float) else value}"
        for path, value in params.items()
    )


def _fingerprint(variant: Variant, space: SearchSpace, dataset: Dataset, seed: int) -> str:
    """Names the study: other data, settings or spaces do not mix with it."""
    parts = (dataset.fingerprint, variant.model_dump_json(), str(seed))
    return _digest("\0".join([*parts, *(p.model_dump_json() for p in space)]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
