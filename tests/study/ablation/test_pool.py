import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from twotower.data import Dataset
from twotower.study.ablation.cell import Cell, finished_cell
from twotower.study.ablation.pool import WORKER, run_cells
from twotower.study.ablation.worker import CellRequest, JsonReporter


def test_teachers_come_first_and_their_failure_costs_their_students(
    blocks: Dataset, small_variants: Any, out: Path, recorder: Any
) -> None:
    mf = small_variants["mf"]
    diverges = mf.vary(training=mf.training.vary(learning_rate=1e30))
    teacher, broken = Cell(model="mf", variant=mf), Cell(model="lightgcn", variant=diverges)
    pupil, orphan = Cell(model="v1", variant=mf), Cell(model="v4", variant=mf)
    cells = [orphan, pupil, broken, teacher]
    needs = {pupil: (teacher,), orphan: (broken,)}
    failures = run_cells(cells, needs, out, ("full",), jobs=2, reporter=recorder)

    assert set(failures) == {broken, orphan}
    assert failures[broken].startswith("loss is ")
    assert "lower the learning rate" in failures[broken]
    assert failures[orphan] == "not run, because its teacher lightgcn seed 0 failed"
    assert len(recorder.failures) == 2
    assert [finished_cell(cell, blocks.fingerprint, out) is not None for cell in cells] == [
        False, True, False, True,
    ]  # fmt: skip
    ends = [next(i for i, n in enumerate(recorder.notes) if n.startswith(f"{m} seed 0: test"))
            for m in ("mf", "v1")]  # fmt: skip
    assert ends == sorted(ends)
    grid = recorder.bars["cells of the grid"]
    assert grid[-1] == (4, 4, "")
    assert not any("left" in detail for *_, detail in grid)  # no model has a second cell
    assert "train mf seed 0" in recorder.bars


def test_the_time_left_comes_from_cells_of_the_same_models(
    out: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twotower.study.ablation.pool.WORKER", "abc")  # ends at once
    cells = [Cell(model=model, seed=seed) for model in ("popularity", "als") for seed in (0, 1)]
    assert not run_cells(cells, {}, out, ("full",), jobs=1, reporter=recorder)
    details = {done: detail for done, _, detail in recorder.bars["cells of the grid"]}
    assert ["left" in details[done] for done in range(5)] == [False, False, False, True, False]


def test_a_worker_exits_with_its_parent(small_variants: Any, out: Path, tmp_path: Path) -> None:
    variant = small_variants["mf"]
    endless = variant.vary(training=variant.training.vary(epochs=10**6, patience=10**6))
    request = CellRequest(cell=Cell(model="mf", variant=endless), out=out, protocols=("full",))
    with subprocess.Popen(
        [sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(request.model_dump_json() + "\n")
        worker.stdin.flush()
        assert "training ends when" in json.loads(worker.stdout.readline())["note"]
        assert json.loads(worker.stdout.readline())["bar"] == "train mf seed 0"
        worker.stdin.close()
        assert worker.wait(timeout=20) == 1


def test_a_killed_process_is_a_failure_with_its_signal(
    small_variants: Any, out: Path, recorder: Any
) -> None:
    variant = small_variants["mf"]
    endless = variant.vary(training=variant.training.vary(epochs=10**6, patience=10**6))

    def kill_it(label: str, **_: Any) -> Any:
        def report(done: int, total: int | None, detail: str) -> None:
            if label.startswith("train"):
                children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
                for child in children.split():
                    os.kill(int(child), signal.SIGKILL)

        return report

    recorder.bar = kill_it
    cell = Cell(model="mf", variant=endless)
    failures = run_cells([cell], {}, out, ("full",), jobs=1, reporter=recorder)
    assert failures[cell].startswith("its process was killed by signal 9; the log is ")


def test_an_interruption_ends_the_processes(small_variants: Any, out: Path, recorder: Any) -> None:
    variant = small_variants["mf"]
    endless = variant.vary(training=variant.training.vary(epochs=10**6, patience=10**6))

    def interrupt(label: str, **_: Any) -> Any:
        def report(*_: Any) -> None:
            if label.startswith("train"):
                raise KeyboardInterrupt

        return report

    recorder.bar = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_cells(
            [Cell(model="mf", variant=endless)], {}, out, ("full",), jobs=1, reporter=recorder
        )
    left = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    assert not left.exists() or not left.read_text().split()


def test_reports_are_lines_and_bars_are_thinned_out() -> None:
    stream, now = StringIO(), iter([0.0, 0.1, 0.5, 0.6])
    reporter = JsonReporter(stream, clock=lambda: next(now))
    reporter.note("a fact")
    bar = reporter.bar("work")
    for done in (1, 2, 3, 4):
        bar(done, 4, "")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0] == {"note": "a fact"}
    assert [line["done"] for line in lines[1:]] == [1, 3, 4]  # 2 came too soon, 4 is the end
