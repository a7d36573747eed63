"""Process pool for the cells of a study, teachers before their students."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import IO, Any, Final

from twotower.machine import usable_cores
from twotower.study.ablation.cell import Cell
from twotower.study.ablation.worker import CellRequest
from twotower.workflow.progress import Bar, Reporter, in_words

WORKER: Final = "twotower.study.ablation.worker"


@dataclass
class _Running:
    process: subprocess.Popen[str]
    log: Path
    began: float
    bars: dict[str, Bar] = field(default_factory=dict)


_Events = queue.Queue[tuple[Cell, dict[str, Any] | None]]
"""Reports of processes; None where one has ended."""


def run_cells(
    cells: Sequence[Cell],
    needs: Mapping[Cell, Sequence[Cell]],
    out: Path,
    protocols: Sequence[str],
    *,
    jobs: int,
    reporter: Reporter,
) -> dict[Cell, str]:
    """Run ``cells`` in processes of their own, ``jobs`` at a time.

    A process that fails, or is killed for lack of memory, costs its own cell and those that need
    it; the others continue. When this function ends early, by an interruption or an error, it
    kills the processes.

    Parameters
    ----------
    needs
        Cells that must be finished before a cell can start; those not in ``cells`` are finished
        already.
    jobs
        Processes at a time; each gets an equal share of `usable_cores` as threads, at least one.

    Returns
    -------
    failures
        Cell → reason, empty where all went well.
    """
    waiting, failures = list(cells), dict[Cell, str]()
    done, running, events = set[Cell](), dict[Cell, _Running](), _Events()
    unfinished = set(cells)
    threads = max(1, usable_cores() // jobs)
    took: dict[str, list[float]] = {}  # model → seconds of its finished cells
    grid = reporter.bar("cells of the grid", uneven=True)

    def draw() -> None:
        names = ", ".join(cell.label for cell in running)
        now = time.monotonic()
        unfinished_models = [(cell.model, 0.0) for cell in waiting] + [
            (cell.model, now - worker.began) for cell, worker in running.items()
        ]
        left = seconds_left(unfinished_models, took, jobs)
        parts = [f"now: {names}"] if names else []
        parts += [] if left is None else [f"about {in_words(left)} left"]
        grid(len(done) + len(failures), len(cells), ", ".join(parts))

    with _killed_at_exit(running):
        while waiting or running:
            for cell in list(waiting):
                lost = next((need for need in needs.get(cell, ()) if need in failures), None)
                if lost is not None:
                    waiting.remove(cell)
                    failures[cell] = f"not run, because its teacher {lost.label} failed"
                    reporter.failure(f"{cell.label}: {failures[cell]}")
                elif len(running) < jobs and not unfinished & set(needs.get(cell, ())):
                    waiting.remove(cell)
                    request = CellRequest(cell=cell, out=out, protocols=tuple(protocols))
                    running[cell] = _start(request, threads, events)
            draw()
            if not running:
                continue
            cell, event = events.get()
            if event is not None:
                _show(cell, event, running[cell], reporter)
            else:
                ended = running.pop(cell)
                for bar in ended.bars.values():
                    bar(1, 1, "")  # closed, finished or not
                reason = _reason(ended)
                if reason is None:
                    done.add(cell)
                    took.setdefault(cell.model, []).append(time.monotonic() - ended.began)
                    unfinished.discard(cell)
                else:
                    failures[cell] = reason
                    reporter.failure(f"{cell.label} failed: {reason}")
    draw()
    return failures


def seconds_left(
    cells: Sequence[tuple[str, float]], took: Mapping[str, Sequence[float]], jobs: int
) -> float | None:
    """Seconds until cells are done, from finished ones of the same models.

    None where a model has no finished cell: those of others say nothing of it.

    Parameters
    ----------
    cells
        Model and seconds so far of each cell that is not done.
    took
        Model → seconds of each of its finished cells.

    Examples
    --------
    >>> took = {"mf": [4.0, 6.0], "v10": [60.0]}
    >>> seconds_left([("mf", 0), ("v10", 0), ("v10", 45)], took, jobs=2)
    40.0
    >>> seconds_left([("mf", 0), ("v8", 10)], took, jobs=2)
    """
    if not cells or not all(model in took for model, _ in cells):
        return None
    left = [max(0.0, fmean(took[model]) - so_far) for model, so_far in cells]
    return sum(left) / min(jobs, len(left))


def _start(request: CellRequest, threads: int, events: _Events) -> _Running:
    cell = request.cell
    log = request.out / "logs" / f"{cell.model}-seed-{cell.seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    assert process.stdin is not None  # for the type checker: both are pipes
    assert process.stdout is not None
    process.stdin.write(request.model_dump_json() + "\n")
    process.stdin.flush()
    reader = threading.Thread(target=_read_events, args=(cell, process.stdout, events), daemon=True)
    reader.start()
    return _Running(process, log, time.monotonic())


def _read_events(cell: Cell, stream: IO[str], events: _Events) -> None:
    with stream:
        for line in stream:
            events.put((cell, json.loads(line)))
    events.put((cell, None))


def _show(cell: Cell, event: dict[str, Any], running: _Running, reporter: Reporter) -> None:
    match event:
        case {"note": text}:
            reporter.note(text)
        case {"failure": text}:
            reporter.failure(f"{cell.label}: {text}")
        case {"bar": label, "uneven": uneven, "done": done, "total": total, "detail": detail}:
            if label not in running.bars:
                running.bars[label] = reporter.bar(label, uneven=uneven)
            running.bars[label](done, total, detail)


def _reason(ended: _Running) -> str | None:
    """Why a process failed, in a line; None where it did not."""
    status = _closed(ended.process)
    if status == 0:
        return None
    lines = [line for line in ended.log.read_text("utf-8").splitlines() if line.strip()]
    if status < 0:
        return f"its process was killed by signal {-status}; the log is {ended.log}"
    return f"{lines[-1].strip() if lines else f'exit status {status}'} (log: {ended.log})"


@contextmanager
def _killed_at_exit(running: Mapping[Cell, _Running]) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in running.values():
            worker.process.kill()
        for worker in running.values():
            _closed(worker.process)


def _closed(process: subprocess.Popen[str]) -> int:
    """Exit status of a process that has ended, with its input closed."""
    status = process.wait()
    if process.stdin is not None:
        process.stdin.close()
    return status
