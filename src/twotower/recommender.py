"""The facade: fit, evaluate, recommend, save and load, with external ids throughout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from twotower.errors import InputError
from twotower.inference.pipeline import Pipeline, Recommendation

if TYPE_CHECKING:
    from twotower.data import Dataset
    from twotower.training.fit import Trained
    from twotower.training.variant import Variant


class Recommender:
    """A trained two-tower with its index, or a bundle of one.

    Loading and recommending need no torch; fitting and evaluating do.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        trained: Trained | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._trained = trained
        self._dataset = dataset

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        model: str | Variant = "two-tower",
        *,
        seed: int = 0,
        text_encoder: str = "minilm",
        checkpoint: Path | None = None,
    ) -> Self:
        """Train a two-tower and index its items.

        Parameters
        ----------
        dataset
            A prepared data set with a validation part.
        model
            Name of a two-tower variant (``twotower.workflow.variants.VARIANTS``), or a
            `Variant` of your own.
        seed
            Decides initial weights, batches and dropout.
        text_encoder
            ``minilm`` (extra ``text``) or ``hashing``; a `Variant` brings its own.
        checkpoint
            Folder of checkpoints; a fit that was interrupted goes on from there.

        Raises
        ------
        InputError
            An unknown model, one without towers, or a data set without a validation part.
        """
        from twotower.models.sequence_towers import SequenceConfig
        from twotower.models.two_tower import TwoTowerConfig
        from twotower.workflow.bundling import bundle_contents
        from twotower.workflow.models import named_variant, train_variant
        from twotower.workflow.reranking import fitted_blend

        name = model if isinstance(model, str) else "custom"
        variant = named_variant(model, text_encoder) if isinstance(model, str) else model
        if not isinstance(variant.model, TwoTowerConfig | SequenceConfig):
            raise InputError(
                f"model {name!r} has no towers to serve", "fit a two-tower, for example v10"
            )
        trained = train_variant(variant, dataset, name=name, seed=seed, checkpoint=checkpoint)
        blend = fitted_blend(trained, dataset)
        contents = bundle_contents(name, trained, dataset, reranker=blend)
        return cls(Pipeline(contents), trained, dataset)

    def evaluate(self) -> dict[str, float]:
        """Full-ranking test metrics, ``{"HR@10": …, "NDCG@10": …}``.

        Raises
        ------
        InputError
            On a loaded recommender: a bundle holds no test part.
        """
        from twotower.evaluation.protocols import FULL, evaluate

        if self._trained is None or self._dataset is None:
            raise InputError(
                "a loaded bundle holds no test part", "evaluate the recommender that was fitted"
            )
        found = evaluate(self._trained.module.scorer(), self._dataset, protocols=(FULL,))
        return {metric: found.mean(FULL, metric) for metric in found.metrics}

    def recommend(
        self,
        user_id: str | None = None,
        history: Sequence[str] = (),
        k: int = 10,
        *,
        exclude_seen: bool = True,
    ) -> list[Recommendation]:
        """Items for a known user, for somebody new who just looked at ``history``, or both.

        See `twotower.inference.pipeline.Pipeline.recommend` for arguments and errors.
        """
        return self._pipeline.recommend(user_id, history, k, exclude_seen=exclude_seen)

    def similar_items(self, item_id: str, k: int = 10) -> list[Recommendation]:
        """Items nearest to ``item_id`` in the model's space."""
        return self._pipeline.similar_items(item_id, k)

    def save(self, folder: str | Path) -> Path:
        """Write the bundle, all or nothing."""
        from twotower.workflow.bundling import write_bundle

        if self._trained is None:
            raise InputError("this recommender was loaded from a bundle", "copy that folder")
        write_bundle(Path(folder), self._pipeline.contents, self._trained)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """From a bundle's folder; `ArtefactError` where it is broken."""
        return cls(Pipeline.load(Path(folder)))
