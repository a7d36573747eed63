"""Fit one peer with one setting in a process of its own, within a time limit."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import exchange
import numpy as np
from catalogue import Peer, Settings, in_words

from twotower.data import Dataset, Histories, Part, Queries
from twotower.errors import InputError, TwoTowerError
from twotower.evaluation.figures import Evaluation
from twotower.evaluation.protocols import FULL, evaluate_queries
from twotower.types import FloatArray

METRICS: Final = ("HR@5", "HR@10", "HR@20", "NDCG@10", "NDCG@20")
"""All of them are exact from lists: see `exchange.LIST_LENGTH`."""
FITTED: Final = "fitted.json"
PARTS: Final = {"validation": Part.VALIDATION, "test": Part.TEST}


@dataclass(frozen=True)
class Budget:
    """What a peer gets.

    Attributes
    ----------
    settings
        Most settings to try.
    seconds
        Training of a setting ends with the epoch in which this is over, where a library trains
        epoch by epoch; and after as much time no other setting is begun.
    limit
        Seconds after which a process is stopped, and the setting counts as failed.
    threads
        Of a process.
    """

    settings: int
    seconds: float
    limit: float
    threads: int


class TaskData:
    """Who is asked for in each part, and what they went on to: all that evaluation needs."""

    def __init__(self, dataset: Dataset, validation_users: int) -> None:
        self.dataset = dataset
        self.parts: dict[str, tuple[Queries, Histories]] = {}
        for name, part in PARTS.items():
            queries, targets = dataset.held_out(part)
            if not len(queries):
                raise InputError(
                    f"data set {dataset.name!r} has no {name} part",
                    "peers are tuned on one and compared on the other: prepare it with another "
                    "split, for example leave-last-two",
                )
            if part is Part.VALIDATION and validation_users < len(queries):
                drawn = np.random.default_rng(0).choice(len(queries), validation_users, False)
                rows = np.sort(drawn)
                queries, targets = queries.select(rows), targets.select(rows)
            self.parts[name] = queries, targets

    def export(self, folder: Path) -> None:
        """Write what peers are given: no target of the test part.

        Raises
        ------
        InputError
            Where the folder holds another data set, or other validation users: what was fitted
            there cannot be compared.
        """
        about = {
            "users": len(self.dataset.users),
            "items": len(self.dataset.items),
            "fingerprint": self.dataset.fingerprint,
            **{name: len(queries) for name, (queries, _) in self.parts.items()},
        }
        described = folder / "about.json"
        if described.exists() and json.loads(described.read_text()) != about:
            raise InputError(
                f"{folder} holds another data set, or other validation users",
                "choose another --out, or delete it",
            )
        folder.mkdir(parents=True, exist_ok=True)
        train = self.dataset.train
        _rows(np.arange(len(train)), train).write(folder / "train.npz")
        for name, (queries, _) in self.parts.items():
            _rows(queries.users, queries.histories).write(folder / f"{name}.npz")
        asked, targets = self.parts["validation"]
        _rows(asked.users, targets).write(folder / "validation-targets.npz")
        described.write_text(json.dumps(about))

    def evaluate(self, part: str, trial: Path) -> Evaluation:
        """Full ranking of a trial's lists, by this project's evaluator."""
        queries, targets = self.parts[part]
        with np.load(trial / f"{part}.npz") as lists:
            scorer = ListScorer(lists["items"], lists["scores"], len(self.dataset.items))
        by_row = Queries(np.arange(len(queries), dtype=np.int32), queries.histories)
        return evaluate_queries(scorer, by_row, targets, protocols=[FULL], metrics=METRICS)


def _rows(users: Any, histories: Histories) -> exchange.Rows:
    return exchange.Rows(np.asarray(users, np.int64), histories.indptr, histories.items)


@dataclass(frozen=True)
class ListScorer:
    """A scorer of queries that name their row in lists: what is not listed ranks last."""

    items: Any
    listed: FloatArray
    num_items: int

    def scores(self, queries: Queries) -> FloatArray:
        """``(queries, num_items)`` float32."""
        scores = np.full((len(queries), self.num_items), -np.inf, dtype=np.float32)
        items, values = self.items[queries.users], self.listed[queries.users]
        row, place = np.nonzero(items >= 0)
        scores[row, items[row, place]] = values[row, place]
        return scores


@dataclass(frozen=True)
class Trial:
    """What one setting gave.

    Attributes
    ----------
    folder
        Where the lists are.
    seconds
        Of training, or until it failed.
    ndcg
        NDCG@10 on validation.
    fitted
        What the adapter measured.
    failed
        Why there is nothing; None where there is.
    """

    settings: Settings
    folder: Path
    seconds: float
    ndcg: float = 0.0
    fitted: Mapping[str, Any] = field(default_factory=dict)
    failed: str | None = None


def try_setting(
    peer: Peer, settings: Settings, folder: Path, python: Path, asked: TaskData, budget: Budget
) -> Trial:
    """Fit, answer and evaluate on validation; what an earlier call finished is kept.

    ``folder`` is two levels below the folder that `TaskData.export` wrote ``data`` to.
    """
    if not (folder / FITTED).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        script, model = peer.adapter
        command = [str(python), str(Path(__file__).parent / script), model]
        command += ["--data", str((folder.parents[1] / "data").resolve())]
        command += ["--out", str(folder.resolve()), "--settings", json.dumps(settings)]
        command += ["--seconds", str(budget.seconds)]
        started = time.perf_counter()
        reason = _run(command, folder, budget)
        if reason is not None:
            return Trial(settings, folder, time.perf_counter() - started, failed=reason)
    fitted = json.loads((folder / FITTED).read_text())
    try:
        ndcg = asked.evaluate("validation", folder).mean(FULL, "NDCG@10")
    except TwoTowerError as error:  # scores that are no numbers, for example
        return Trial(settings, folder, fitted["training_seconds"], failed=str(error))
    return Trial(settings, folder, fitted["training_seconds"], ndcg, fitted)


def _run(command: list[str], folder: Path, budget: Budget) -> str | None:
    """Why a process failed, or None."""
    threads = {
        f"{name}_NUM_THREADS": str(budget.threads)
        for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON", "LK")
    }
    log = folder / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | threads,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what it starts is stopped with it
        )
        try:
            code = process.wait(budget.limit)
        except subprocess.TimeoutExpired:
            return f"not done after {budget.limit:g} seconds"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code == -signal.SIGKILL:
        return "killed, most likely for its memory"
    if code:
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else f"exit status {code}"
    return None


def slug(settings: Settings) -> str:
    """Name of a trial's folder, which the settings decide."""
    return in_words(settings).replace(" ", ",")
