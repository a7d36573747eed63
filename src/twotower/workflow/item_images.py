"""Image embeddings of a data set's items: find or fetch images, encode them, list failures."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from twotower.data import Dataset, columns
from twotower.data.atomic import atomic_folder
from twotower.data.images import ImageReject, locate_images, write_image_rejects
from twotower.data.sample import sample_folder
from twotower.data.sample.covers import write_covers
from twotower.errors import InputError
from twotower.features import cached_image_embeddings, image_encoder
from twotower.features.cache import cache_folder
from twotower.training.variant import Variant
from twotower.types import FloatArray
from twotower.workflow.progress import Reporter

if TYPE_CHECKING:
    from twotower.data.download.images import FetchedImage

logger = logging.getLogger(__name__)

FOLDER_VARIABLE: Final = "TWOTOWER_IMAGES"
"""Environment variable with the folder that the catalogue's image paths are relative to."""
NO_IMAGES: Final = "no images in this data set"
"""Start of the error message if a catalogue names no image, or none can be used."""


def item_image(variant: Variant, dataset: Dataset, reporter: Reporter) -> FloatArray | None:
    """``(num_items, m)`` unit embeddings of the items' images, zero where an item has none.

    Addresses are fetched, once, into the cache folder. What cannot be used is counted, logged
    and listed in a rejects file there.

    Returns
    -------
    numpy.ndarray or None
        None for a model without images.

    Raises
    ------
    InputError
        Where no item has an image that can be used: it begins with `NO_IMAGES`.
    """
    if "image" not in variant.model.inputs_needed:
        return None
    if dataset.catalogue[columns.IMAGE].null_count() == len(dataset.items):
        raise InputError(
            f"{NO_IMAGES}: the catalogue of {dataset.name!r} names none",
            "choose a model without images, for example v5",
        )
    encoder = image_encoder(variant.image_encoder)

    def fetch(urls: Sequence[str]) -> "Mapping[str, FetchedImage]":
        from twotower.data.download.images import fetch_images

        bar = reporter.bar("fetch images")
        return fetch_images(
            urls, cache_folder() / "images", progress=lambda done, total: bar(done, total, "")
        )

    located = locate_images(dataset.catalogue, image_folder(dataset), fetch)
    bar = reporter.bar(f"encode images with {encoder.name}")
    embedded = cached_image_embeddings(
        encoder, located.paths, progress=lambda done, total: bar(done, total, "")
    )
    reasons = dict(sorted((located.rejects | embedded.broken).items()))
    used = int(embedded.vectors.any(axis=1).sum())
    rejects = [
        ImageReject(dataset.items.ids[row], str(located.names[row]), reason)
        for row, reason in reasons.items()
    ]
    listed = cache_folder() / "images" / f"{dataset.name}-{dataset.fingerprint[:12]}-rejects.jsonl"
    if rejects:
        write_image_rejects(listed, rejects)
        counted = ", ".join(f"{n} {why}" for why, n in Counter(reasons.values()).most_common(5))
        logger.warning(
            "%d of %d images of %s cannot be used (%s); they are listed in %s",
            len(rejects), used + len(rejects), dataset.name, counted, listed,
        )  # fmt: skip
    else:
        listed.unlink(missing_ok=True)
    if not used:
        raise InputError(
            f"{NO_IMAGES} that can be used: of {len(rejects)}, the first is {rejects[0].image!r}: "
            f"{rejects[0].reason}",
            f"see {listed}, and set {FOLDER_VARIABLE} where paths are relative to another folder",
        )
    unnamed = len(dataset.items) - used - len(rejects)
    reporter.note(
        f"{used:,} of {len(dataset.items):,} items have an image, {unnamed:,} name none, "
        f"{len(rejects):,} cannot be used"
    )
    return embedded.vectors


def image_folder(dataset: Dataset) -> Path | None:
    """The folder that the catalogue's image paths are relative to; None if it has no paths.

    The folder that `FOLDER_VARIABLE` names, else that of the catalogue when it was prepared;
    the sample's covers are drawn, once, into the cache folder.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    recorded = given or dataset.summary.get("image_folder")
    if recorded is None:
        return None
    folder = Path(recorded)
    return sample_covers() if folder == sample_folder().resolve() else folder


def sample_covers() -> Path:
    """A folder with the covers of the bundled sample, drawn at the first call."""
    # The number changes with the drawings, so no cache keeps the old ones.
    folder = cache_folder() / "sample-covers-1"
    if not folder.exists():
        with atomic_folder(folder) as temporary:
            write_covers(pl.read_parquet(sample_folder() / "items.parquet"), temporary)
    return folder
