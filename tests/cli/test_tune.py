import json
from pathlib import Path
from typing import Any

import pytest

from twotower.data import Dataset


@pytest.mark.filterwarnings("ignore:The ``noload``")
@pytest.mark.usefixtures("small_models")
def test_the_best_settings_are_trained_and_tracked(
    exit_code: Any, blocks: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    blocks.save(tmp_path / "data")
    out, file = tmp_path / "tuned", tmp_path / "tuned.json"
    options = ("tune", "mf", "--dataset", tmp_path / "data", "--trials", 3, "--out", out)
    assert exit_code(*options, "--json", file) == 0
    tuned = json.loads(file.read_text())
    assert next(trial["state"] for trial in tuned["trials"]) == "complete"
    message = capsys.readouterr().out
    assert "best validation NDCG@10" in message
    assert "twotower train --data" in message

    trained = ("train", "--data", out / "dataset", "--settings", out / "best.json")
    model = tmp_path / "models" / "mf" / "seed-0"
    assert exit_code(*trained, "--track", "--out", model, "--json", file) == 0
    assert json.loads(file.read_text())["best_metric"] == pytest.approx(tuned["value"])
    assert "tracked in sqlite:///" in " ".join(capsys.readouterr().out.split())
    assert json.loads((model / "model.json").read_text())["name"] == "best"

    file.write_text("{}")
    assert exit_code("train", "--data", out / "dataset", "--settings", file, "--out", model) == 2
    assert "tuned.json is not a variant: model: Field required" in capsys.readouterr().err
