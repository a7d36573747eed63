"""The bundle of a module's own fixtures ``trained`` and ``dataset``, and its pipeline."""

from pathlib import Path

import pytest

from twotower.data import Dataset
from twotower.inference import Pipeline
from twotower.training.fit import Trained
from twotower.workflow.bundling import bundle_contents, write_bundle


@pytest.fixture(scope="module")
def bundle(trained: Trained, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    write_bundle(folder, bundle_contents("v10", trained, dataset), trained)
    return folder


@pytest.fixture(scope="module")
def pipeline(bundle: Path) -> Pipeline:
    return Pipeline.load(bundle)
