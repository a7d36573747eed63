import os
import socket
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from twotower.evaluation.provenance import collect_meta, portable_command


def test_a_run_is_described() -> None:
    started = datetime.now(UTC) - timedelta(seconds=5)
    meta = collect_meta(started, command=["twotower", "run"], threads=1, packages=["numpy", "no-x"])
    assert meta.command == "twotower run"
    assert 5 <= meta.wall_seconds < 60
    assert 10 < meta.peak_memory_mb < 100_000
    assert set(meta.packages) == {"python", "numpy"}
    assert "cores" in meta.machine
    assert "GiB memory" in meta.machine
    assert meta.commit is None or len(meta.commit.removesuffix("+dirty")) == 12


def test_the_start_is_given_in_utc() -> None:
    started = datetime(2025, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert collect_meta(started).started == "2025-01-01T10:00:00+00:00"


def test_neither_host_nor_folders_are_named(tmp_path: Path) -> None:
    described = collect_meta(
        datetime.now(UTC), command=[sys.executable, str(tmp_path / "script.py")]
    ).model_dump_json()
    for private in (socket.gethostname(), str(tmp_path), str(Path.home()), os.getcwd()):
        assert len(private) < 4 or private not in described


def test_commands_are_written_without_the_paths_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("TWOTOWER_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    script = Path(sys.executable).parent / "twotower"
    assert (
        portable_command([sys.executable, str(script), "run", "--dataset", f"{data}/games"])
        == "twotower run --dataset $TWOTOWER_DATA/games"
    )
    assert (
        portable_command([sys.executable, "-m", "twotower.cli", f"--out={tmp_path}/out/one"])
        == "python -m twotower.cli --out=out/one"
    )
    assert portable_command(["twotower", "info", "../elsewhere/bundle"]) == "twotower info bundle"
    assert portable_command(["x", "https://example.org/a", "k=1"]) == "x https://example.org/a k=1"


def test_threads_are_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    torch = pytest.importorskip("torch")
    assert collect_meta(now).threads == torch.get_num_threads()
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert collect_meta(now).threads == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert collect_meta(now).threads >= 1
