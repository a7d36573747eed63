"""The estimate of a training's memory, what is available, and runs that were killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twotower import machine
from twotower.data import Dataset
from twotower.errors import InputError
from twotower.machine import LIMIT, available_memory
from twotower.training import memory
from twotower.training.memory import MARKER, check_memory, estimated_peak, marked_run
from twotower.workflow.variants import VARIANTS


@pytest.mark.parametrize("name", ["v10", "v5", "mf"])
def test_an_estimate_grows_with_the_widths(blocks: Dataset, name: str) -> None:
    variant = VARIANTS[name]
    changes = {"embedding_dim": 4096}
    if name == "v10":
        changes["history"] = variant.model.history.vary(hidden_dim=4096)
    wide = variant.vary(model=variant.model.vary(**changes))
    assert estimated_peak(wide, blocks) > estimated_peak(variant, blocks) > 0


def test_training_is_refused_with_the_numbers_and_what_to_change(
    blocks: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000_000)
    with pytest.raises(InputError, match=r"takes about \d\.\d GB .* 0\.1 GB are available") as no:
        check_memory(VARIANTS["v10"], blocks)
    assert "k-core" in no.value.on_command_line
    assert LIMIT in no.value.on_command_line
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    assert check_memory(VARIANTS["v10"], blocks) is None  # next to nothing
    monkeypatch.setattr(memory, "_NOTED", 0)
    assert "takes about" in (check_memory(VARIANTS["v10"], blocks) or "")


def test_a_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "1.5")
    assert available_memory() == 1_500_000_000
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(InputError, match="number of gigabytes"):
        available_memory()


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/box/job", "box", {"memory.max": "1000", "memory.current": "400"}),
        ("0::/box", "", {"memory.max": "1000", "memory.current": "400"}),
        (
            "4:cpu,memory:/box",
            "memory/box",
            {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "400"},
        ),
    ],
)
def test_a_container_leaves_what_it_has(
    tmp_path: Path, line: str, folder: str, files: dict[str, str]
) -> None:
    group = tmp_path / "root" / folder
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name).write_text(text + "\n")
    word = "inactive_file" if line.startswith("0") else "total_inactive_file"
    (group / "memory.stat").write_text(f"anon 5\n{word} 100\n")
    (tmp_path / "cgroup").write_text(line + "\n")
    assert list(machine._of_groups(tmp_path / "root", tmp_path / "cgroup")) == [700]
    (group / next(iter(files))).write_text("max\n")
    assert list(machine._of_groups(tmp_path / "root", tmp_path / "cgroup")) == []


def test_a_run_that_is_killed_is_told_of_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from twotower.training.memory import marked_run\n"
        "with marked_run(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert killed.returncode == -signal.SIGKILL
    kills = json.loads((tmp_path / "run" / MARKER).read_text())["kills"]
    with marked_run(tmp_path / "run") as line:
        assert line is not None
        assert "was killed;" in line
        assert "checkpoint" in line
    assert not (tmp_path / "run").exists()  # nothing else was in it
    monkeypatch.setattr(memory, "_memory_kills", lambda: (kills or 0) + 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / MARKER).write_text(json.dumps({"pid": 2**22 + 1, "kills": kills or 0}))
    with marked_run(tmp_path / "run") as line:
        assert line is not None
        assert "lack of memory" in line


def test_two_processes_do_not_train_one_model(tmp_path: Path) -> None:
    with marked_run(tmp_path / "run"):
        before = sorted((tmp_path / "run").iterdir())
        with (
            pytest.raises(InputError, match="another process trains this model"),
            marked_run(tmp_path / "run"),
        ):
            pass
        assert sorted((tmp_path / "run").iterdir()) == before
    assert not (tmp_path / "run").exists()
    with marked_run(tmp_path / "run") as line:
        assert line is None


def test_a_run_that_ends_or_fails_leaves_nothing_to_tell(tmp_path: Path) -> None:
    with pytest.raises(KeyError), marked_run(tmp_path / "run"):
        raise KeyError
    with marked_run(tmp_path / "run") as line:
        assert line is None
