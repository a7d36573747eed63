"""Training on several processes: as one process with the whole batch."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from twotower.cli import main
from twotower.data import Dataset
from twotower.models.base import Batch
from twotower.training.checkpoints import read_state
from twotower.training.collectives import Ranks
from twotower.training.storage import read_description

SCRIPT = Path(__file__).with_name("distributed_parts.py")
KILLED = Path(__file__).with_name("killed_rank.py")


def torchrun(processes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *words, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(blocks: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blocks.save(tmp_path_factory.mktemp("distributed") / "data")


def test_two_ranks_have_the_loss_and_gradients_of_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    names = ("v10", "v5")
    done = torchrun(2, SCRIPT, folder, tmp_path, *names)
    assert done.returncode == 0, done.stderr
    parts = runpy.run_path(str(SCRIPT))["parts"]
    for name in names:
        one, two = parts(name, folder), load_file(tmp_path / name)
        assert one.keys() == two.keys()
        assert len(one) > 6
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, atol=1e-6, rtol=1e-5, msg=f"{name}: {key}")


def batch_of(lengths: list[int]) -> Batch:
    width, total = max(lengths), sum(lengths)
    known = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = torch.arange(total)
    contexts = torch.zeros(len(lengths), width, dtype=torch.int64)
    contexts[known] = ids + 1
    return Batch(
        users=ids, positives=ids, log_q=torch.zeros(total),
        negatives=torch.empty((total, 0), dtype=torch.int64), histories=known.long(),
        lengths=torch.tensor(lengths), features=torch.empty(total, 0),
        negative_log_q=torch.empty(total, 0), shared=torch.arange(7), shared_log_q=torch.zeros(7),
        positions=known.flatten().nonzero()[:, 0], contexts=contexts,
    )  # fmt: skip


@pytest.mark.parametrize("lengths", [[3, 1, 4, 2], [9], [1, 1], [5, 5, 5], [1, 1, 20]])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_example_and_candidate_is_of_one_rank(lengths: list[int], size: int) -> None:
    batch = batch_of(lengths)
    parts = [Ranks(rank, size).part(batch) for rank in range(size)]
    assert sum(part.share for part in parts) == pytest.approx(1)
    own = torch.cat([part.batch.positives for part in parts if part.share])
    torch.testing.assert_close(own, batch.positives)
    for part in parts:
        read = part.batch.histories.flatten()[part.batch.positions]
        assert (read == 1).all()  # positions are places of its own sequences
        assert len(read) == len(part.batch.positives) == int(part.batch.lengths.sum())
        of_next = part.batch.contexts.flatten()[part.batch.positions]
        torch.testing.assert_close(of_next, part.batch.positives + 1)
    shared = torch.cat([part.batch.shared for part in parts])
    assert shared[:7].tolist() == list(range(7))
    assert (shared[7:] == -1).all()
    assert len({len(part.batch.shared) for part in parts}) == 1


def test_the_command_trains_on_two_ranks_and_goes_on_on_one(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    options = ["--data", folder, "--text-encoder", "hashing", "--epochs", "3", "--seed", "1"]
    two = torchrun(2, "-m", "twotower", "train", *options, "--out", tmp_path / "two")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("model written") == 1
    metrics = [read_description(tmp_path / "two")["validation_metric"]]
    killed = torchrun(2, KILLED, folder, tmp_path / "one")
    assert killed.returncode != 0
    assert "lost another rank" in killed.stderr or "SIGKILL" in killed.stderr
    left = read_state(tmp_path / ".one-checkpoint" / "last")
    assert left["epoch"] == 1
    with pytest.raises(SystemExit) as alone:  # one process: this one
        main(["train", *map(str, options), "--out", str(tmp_path / "one")])
    assert not alone.value.code
    assert "goes on from epoch 2" in " ".join(capsys.readouterr().out.split())
    metrics.append(read_description(tmp_path / "one")["validation_metric"])
    assert metrics[0] == pytest.approx(metrics[1], abs=0.1)
