"""Training of models by name, with their teachers; finished models are read, not trained again."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Final

from twotower.data import Dataset, Part
from twotower.data.split_choice import empty_parts
from twotower.errors import ArtefactError, InputError
from twotower.evaluation.protocols import validation_ndcg
from twotower.factors.popularity import Popularity
from twotower.features import TextFields, cached_embeddings, item_texts, text_encoder
from twotower.models.base import RetrievalModule, Scorer
from twotower.models.sequence import MOST_FACTOR_WEIGHT
from twotower.reporting.choices import columns_in_words
from twotower.reporting.product_names import PRODUCT, product_name, seed_label, study_name
from twotower.training.checkpoints import read_state
from twotower.training.collectives import ranks
from twotower.training.fit import UNVALIDATED_EPOCHS, Trained, fit
from twotower.training.memory import check_memory, marked_run
from twotower.training.progress import TrainingState
from twotower.training.sizing import sized
from twotower.training.storage import load_trained, read_variant, save_trained
from twotower.training.variant import Variant
from twotower.types import FloatArray, Mapper
from twotower.workflow.baselines import BASELINES
from twotower.workflow.item_images import item_image
from twotower.workflow.progress import Reporter, Silent
from twotower.workflow.selection import chosen_record
from twotower.workflow.variants import ADDED_VARIANTS, VARIANTS

TEXTS: Final[Mapping[TextFields, str]] = {
    "title": "titles",
    "rich": "rich texts",
    "title-or-rich": "titles",
}
"""Labels of the encoding progress."""


def named_variant(name: str, text_encoder: str = "minilm") -> Variant:
    """A variant by name; `InputError` where there is none."""
    name = study_name(name)
    if name in VARIANTS:
        variant = VARIANTS[name]
    elif name in ADDED_VARIANTS:
        variant = ADDED_VARIANTS.find(name)
    else:
        known = (PRODUCT, *VARIANTS, *ADDED_VARIANTS)
        raise InputError(f"unknown model {name!r}", f"pass one of {', '.join(known)}")
    return variant.vary(text_encoder=text_encoder)


def item_text(
    variant: Variant, dataset: Dataset, reporter: Reporter, mapper: Mapper = map
) -> FloatArray | None:
    """``(num_items, t)`` unit embeddings of the items' text, or None for a model without text."""
    if "text" not in variant.model.inputs_needed:
        return None
    return text_vectors(dataset, variant.text_encoder, variant.text_fields, reporter, mapper)


def text_vectors(
    dataset: Dataset,
    encoder_name: str,
    fields: TextFields,
    reporter: Reporter,
    mapper: Mapper = map,
) -> FloatArray:
    """``(num_items, t)`` unit embeddings of the items' text, cached on disk."""
    encoder = text_encoder(encoder_name)
    texts = item_texts(dataset.catalogue, fields)
    advance = reporter.counting(f"encode {TEXTS[fields]} with {encoder.name}", len(texts))
    done = 0

    def progress(now: int, _: int) -> None:
        nonlocal done
        advance(now - done)
        done = now

    vectors = cached_embeddings(encoder, texts, progress=progress, mapper=mapper)
    advance(len(texts) - done)  # what the cache had
    return vectors


def train_variant(
    variant: Variant,
    dataset: Dataset,
    *,
    name: str = "model",
    seed: int = 0,
    checkpoint: Path | None = None,
    searches: Path | None = None,
    models: Path | None = None,
    reporter: Reporter | None = None,
) -> Trained:
    """Train with early stopping on full-ranking validation NDCG@10.

    Parameters
    ----------
    searches
        Folder that caches the settings chosen for the least-squares part, for other trainings with
        the same inputs; default: the checkpoint.
    models
        Folder of the variant's teachers, ``<name>/seed-<n>``, read or saved; None trains them
        without saving them.

    Without a validation part nothing is chosen and training lasts a fixed number of epochs, which
    the reporter notes.
    """
    reporter, label = reporter or Silent(), seed_label(name, seed)
    variant = sized(variant, dataset.train, in_order=dataset.in_order)
    validated = dataset.has(Part.VALIDATION)
    if not validated:
        why, fix = empty_parts(dataset)
        reporter.failure(
            f"{label}: no validation part ({why}), so that nothing is chosen and "
            f"training takes {min(UNVALIDATED_EPOCHS, variant.training.epochs)} epochs; to choose, "
            f"prepare again: {fix}"
        )

    memory = check_memory(variant, dataset)
    if memory is not None:
        reporter.note(f"{label}: {memory}")

    measured = partial(
        validation_ndcg, dataset=dataset, max_queries=variant.training.validation_users
    )

    def validate(module: RetrievalModule) -> float:
        return measured(module.scorer())

    processes = ranks()
    if not processes.first:
        processes.wait()  # until the first one has filled the cache of vectors
    image = item_image(variant, dataset, reporter)  # first: it may find that there are none
    text = item_text(variant, dataset, reporter)
    if processes.first:
        processes.wait()
    factors = processes.of_first(
        lambda: (
            chosen_record(variant, dataset, text, seed, searches or checkpoint, reporter)
            if validated
            else None
        )
    )
    teachers = trained_teachers(variant, dataset, seed, models, reporter)

    if validated and variant.training.patience is not None:
        reporter.note(
            f"{label}: training ends when validation stops gaining, after "
            f"{variant.training.epochs} epochs at most; the time left is that to the earliest end"
        )
    popularity = None
    if validated:
        popularity = processes.of_first(
            lambda: measured(Popularity.fit(dataset.train, len(dataset.items)))
        )

    note_resumed(label, checkpoint, reporter)
    trained = fit(
        variant,
        dataset,
        validate=validate if validated else None,
        popularity=popularity,
        image=image,
        text=text,
        least_squares=factors,
        teachers=teachers,
        seed=seed,
        checkpoint=checkpoint,
        progress=reporter.training(label),
    )
    if processes.first and popularity is not None and "towers_alone" in trained.chosen:
        for warning in two_part_warnings(trained, popularity):
            reporter.failure(f"{label}: {warning}")
    return trained


def note_resumed(label: str, checkpoint: Path | None, reporter: Reporter) -> None:
    """Note from which step an interrupted training resumes."""
    if checkpoint is not None and (checkpoint / "last").exists():
        state = TrainingState.from_json(read_state(checkpoint / "last"))
        reporter.note(
            f"{label} goes on from epoch {state.epoch + 1}, step {state.step + 1}, "
            "where it was interrupted"
        )


def two_part_warnings(trained: Trained, popularity: float) -> Iterator[str]:
    """Warnings about a model whose parts add little, given the metric of popularity."""
    weight, towers = trained.chosen["factor_weight"], trained.chosen["towers_alone"]
    metric = trained.metric or 0.0
    alone = f"alone they have validation NDCG@10 {towers:.4f}, popularity {popularity:.4f}"
    if metric < popularity:
        yield (
            f"validation NDCG@10 {metric:.4f} is below popularity's {popularity:.4f}; "
            "recommend by popularity, or train on more interactions"
        )
    if weight >= MOST_FACTOR_WEIGHT:
        yield (
            f"the towers add nothing to least squares on this data set ({alone}), which serves by "
            "itself; more interactions, or texts of the items, may change that"
        )
    elif towers < popularity and weight > 1 / MOST_FACTOR_WEIGHT:
        yield (
            f"least squares carries the towers on this data set: {alone}, and both parts "
            f"{metric:.4f}; more interactions, or texts of the items, may change that"
        )


def trained_teachers(
    variant: Variant, dataset: Dataset, seed: int, models: Path | None, reporter: Reporter
) -> dict[str, Scorer]:
    """The teachers of a variant by name, read from or saved to ``models``; see `train_variant`."""
    return {
        name: _teacher(name, variant, dataset, seed, models, reporter) for name in variant.teachers
    }


def _teacher(
    name: str,
    student: Variant,
    dataset: Dataset,
    seed: int,
    models: Path | None,
    reporter: Reporter,
) -> Scorer:
    """A teacher by name, of the student's seed and text encoder."""
    if name in BASELINES:
        return BASELINES[name](dataset)
    variant = named_variant(name, student.text_encoder)
    where = student.training.accelerator, student.training.precision
    variant = variant.vary(training=variant.training.vary(accelerator=where[0], precision=where[1]))
    if models is None:
        trained = train_variant(variant, dataset, name=name, seed=seed, reporter=reporter)
    else:
        folder = models / name / f"seed-{seed}"
        trained = trained_model(
            variant, dataset, folder, name=name, seed=seed, models=models, reporter=reporter
        )
    return trained.module.scorer()


def saved_model(folder: Path, dataset: Dataset, reporter: Reporter) -> Trained:
    """Read a trained model, with the item texts and images that its variant needs."""
    variant = read_variant(folder)
    return load_trained(
        folder,
        dataset,
        item_text(variant, dataset, reporter),
        item_image(variant, dataset, reporter),
    )


def trained_model(
    variant: Variant,
    dataset: Dataset,
    folder: Path,
    *,
    name: str = "model",
    seed: int = 0,
    models: Path | None = None,
    reporter: Reporter | None = None,
) -> Trained:
    """Train and save to ``folder``, or read the model that is there.

    During training, checkpoints are kept beside the folder; a killed run resumes from them.
    Teachers of the variant are read from or saved to ``models``; without it, they are saved with
    the checkpoints, and deleted with them.

    Raises
    ------
    ArtefactError
        Where the folder holds a model of another data set, seed or settings.
    """
    reporter, label = reporter or Silent(), seed_label(name, seed)
    variant = sized(variant, dataset.train, in_order=dataset.in_order)
    if folder.exists():
        if read_variant(folder) != variant:
            raise ArtefactError(
                f"{folder} holds a model with other settings than {product_name(name)!r} has now; "
                "delete it, or choose another output folder"
            )
        found = saved_model(folder, dataset, reporter)
        if found.seed != seed:
            raise ArtefactError(
                f"{folder} holds a model of seed {found.seed}, wanted seed {seed}; "
                "delete it, or choose another output folder"
            )
        reporter.note(f"{label} found trained")
        return found
    first = ranks().first
    with checkpoints_beside(folder, label, reporter) as checkpoint:
        trained = train_variant(
            variant,
            dataset,
            name=name,
            seed=seed,
            checkpoint=checkpoint,
            models=models or checkpoint / "teachers",
            reporter=reporter,
        )
        if first:
            save_trained(folder, name, trained, dataset)
    if first:
        reporter.note(f"{label}: {summary(trained)}")
    return trained


@contextmanager
def checkpoints_beside(folder: Path, label: str, reporter: Reporter) -> Iterator[Path]:
    """The folder of a training's checkpoints, deleted once the model is saved to ``folder``.

    The reporter notes if the previous run of the training was killed.

    Raises
    ------
    InputError
        Where another process trains there.
    """
    checkpoint, first = folder.parent / f".{folder.name}-checkpoint", ranks().first
    with marked_run(checkpoint) if first else nullcontext() as killed:
        if killed is not None:
            reporter.failure(f"{label}: {killed}")
        yield checkpoint
    if first:
        shutil.rmtree(checkpoint, ignore_errors=True)


def summary(trained: Trained) -> str:
    """One line about a trained model: validation metric, epoch, and chosen settings."""
    state, chosen, parts = trained.state, trained.chosen, []
    if trained.metric is not None:
        parts.append(f"validation NDCG@10 {trained.metric:.4f}")
    if state.best_epoch is not None:
        parts.append(f"weights of epoch {state.best_epoch + 1} of {len(state.epochs)}")
    if "least_squares" in chosen:
        found = chosen["least_squares"]
        settings = found["factors"]
        parts.append(
            f"least squares chosen from {len(found['trials'])} trials in {found['seconds']:.0f} s "
            f"(recency {settings['recency']:g}, {settings['embedding_dim']} dimensions, "
            f"next items {'fitted' if settings['next_item'] else 'not fitted'})"
        )
    if "factor_weight" in chosen:
        parts.append(f"least-squares weight {chosen['factor_weight']:.3g}")
        parts.append(f"towers alone {chosen['towers_alone']:.4f}")
    if columns := columns_in_words(chosen.get("columns", {})):
        parts.append(f"declared columns: {columns[0]} (validation NDCG@10 with {columns[1]})")
    limit = ", where the given minutes ended it" if state.out_of_time else ""
    parts.append(f"{state.spent:.0f} s of training{limit}")
    return ", ".join(parts)
