"""'twotower train' on small logs."""

import json
from pathlib import Path
from typing import Any

import pytest

from twotower.study.search_space import changed
from twotower.workflow.variants import VARIANTS


@pytest.fixture
def data(exit_code: Any, tmp_path: Path, small_variants: Any, monkeypatch: Any) -> Path:
    """30 users with five interactions each; the small v9 asks for 600 steps as the real one."""
    v9 = small_variants["v9"]
    steps = VARIANTS["v9"].training.least_steps
    assert steps > 100
    monkeypatch.setitem(VARIANTS, "v9", v9.vary(training=v9.training.vary(least_steps=steps)))
    log = tmp_path / "log.csv"
    rows = [f"u{n},i{(n * 7 + 3 * k) % 30},{k + 1}" for n in range(30) for k in range(5)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    assert exit_code("prepare", log, "--out", tmp_path / "data", "--k-core", 0) == 0
    return tmp_path / "data"


def test_the_epochs_that_are_asked_for_are_trained(
    exit_code: Any, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    assert exit_code(
        "train", "--data", data, "--out", out, "--model", "v9", "--epochs", 2,
        "--text-encoder", "hashing",
    ) == 0  # fmt: skip
    described = json.loads((out / "model.json").read_text())
    assert len(described["training"]["epochs"]) == 2
    assert described["chosen"]["factor_weights"]
    assert described["validation_metric"] > 0


def test_the_minutes_that_are_given_end_the_training(
    exit_code: Any, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    assert exit_code(
        "train", "--data", data, "--out", out, "--model", "v9", "--minutes", 0.01,
        "--text-encoder", "hashing",
    ) == 0  # fmt: skip
    assert "of training, where the given minutes ended it" in " ".join(
        capfd.readouterr().out.split()
    )
    training = json.loads((out / "model.json").read_text())["training"]
    spent = sum(epoch["seconds"] for epoch in training["epochs"])
    assert 0.6 <= spent < 10  # it ends with the step that goes beyond the limit
    assert training["epochs"][-1]["metric"] > 0


def test_a_search_of_epochs_is_obeyed() -> None:
    assert changed(VARIANTS["v9"], {"training.epochs": 3}).training.least_steps == 0
    assert changed(VARIANTS["v9"], {"training.batch_size": 64}).training.least_steps == 600
