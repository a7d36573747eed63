"""Trained models on disk: weights in safetensors, variant and history in JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from twotower.config import first_problem
from twotower.data import Dataset
from twotower.data.atomic import atomic_folder
from twotower.data.folders import why_not
from twotower.errors import ArtefactError
from twotower.models.build import build_model
from twotower.training.fit import Trained
from twotower.training.progress import TrainingState
from twotower.training.variant import Variant
from twotower.types import FloatArray

MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
DESCRIBED = frozenset({"name", "variant", "seed", "dataset", "dataset_fingerprint", "training"})
"""What every ``model.json`` says."""


def save_trained(folder: Path, name: str, trained: Trained, dataset: Dataset) -> Path:
    """Write a trained model to ``folder``, all or nothing; ``name`` is for results files."""
    with atomic_folder(folder) as temporary:
        weights = {key: value.contiguous() for key, value in trained.module.state_dict().items()}
        save_file(weights, temporary / WEIGHTS_FILE)
        description = {
            "name": name,
            "variant": trained.variant.model_dump(mode="json"),
            "seed": trained.seed,
            "dataset": dataset.name,
            "dataset_fingerprint": dataset.fingerprint,
            "training": asdict(trained.state),
            "gates": trained.module.gate_weights(),
            "validation_metric": trained.metric,
            "chosen": dict(trained.chosen),
        }
        (temporary / MODEL_FILE).write_text(json.dumps(description, indent=2))
    return folder


def read_description(folder: Path) -> dict[str, Any]:
    """What ``model.json`` says: name, variant, seed, data set, training history, gates."""
    try:
        description: dict[str, Any] = json.loads((folder / MODEL_FILE).read_text())
        missing = DESCRIBED - description.keys()
        if missing:
            raise ValueError(f"{MODEL_FILE} lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, AttributeError) as error:
        raise ArtefactError(why_not(folder, "trained model", error)) from error
    return description


def read_variant(folder: Path) -> Variant:
    """The variant of a saved model, without its weights."""
    try:
        return Variant.model_validate(read_description(folder)["variant"])
    except ValidationError as error:
        raise ArtefactError(
            f"{folder / MODEL_FILE} does not describe a variant of this release "
            f"({first_problem(error)}); run 'twotower train' again"
        ) from error


def check_dataset(folder: Path, description: Mapping[str, Any], dataset: Dataset) -> None:
    """`ArtefactError` where the model in a folder was trained on another data set."""
    if description["dataset_fingerprint"] != dataset.fingerprint:
        raise ArtefactError(
            f"{folder} was trained on data set {description['dataset']!r} with another "
            f"fingerprint than {dataset.name!r} has; pass the data set that it was trained on"
        )


def load_trained(
    folder: Path,
    dataset: Dataset,
    text: FloatArray | None = None,
    image: FloatArray | None = None,
) -> Trained:
    """Read what `save_trained` wrote, for the data set that it was trained on.

    Raises
    ------
    ArtefactError
        Where a file is missing or broken, or the model belongs to another data set.
    """
    variant = read_variant(folder)
    description = read_description(folder)
    check_dataset(folder, description, dataset)
    chosen = description.get("chosen", {})
    module = build_model(variant.model.with_chosen(chosen), dataset, text, image)
    try:
        module.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ArtefactError(
            f"{folder / WEIGHTS_FILE} cannot be read ({error}); run 'twotower train' again"
        ) from error
    module.eval()
    state = TrainingState.from_json(description["training"])
    return Trained(
        variant,
        description["seed"],
        module,
        state,
        description.get("validation_metric"),
        chosen,
    )
