import importlib.util
from pathlib import Path
from typing import Any

import pytest

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.study.tracking import Tracker, track_models
from twotower.workflow.models import trained_model

# MLflow still uses a loading option that the newest SQLAlchemy speaks against.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")


@pytest.fixture
def model(blocks: Dataset, small_variants: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "mf" / "seed-3"
    trained_model(small_variants["mf"], blocks, folder, name="mf", seed=3)
    return folder


def test_a_run_holds_all_that_repeating_it_needs(
    blocks: Dataset, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = Tracker(tmp_path / "store", "blocks")
    run_id = tracker.track(model)
    assert tracker.track(model, {"full.NDCG@10": 0.25}) == run_id  # one run, however often

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracker.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("blocks").experiment_id])
    assert run.info.run_name == "mf seed 3"
    assert run.info.status == "FINISHED"
    assert run.data.tags["dataset_fingerprint"] == blocks.fingerprint
    assert run.data.params["seed"] == "3"
    assert run.data.params["training.learning_rate"] == "0.01"
    assert run.data.params["loss.kind"] == "bpr"
    assert [one.step for one in client.get_metric_history(run_id, "loss")] == [1, 2]
    assert len(client.get_metric_history(run_id, "validation-NDCG-10")) == 2
    assert run.data.metrics["full.NDCG-10"] == 0.25
    files = {Path(file.path).name for file in client.list_artifacts(run_id, "model")}
    assert files == {"model.json", "weights.safetensors"}
    assert (tmp_path / "store" / "mlflow.db").exists()


def test_without_mlflow_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mlflow, which is not installed; run pip install"):
        Tracker(tmp_path, "x")


def test_every_model_of_a_folder_is_tracked_with_its_figures(
    blocks: Dataset, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    uri = track_models(tmp_path, "blocks", {("mf", 3): {"full.HR@10": 0.5}, ("v1", 0): {}})
    assert uri.endswith("elsewhere.db")

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("blocks").experiment_id])
    assert run.data.metrics["full.HR-10"] == 0.5
    assert (tmp_path / "mlflow-artifacts").is_dir()
