"""What passes between the benchmark and a peer: histories in, lists of items out.

Used on both sides, so that it needs NumPy only. A peer is given the training part, the histories of
who asks, and what the validation users went on to, to stop by. No test target is in its folder.
"""

import argparse
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

LIST_LENGTH: Final = 100
"""Items listed for a query. At a cut-off of half of that, or less, a list gives the figure that all
scores would: also of a target among equal scores, where the expected place counts."""
BATCH: Final = 512
"""Queries that are scored at once."""
ASKED: Final = ("validation", "test")
"""The parts that lists are made for."""
PATIENCE: Final = 10
"""Epochs without a better one after which training ends."""
STOPPING_USERS: Final = 2000
"""Validation users by whom the best epoch is known; settings are chosen by more."""


@dataclass(frozen=True)
class Rows:
    """Histories of users, oldest item first: row ``r`` is ``items[indptr[r]:indptr[r + 1]]``.

    ``users`` ``(rows,)`` are the rows of the training part that they belong to.
    """

    users: np.ndarray
    indptr: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def rows(self) -> np.ndarray:
        """``(events,)`` the row of each item."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    @property
    def places(self) -> np.ndarray:
        """``(events,)`` the place of each item in its row, from 0."""
        return np.arange(len(self.items)) - np.repeat(self.indptr[:-1], np.diff(self.indptr))

    def slice(self, start: int, stop: int) -> "Rows":
        """Consecutive rows."""
        first, last = self.indptr[start], self.indptr[stop]
        indptr = self.indptr[start : stop + 1] - first
        return Rows(self.users[start:stop], indptr, self.items[first:last])

    def newest(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """``(rows, length)`` newest items, oldest first, -1 behind the last; and their number."""
        lengths = np.diff(self.indptr)
        place = self.places - np.repeat(np.maximum(lengths - length, 0), lengths)
        items = np.full((len(self), length), -1, dtype=np.int64)
        kept = place >= 0
        items[self.rows[kept], place[kept]] = self.items[kept]
        return items, np.minimum(lengths, length)

    def write(self, path: Path) -> None:
        """Write as one ``.npz`` file."""
        np.savez(path, users=self.users, indptr=self.indptr, items=self.items)

    @classmethod
    def read(cls, path: Path) -> "Rows":
        """Read what `write` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["users"], arrays["indptr"], arrays["items"])


Lists: TypeAlias = tuple[np.ndarray, np.ndarray]
"""``(rows, LIST_LENGTH)`` items, best first, -1 where there is none; and their scores."""
Answer: TypeAlias = Callable[[Rows], Lists]


class Module(Protocol):
    """What has weights: a torch module."""

    def state_dict(self) -> Mapping[str, Any]:
        """The weights themselves, not a copy."""

    def load_state_dict(self, weights: Mapping[str, Any]) -> object:
        """Take the weights."""


class Task:
    """What a peer is to be fitted on, how, and for how long."""

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, seed: int, seconds: float
    ) -> None:
        about = json.loads((folder / "about.json").read_text())
        self.folder = folder
        self.settings = dict(settings)
        self.seed = seed
        self.num_users: int = about["users"]
        self.num_items: int = about["items"]
        self.train = Rows.read(folder / "train.npz")
        self.validation = (
            Rows.read(folder / "validation.npz"),
            Rows.read(folder / "validation-targets.npz"),
        )
        self.best_epoch = 0
        self._started = time.perf_counter()
        self._deadline = self._started + seconds

    def restart(self) -> None:
        """Count the training time from now: reading is over."""
        now = time.perf_counter()
        self._deadline, self._started = self._deadline - self._started + now, now

    def train_by_epoch(
        self, epoch: Callable[[int], object], module: Callable[[], Module], answer: Answer
    ) -> None:
        """Train until `PATIENCE` epochs are no better or the time is over; keep the best epoch.

        Better is a greater NDCG@10 for the validation users of `validation`, which is in the time,
        as it is for the models of this project.

        Parameters
        ----------
        epoch
            Trains for one epoch, given its number from 0.
        module
            Finds what has the weights, once there was an epoch.
        answer
            Answers with the weights that the module has then.
        """
        best, kept = -1.0, {}
        for number in itertools.count():
            epoch(number)
            ndcg = self.validation_ndcg(answer)
            print(f"epoch {number + 1}: validation NDCG@10 {ndcg:.4f}", flush=True)
            if ndcg > best:
                best, self.best_epoch = ndcg, number + 1
                kept = {name: value.clone() for name, value in module().state_dict().items()}
            over = time.perf_counter() > self._deadline
            if over or number + 1 >= self.best_epoch + PATIENCE:
                break
        module().load_state_dict(kept)

    def validation_ndcg(self, answer: Answer, k: int = 10) -> float:
        """NDCG@k of the first `STOPPING_USERS` validation users, by the first of their targets."""
        asked, targets = (rows.slice(0, min(len(rows), STOPPING_USERS)) for rows in self.validation)
        listed = answer(asked)[0][:, :k]
        place = np.nonzero(listed == targets.items[targets.indptr[:-1], None])[1]
        return float((1 / np.log2(place + 2)).sum() / len(asked))

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started


def run(models: Mapping[str, Callable[[Task], Answer]], *packages: str) -> None:
    """Entry point of an adapter: fit what the command line names, then answer both parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=models)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1200.0)
    given = parser.parse_args()
    task = Task(given.data, given.settings, seed=given.seed, seconds=given.seconds)
    task.restart()
    answer = models[given.model](task)
    found = {
        "training_seconds": task.seconds,
        "peak_memory_mb": peak_memory_mb(),
        "best_epoch": task.best_epoch,
        "packages": {name: metadata.version(name) for name in packages},
    }
    given.out.mkdir(parents=True, exist_ok=True)
    for part in ASKED:
        asked = Rows.read(given.data / f"{part}.npz")
        started = time.perf_counter()
        items, scores = answer(asked)
        found[f"{part}_seconds"] = time.perf_counter() - started
        np.savez(given.out / f"{part}.npz", items=items, scores=scores)
    (given.out / "fitted.json").write_text(json.dumps(found))


def peak_memory_mb() -> float:
    """Most memory that this process has had; of the program, not of who started it."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass  # not Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def threads() -> int:
    """How many threads the benchmark allows."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def by_scores(score: Callable[[Rows], np.ndarray]) -> Answer:
    """Lists from ``(rows, num_items)`` scores of a batch: the greatest of what was not seen."""

    def answer(asked: Rows) -> Lists:
        items, values = empty_lists(len(asked))
        for start in range(0, len(asked), BATCH):
            batch = asked.slice(start, min(start + BATCH, len(asked)))
            scores = np.array(score(batch), dtype=np.float32)
            scores[batch.rows, batch.items] = -np.inf
            rows = slice(start, start + len(batch))
            items[rows], values[rows] = greatest(scores)
        return items, values

    return answer


def greatest(scores: np.ndarray) -> Lists:
    """The ``LIST_LENGTH`` greatest finite scores of each row, in order."""
    items, values = empty_lists(len(scores))
    length = min(LIST_LENGTH, scores.shape[1])
    top = np.argpartition(scores, scores.shape[1] - length, axis=1)[:, -length:]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(top, order, axis=1)
    found = np.take_along_axis(scores, top, axis=1)
    usable = np.isfinite(found)
    items[:, :length][usable] = top[usable]
    values[:, :length][usable] = found[usable]
    return items, values


def by_table(rows: np.ndarray, items: np.ndarray, scores: np.ndarray, count: int) -> Lists:
    """Lists from a table with a line for each item of each row, best first within a row."""
    order = np.argsort(rows, kind="stable")
    rows, items, scores = rows[order], items[order], scores[order]
    starts = np.searchsorted(rows, np.arange(count))
    place = np.arange(len(rows)) - starts[rows]
    kept = place < LIST_LENGTH
    listed, values = empty_lists(count)
    listed[rows[kept], place[kept]] = items[kept]
    values[rows[kept], place[kept]] = scores[kept]
    return listed, values


def empty_lists(count: int) -> Lists:
    """Lists without an item."""
    shape = count, LIST_LENGTH
    return np.full(shape, -1, dtype=np.int32), np.full(shape, -np.inf, dtype=np.float32)
