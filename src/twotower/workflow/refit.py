"""Refit of an evaluated model on all interactions, for serving.

The reported metrics are those of the model fitted on the training part. The refit has the same
settings and seed, the number of epochs that validation chose, and everything else chosen on
validation (weights of parts, scales, the re-ranking stage); it cannot be evaluated on this data.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from twotower.bundle.blend import RECENCIES, Blend
from twotower.data import Dataset
from twotower.errors import ArtefactError
from twotower.reporting.product_names import product_name, seed_label
from twotower.training.fit import Trained, fit
from twotower.training.storage import save_trained
from twotower.workflow.item_images import item_image
from twotower.workflow.models import (
    checkpoints_beside,
    item_text,
    note_resumed,
    saved_model,
    text_vectors,
    trained_teachers,
)
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.reranking import unfitted_blend


def refit(
    name: str,
    evaluated: Trained,
    dataset: Dataset,
    folder: Path | None = None,
    *,
    models: Path | None = None,
    reporter: Reporter | None = None,
) -> Trained:
    """Refit an evaluated model on all interactions of its data set.

    Parameters
    ----------
    folder
        Where the refit is saved, and read by the next call. During training, checkpoints are kept
        beside the folder; a killed run resumes from them.
    models
        Folder of the teachers, for a variant that has some.
    """
    reporter = reporter or Silent()
    everything = dataset.with_all_in_train()
    if folder is not None and folder.exists():
        found = saved_model(folder, everything, reporter)
        if (found.variant, found.seed) != (evaluated.variant, evaluated.seed):
            raise ArtefactError(
                f"{folder} holds a refit of other settings than {product_name(name)!r} has now; "
                "delete it, or choose another output folder"
            )
        reporter.note(f"{seed_label(name, evaluated.seed)} found refitted")
        return found
    variant, seed = evaluated.variant, evaluated.seed
    label = f"{seed_label(name, seed)}, refit on all interactions"
    with (
        nullcontext() if folder is None else checkpoints_beside(folder, label, reporter)
    ) as checkpoint:
        note_resumed(label, checkpoint, reporter)
        trained = fit(
            variant,
            everything,
            validate=None,
            evaluated=evaluated,
            least_squares=evaluated.chosen.get("least_squares"),
            columns=evaluated.chosen.get("columns"),
            text=item_text(variant, dataset, reporter),
            image=item_image(variant, dataset, reporter),
            teachers=trained_teachers(variant, dataset, seed, models, reporter),
            seed=seed,
            checkpoint=checkpoint,
            progress=reporter.training(label),
        )
        if folder is not None:
            save_trained(folder, name, trained, everything)
    return trained


def refit_folder(evaluated: Path) -> Path:
    """Where the refit of a saved model is kept: beside it."""
    return evaluated.with_name(f"{evaluated.name}-refit")


def refit_blend(evaluated: Blend, trained: Trained, dataset: Dataset) -> Blend:
    """A re-ranking stage with signals from all interactions and weights fitted on validation."""
    variant = trained.variant
    text = text_vectors(dataset, variant.text_encoder, variant.text_fields, Silent())
    signals = unfitted_blend(
        dataset.interactions,
        text,
        by_ease=evaluated.by_ease,
        half_life=evaluated.earlier.half_life,
    )
    names = ("weights", "network", "short_lengths", "short_weights", "candidates", "helps")
    chosen = {name: getattr(evaluated, name) for name in (*names, *RECENCIES)}
    return replace(signals, **chosen)
