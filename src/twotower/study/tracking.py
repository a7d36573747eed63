"""MLflow tracking of trained models: settings, metrics by epoch, fingerprints, files.

Needs the extra 'track'. The store is a SQLite file beside the models, or that of
``MLFLOW_TRACKING_URI``. A run is written from a finished model's folder: training has no
callback for it.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from twotower.features.pretrained import require
from twotower.training.storage import read_description

URI_VARIABLE: Final = "MLFLOW_TRACKING_URI"
RUN_TAG: Final = "twotower.run"
"""Tag with the fingerprint of data, settings and seed: equal runs are one run."""
_BATCH: Final = 100
"""Parameters or metrics that a store takes at a time."""


def check_tracking() -> None:
    """Fail before training if tracking would fail after it.

    Raises
    ------
    InputError
        Where the extra 'track' is not installed.
    """
    fix = "run pip install 'twotower[track]', or leave --track out"
    require("tracking", ("mlflow", "sqlalchemy", "alembic"), fix)


class Tracker:
    """Writes models to an experiment of an MLflow store.

    Parameters
    ----------
    folder
        Where the store is made, as ``mlflow.db``, unless ``MLFLOW_TRACKING_URI`` names another;
        files lie beside it in ``mlflow-artifacts``, unless that is a server.
    experiment
        Name of the experiment, for example that of the data set.

    Raises
    ------
    InputError
        Where the extra 'track' is not installed.
    """

    def __init__(self, folder: Path, experiment: str) -> None:
        check_tracking()
        # MLflow would report its use over the network.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        self.uri = os.environ.get(URI_VARIABLE) or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        folder.mkdir(parents=True, exist_ok=True)
        self._client: Any = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is not None:
            self._experiment: str = found.experiment_id
        else:
            # A server decides where files go; a file store would use the working folder.
            served = self.uri.startswith(("http://", "https://", "databricks"))
            local = None if served else folder.resolve() / "mlflow-artifacts"
            self._experiment = self._client.create_experiment(
                experiment, artifact_location=None if local is None else local.as_uri()
            )

    def track(self, model: Path, metrics: Mapping[str, float] | None = None) -> str:
        """Write a saved model as a run, once; a second call updates its metrics.

        Parameters
        ----------
        model
            Folder of a trained model.
        metrics
            Further metrics, for example ``full.NDCG@10``.

        Returns
        -------
        run_id
            MLflow's id of the run.
        """
        described = read_description(model)
        fingerprint = described["training"]["fingerprint"]
        found = self._client.search_runs(
            [self._experiment], filter_string=f"tags.`{RUN_TAG}` = '{fingerprint}'"
        )
        if found:
            run_id: str = found[0].info.run_id
        else:
            run_id = self._create_run(model, described, fingerprint)
        measured = [(_metric_name(name), value, 0) for name, value in (metrics or {}).items()]
        self._log(run_id, metrics=measured)
        return run_id

    def _create_run(self, model: Path, described: Mapping[str, Any], fingerprint: str) -> str:
        epochs = described["training"]["epochs"]
        run_id: str = self._client.create_run(
            self._experiment,
            run_name=f"{described['name']} seed {described['seed']}",
            tags={
                RUN_TAG: fingerprint,
                "dataset": described["dataset"],
                "dataset_fingerprint": described["dataset_fingerprint"],
            },
        ).info.run_id
        params = {"seed": described["seed"], **dict(_flat(described["variant"]))}
        self._log(
            run_id,
            params=[(name, str(value)) for name, value in params.items()],
            metrics=[
                (name, record[key], record["epoch"] + 1)
                for record in epochs
                for name, key in (
                    ("loss", "loss"),
                    ("validation-NDCG-10", "metric"),
                    ("seconds", "seconds"),
                )
                if record[key] is not None
            ],
        )
        self._client.log_artifacts(run_id, str(model), "model")
        self._client.set_terminated(run_id)
        return run_id

    def _log(
        self,
        run_id: str,
        params: list[tuple[str, str]] | None = None,
        metrics: list[tuple[str, float, int]] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param

        given = [Param(name, value) for name, value in params or []]
        measured = [Metric(name, value, 0, step) for name, value, step in metrics or []]
        for start in range(0, len(given), _BATCH):
            self._client.log_batch(run_id, params=given[start : start + _BATCH])
        for start in range(0, len(measured), _BATCH):
            self._client.log_batch(run_id, metrics=measured[start : start + _BATCH])


def track_models(
    out: Path, experiment: str, measured: Mapping[tuple[str, int], Mapping[str, float]]
) -> str:
    """Write every model of a folder that `run` or `ablate` filled, and return the store's URI.

    ``measured`` is model and seed → name of a figure → value.
    """
    tracker = Tracker(out, experiment)
    for folder in sorted(out.glob("models/*/seed-*")):
        described = read_description(folder)
        tracker.track(folder, measured.get((described["name"], described["seed"])))
    return tracker.uri


def _metric_name(name: str) -> str:
    """A metric name without the characters that MLflow refuses.

    >>> _metric_name("full.NDCG@10")
    'full.NDCG-10'
    """
    return name.replace("@", "-").replace("+", "-up")


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name.

    >>> dict(_flat({"loss": {"kind": "bpr", "weights": [1, 2]}}))
    {'loss.kind': 'bpr', 'loss.weights.0': 1, 'loss.weights.1': 2}
    """
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list) and value:
        inner = [(str(number), item) for number, item in enumerate(value)]
    else:
        yield prefix, value
        return
    for name, item in inner:
        yield from _flat(item, f"{prefix}.{name}" if prefix else name)
