"""What a container's limits leave, and what OpenMP is told before PyTorch is imported."""

import os
from pathlib import Path

import pytest

from twotower import machine
from twotower.machine import settle_threads, usable_cores

OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in OPENMP:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "bound_cores", lambda: 8)
    return monkeypatch


def container(folder: Path, own: str, files: dict[str, str]) -> dict[str, Path]:
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"root": folder / "groups", "own": folder / "own"}


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # half a core is a thread
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "400000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        (
            "4:cpu:/\n3:memory:/a\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        ("", {}, 8),
    ],
)
def test_the_limit_of_a_container_counts(
    own: str, files: dict[str, str], cores: int, tmp_path: Path, unset: pytest.MonkeyPatch
) -> None:
    assert machine._usable_cores(**container(tmp_path, own, files)) == cores


@pytest.mark.parametrize(("given", "cores"), [("3", 3), ("", 8), ("0", 8), ("x", 8)])
def test_omp_num_threads_is_the_budget(
    given: str, cores: int, unset: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unset.setattr(machine, "_usable_cores", lambda: 8)
    unset.setenv("OMP_NUM_THREADS", given)
    assert usable_cores() == cores


def test_threads_sleep_while_they_wait_and_are_as_many_as_the_container_has_cores(
    unset: pytest.MonkeyPatch,
) -> None:
    unset.setattr(machine, "_usable_cores", lambda: 2)
    settle_threads()
    assert [os.environ.get(name) for name in OPENMP] == ["2", "PASSIVE", machine.SPINS]


def test_without_a_limit_the_number_of_threads_is_pytorch_s(unset: pytest.MonkeyPatch) -> None:
    unset.setattr(machine, "_usable_cores", lambda: 8)
    settle_threads()
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_the_user_set_stays(unset: pytest.MonkeyPatch) -> None:
    unset.setattr(machine, "_usable_cores", lambda: 2)
    given = {"OMP_NUM_THREADS": "6", "OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "9"}
    for name, value in given.items():
        unset.setenv(name, value)
    settle_threads()
    assert {name: os.environ[name] for name in OPENMP} == given


def test_the_command_line_sets_them_before_pytorch_is_imported(
    unset: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twotower.cli import main

    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
