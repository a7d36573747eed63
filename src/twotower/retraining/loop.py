"""Retraining of a served bundle: source, preparation, training, gate, refit, bundle, reload.

Each step leaves its result in a work folder, from which a run that was killed can resume. The
service is not touched until the last step.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field

from twotower.bundle.blend import Blend
from twotower.bundle.storage import bundle_folder, load_bundle
from twotower.config import Config
from twotower.data import Dataset, Part, columns
from twotower.data.atomic import atomic_file
from twotower.data.prepare import prepare
from twotower.data.settings import PrepareSettings
from twotower.data.splits import GlobalTime
from twotower.errors import InputError
from twotower.locks import locked
from twotower.retraining.comparison import compared, newest_cases
from twotower.retraining.gate import Thresholds, Verdict, judged
from twotower.retraining.shelf import Shelf, ShelfEntry
from twotower.retraining.watch import Watch, WatchSettings
from twotower.service.retrain import INTERACTIONS, everything, learned, write_source
from twotower.service.snapshot import Snapshot
from twotower.service.state import Changes, Cursor, Forgotten, StateStore
from twotower.training.fit import Trained
from twotower.training.variant import Variant
from twotower.workflow.bundling import bundle_contents, shipped_contents, write_bundle
from twotower.workflow.models import trained_model
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.refit import refit_folder
from twotower.workflow.reranking import fitted_blend

WORK: Final = ".retraining"
_RUN: Final = "run.json"
_VERDICT: Final = "verdict.json"
_HISTORY: Final = 200
"""Events per user that the old bundle gets in addition to its log, as in the service's defaults."""


class RetrainSettings(Config):
    """How a bundle is retrained."""

    kinds: tuple[str, ...] | None = None
    """Event kinds used for training; by default those that the bundle declares, else purchases
    and ratings."""
    keep_days: float | None = Field(None, gt=0)
    anonymise_after_days: float | None = Field(None, gt=0)
    """The age limits of the service, see `write_source`."""
    least_events: int = Field(1, ge=1)
    """Minimum number of new events; with fewer, nothing is done."""
    test_share: float = Field(0.3, gt=0, lt=1)
    """Newest share of the new events, on which both bundles are compared."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Newest share of the interactions before the test part, used for early stopping."""
    thresholds: Thresholds = Thresholds()
    watch: WatchSettings = WatchSettings()
    """How the service is watched after the reload, where its address is known."""
    refit: bool = True
    """Whether the model is refitted on all interactions once it has passed the gate."""
    keep: int = Field(5, ge=2)
    """Number of bundles to keep, including the one in service."""
    seed: int = 0


class Outcome(Config):
    """Result of a run."""

    result: Literal["nothing-new", "refused", "made", "served", "rolled-back"]
    """``made`` if no service was to take over the bundle."""
    name: str | None = None
    """Folder of the new bundle."""
    model_version: str | None = None
    new_events: int = 0
    verdict: Verdict | None = None
    deleted: tuple[str, ...] = ()
    """Old bundles that were deleted."""
    complaint: str | None = None
    """Why the new bundle was rolled back."""


def retrain(
    bundle: Path,
    store: StateStore,
    out: Path,
    settings: RetrainSettings | None = None,
    *,
    swap: Callable[[str], object] | None = None,
    watch: Watch | None = None,
    reporter: Reporter | None = None,
) -> Outcome:
    """Retrain the bundle in service with the events recorded since, and serve it if it passes.

    Parameters
    ----------
    bundle
        The bundle folder that services are configured with.
    store
        Their database. It names the bundle in service, which the new one is compared with.
    out
        Parent folder of the new bundle and of the index ``bundles.json``. Services can only take
        over the bundle if this is also the parent of ``bundle``.
    settings
        Settings of training and gate.
    swap
        Makes services take over a bundle by name; by default `StateStore.set_bundle`, which they
        follow. If ``out`` is another folder, the bundle is only made.
    watch
        Watches a service after the reload. On a complaint the old bundle is rolled back to.
    reporter
        Receives messages and progress.

    Raises
    ------
    InputError
        If another run is in progress in ``out``, or the bundle's model cannot be trained.
    """
    settings, reporter = settings or RetrainSettings(), reporter or Silent()
    out.mkdir(parents=True, exist_ok=True)
    refusal = InputError(f"another retraining is under way in {out}", "wait until it ends")
    with locked(out / f"{WORK}.lock", refusal):
        return _Run(bundle, store, out, settings, reporter).through(swap, watch)


def roll_back(bundle: Path, store: StateStore, out: Path) -> ShelfEntry:
    """Roll back to the bundle that was served before the current one.

    Returns
    -------
    ShelfEntry
        The bundle now in service.

    Raises
    ------
    InputError
        If the index of ``out`` names no earlier one.
    """
    shelf, configured = Shelf(out), bundle.absolute().name
    served = store.bundle(configured)
    name = None if served is None else served.name
    entry = shelf.before(name)
    load_bundle(bundle_folder(bundle, entry.name))  # whole, before it is named
    store.set_bundle(configured, entry.name)
    shelf.mark_rolled_back(name)
    return entry


class _Run:
    """One retraining run: its paths and the inputs shared by its steps."""

    def __init__(
        self,
        bundle: Path,
        store: StateStore,
        out: Path,
        settings: RetrainSettings,
        reporter: Reporter,
    ) -> None:
        self.bundle, self.store, self.out = bundle, store, out
        self.settings, self.reporter = settings, reporter
        self.configured = bundle.absolute().name
        served = store.bundle(self.configured)
        self.served = None if served is None else served.name
        self.folder = bundle_folder(bundle, self.served)
        self.old = load_bundle(self.folder)
        self.work = out / WORK
        self.shelf = Shelf(out)

    def through(self, swap: Callable[[str], object] | None, watch: Watch | None) -> Outcome:
        manifest = self.old.manifest
        self.shelf.note(self.served, manifest.model_version, manifest.created.isoformat())
        run = self._begun()
        new_events = int(run["new_events"])
        if new_events < self.settings.least_events:
            shutil.rmtree(self.work)
            self.reporter.note(f"{new_events} new events: nothing to learn from")
            return Outcome(result="nothing-new", new_events=new_events)
        changes = everything(self.store)
        dataset = self._prepared(int(run["test_from"]), int(run["validation_from"]))
        trained, blend = self._trained(dataset)
        verdict = self._judged(dataset, trained, blend, changes, int(run["test_from"]))
        if verdict is None:
            shutil.rmtree(self.work)
            self.reporter.note("no user had an item for the first time in the newest events")
            return Outcome(result="nothing-new", new_events=new_events)
        if not verdict.passed:
            self._put(run["name"], manifest.model_version, "refused", verdict)
            shutil.rmtree(self.work)  # it holds personal data
            for reason in verdict.reasons:
                self.reporter.failure(f"the new bundle is refused: {reason}")
            return Outcome(result="refused", new_events=new_events, verdict=verdict)
        name = str(run["name"])
        version = self._bundled(name, dataset, trained, blend)
        takes_over = self.out.absolute() == self.bundle.absolute().parent
        if takes_over:
            if watch is not None:
                watch.begin()
            (swap or partial(self.store.set_bundle, self.configured))(name)
        self._put(name, version, "served", verdict)
        shutil.rmtree(self.work)
        complaint = watch.complaint() if takes_over and watch is not None else None
        if complaint is not None:
            self.reporter.failure(f"bundle {name} is rolled back: {complaint}")
            back = roll_back(self.bundle, self.store, self.out)
            return Outcome(
                result="rolled-back",
                name=back.name,
                model_version=back.model_version,
                new_events=new_events,
                verdict=verdict,
                complaint=complaint,
            )
        deleted = self.shelf.prune(self.settings.keep, name)
        self.reporter.note(f"bundle {name} {'is served' if takes_over else 'written'}")
        return Outcome(
            result="served" if takes_over else "made",
            name=name,
            model_version=version,
            new_events=new_events,
            verdict=verdict,
            deleted=tuple(deleted),
        )

    def _begun(self) -> dict[str, Any]:
        """Write the training source, or resume with the one found.

        It is rewritten after another bundle came into service or a user was forgotten.
        """
        marks = {
            "old": self.old.manifest.model_version,
            "forgotten": self.store.changes(Cursor(), events=0, items=0).cursor.forgotten,
            "settings": self.settings.model_dump(mode="json"),
        }
        file = self.work / _RUN
        if file.exists():
            found: dict[str, Any] = json.loads(file.read_text())
            if all(found[mark] == value for mark, value in marks.items()):
                self.reporter.note("going on with a run that was begun")
                return found
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(mode=0o700)  # what it holds is personal
        settings = self.settings
        write_source(
            self.old.contents, self.store, self.work / "source", settings.kinds,
            keep_days=settings.keep_days, anonymise_after_days=settings.anonymise_after_days,
        )  # fmt: skip
        run = {
            **marks,
            **self._moments(),
            "name": f"{self.old.manifest.info.model}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        }
        with atomic_file(file) as temporary:
            temporary.write_text(json.dumps(run))
        return run

    def _moments(self) -> dict[str, int]:
        """Start of the test part (the newest events) and of validation, in milliseconds."""
        import polars as pl

        log = pl.read_parquet(self.work / "source" / INTERACTIONS)
        times = np.sort(log[columns.TIMESTAMP].to_numpy())
        known = self.old.contents.histories.timestamps
        last = int(known.max(initial=0)) if known is not None else len(times)
        new = times[times > last]
        if not len(new):
            return {"new_events": 0, "test_from": 0, "validation_from": 0}
        test_from = int(new[int(len(new) * (1 - self.settings.test_share))])
        before = times[times < test_from]
        share = 1 - self.settings.validation_share
        validation_from = int(before[int(len(before) * share)]) if len(before) else test_from
        return {"new_events": len(new), "test_from": test_from, "validation_from": validation_from}

    def _prepared(self, test_from: int, validation_from: int) -> Dataset:
        """The source, split by time. No k-core: the first `prepare` has already applied it."""
        folder = self.work / "dataset"
        if folder.exists():
            return Dataset.load(folder)
        log = self.old.contents.histories
        pairs = np.stack([log.rows, log.items], axis=1)
        settings = PrepareSettings(
            k_core=0,
            keep_repeats=len(np.unique(pairs, axis=0)) < len(pairs),
            split=GlobalTime(validation_from=validation_from, test_from=test_from),
        )
        name = self.old.manifest.info.dataset
        source = self.work / "source"
        found = prepare(
            source, name=name, settings=settings, out=folder, progress=self.reporter.reading()
        )
        self.reporter.note(f"{len(found.interactions.items):,} interactions prepared")
        return found

    def _trained(self, dataset: Dataset) -> tuple[Trained, Blend | None]:
        """The bundle's model and its second stage, trained on all but the newest events."""
        info = self.old.manifest.info
        config = {key: value for key, value in info.config.items() if key != "chosen"}
        trained = trained_model(
            Variant.model_validate(config),
            dataset,
            self.work / "models" / info.model / f"seed-{self.settings.seed}",
            name=info.model,
            seed=self.settings.seed,
            models=self.work / "models",
            reporter=self.reporter,
        )
        if self.old.contents.reranker is None or not (dataset.split == Part.VALIDATION).any():
            return trained, None
        return trained, fitted_blend(trained, dataset, self.reporter)

    def _judged(
        self,
        dataset: Dataset,
        trained: Trained,
        blend: Blend | None,
        changes: Changes,
        test_from: int,
    ) -> Verdict | None:
        """The gate's verdict on both bundles, each as it would have served the newest events.

        None if no user has a held-out item.
        """
        file = self.work / _VERDICT
        if file.exists():
            return Verdict.model_validate_json(file.read_text())
        cases = newest_cases(dataset, seed=self.settings.seed)
        if not cases:
            return None
        before = dataset.split != Part.TEST
        contents = bundle_contents(
            self.old.manifest.info.model, trained, dataset, reranker=blend,
            new_items=self.old.contents.new_items is not None,
        )  # fmt: skip
        candidate = self.work / "candidate"
        histories = dataset.interactions.keep(before)
        write_bundle(candidate, replace(contents, histories=histories), trained)
        earlier = [event for event in changes.events if event.occurred_at < test_from]
        known = learned(self.old.contents, earlier, self.settings.kinds)
        old = self._snapshot(self.folder, replace(changes, events=known))
        new = self._snapshot(candidate, replace(changes, events=()))
        verdict = judged(compared(old, new, cases), self.settings.thresholds)
        found = verdict.comparison
        self.reporter.note(
            f"NDCG@10 of {found.users:,} users: {found.old.ndcg:.4f} with the old bundle, "
            f"{found.new.ndcg:.4f} with the new one, "
            f"difference {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        )
        with atomic_file(file) as temporary:
            temporary.write_text(verdict.model_dump_json())
        return verdict

    def _snapshot(self, folder: Path, changes: Changes) -> Snapshot:
        events = max(1, len(changes.events))
        empty = Snapshot.of_bundle(folder, 1, _HISTORY, events, Forgotten(self.store.forget_key))
        return empty.advanced(changes)

    def _bundled(self, name: str, dataset: Dataset, trained: Trained, blend: Blend | None) -> str:
        """Write and smoke-test the bundle to serve; returns its version."""
        model, settings = self.old.manifest.info.model, self.settings
        if not (self.out / name).exists():
            verdict = Verdict.model_validate_json((self.work / _VERDICT).read_text())
            models = self.work / "models"
            contents, shipped = shipped_contents(
                model, trained, dataset,
                refit=settings.refit,
                folder=refit_folder(models / model / f"seed-{settings.seed}"),
                models=models,
                metrics={"NDCG@10": verdict.comparison.new.ndcg},
                reranker=blend,
                new_items=self.old.contents.new_items is not None,
                reporter=self.reporter,
            )  # fmt: skip
            write_bundle(self.out / name, contents, shipped)
        nothing = Changes([], [], [], Cursor())
        return self._snapshot(self.out / name, nothing).manifest.model_version

    def _put(
        self, name: str, version: str, outcome: Literal["served", "refused"], verdict: Verdict
    ) -> None:
        made = datetime.now(UTC).isoformat(timespec="seconds")
        self.shelf.add(
            ShelfEntry(
                name=name, model_version=version, made=made, outcome=outcome, verdict=verdict
            )
        )
