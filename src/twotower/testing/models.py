"""Contract suite of model families. Needs pytest."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Dataset, Part, Queries
from twotower.errors import ArtefactError
from twotower.evaluation.protocols import validation_ndcg
from twotower.evaluation.ranking import full_ranks
from twotower.models.base import RetrievalModule, Scorer, VectorScorer
from twotower.testing.datasets import block_dataset, hashed_titles
from twotower.training.fit import Trained, fit
from twotower.training.storage import load_trained, read_description, save_trained
from twotower.training.variant import Variant


class ModelContract:
    """What every trainable model must do. Subclass it and give the fixture ``variant``.

    The variant should be small: it is trained three times, on 60 users and 40 items.

    For useful messages, call ``pytest.register_assert_rewrite("twotower.testing")`` in the
    ``conftest.py`` beside.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def variant(cls) -> Variant:
        """The variant under test."""
        raise NotImplementedError("give a fixture 'variant'")

    @pytest.fixture(scope="class")
    @classmethod
    def dataset(cls) -> Dataset:
        """`block_dataset`."""
        return block_dataset()

    @pytest.fixture(scope="class")
    @classmethod
    def inputs(cls, dataset: Dataset) -> dict[str, Any]:
        """Item inputs that the model may read, as keyword arguments of `fit`."""
        return {"text": hashed_titles(dataset)}

    @pytest.fixture(scope="class")
    @classmethod
    def teachers(cls) -> Mapping[str, Scorer]:
        """Trained models by name, for a variant that learns from others."""
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def train(
        cls,
        variant: Variant,
        dataset: Dataset,
        inputs: dict[str, Any],
        teachers: Mapping[str, Scorer],
    ) -> Callable[..., Trained]:
        """Train the variant with a seed."""

        def validate(module: RetrievalModule) -> float:
            return validation_ndcg(module.scorer(), dataset)

        return partial(fit, variant, dataset, validate=validate, **inputs, teachers=teachers)

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, train: Callable[..., Trained]) -> Trained:
        """Trained with seed 0."""
        return train(seed=0)

    @pytest.fixture
    def folder(self, model: Trained, dataset: Dataset, tmp_path: Path) -> Path:
        """Where it is saved."""
        return save_trained(tmp_path / "model", "a name", model, dataset)

    def test_fitting_lowers_the_loss_and_ends_in_eval_mode(self, model: Trained) -> None:
        first, *_, last = model.state.epochs
        assert last.loss < first.loss
        assert model.state.best_metric is not None
        assert not model.module.training

    def test_one_seed_gives_one_model(self, model: Trained, train: Callable[..., Trained]) -> None:
        again = train(seed=0).module.state_dict()
        for name, value in model.module.state_dict().items():
            assert torch.equal(value, again[name]), name

    def test_another_seed_gives_another_model(
        self, model: Trained, train: Callable[..., Trained]
    ) -> None:
        other = dict(train(seed=1).module.named_parameters())
        same = [torch.equal(value, other[name]) for name, value in model.module.named_parameters()]
        assert not any(same)

    def test_scores_are_finite_float32_for_known_unknown_and_empty(
        self, model: Trained, dataset: Dataset
    ) -> None:
        scorer = model.module.scorer()
        assert isinstance(scorer, VectorScorer)
        assert scorer.num_items == len(dataset.items)
        users = np.array([0, -1, 59, -1], np.int32)
        histories = dataset.interactions.select(np.array([0, 1, 2, 3]))
        mask = histories.rows < 2  # the last two queries have an empty history
        queries = Queries(users, histories.keep(mask))
        scores = scorer.scores(queries)
        assert scores.shape == (4, 40)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        vectors = scorer.user_vectors(queries) @ scorer.item_vectors().T
        np.testing.assert_allclose(vectors, scores, atol=1e-5)

    def test_no_queries_are_no_scores(self, model: Trained, dataset: Dataset) -> None:
        queries, _ = dataset.held_out(Part.TEST)
        assert model.module.scorer().scores(queries.select(np.array([], np.int64))).shape == (0, 40)

    def test_a_query_scores_alike_alone_and_in_a_batch(
        self, model: Trained, dataset: Dataset
    ) -> None:
        queries, _ = dataset.held_out(Part.TEST)
        scorer = model.module.scorer()
        together = scorer.scores(queries)
        for row in (0, 17, 59):
            alone = scorer.scores(queries.select(np.array([row])))
            np.testing.assert_allclose(alone[0], together[row], atol=1e-5)

    def test_seen_items_are_no_candidates(self, model: Trained, dataset: Dataset) -> None:
        queries, targets = dataset.held_out(Part.TEST)
        ranks = full_ranks(model.module.scorer(), queries, targets).ranks
        # 11 of the 40 items are in every history, so 29 are left to be ranked.
        assert ranks.min() >= 1
        assert ranks.max() <= 29

    def test_saved_and_loaded_it_scores_alike(
        self, model: Trained, dataset: Dataset, inputs: dict[str, Any], folder: Path
    ) -> None:
        queries, _ = dataset.held_out(Part.TEST)
        loaded = load_trained(folder, dataset, **inputs)
        assert loaded.variant == model.variant
        assert loaded.state == model.state
        described = read_description(folder)
        assert described["name"] == "a name"
        assert described["gates"] == getattr(model.module, "gate_weights", dict)()
        found = loaded.module.scorer().scores(queries)
        np.testing.assert_array_equal(found, model.module.scorer().scores(queries))

    def test_a_model_of_another_data_set_is_refused(
        self, dataset: Dataset, inputs: dict[str, Any], folder: Path
    ) -> None:
        items = dataset.interactions.items.copy()
        items[:2] = items[1::-1]
        other = replace(
            dataset, name="other", interactions=replace(dataset.interactions, items=items)
        )
        with pytest.raises(
            ArtefactError,
            match=rf"was trained on data set '{dataset.name}' with another fingerprint than "
            r"'other' has; pass the data set that it was trained on$",
        ):
            load_trained(folder, other, **inputs)

    def test_broken_weights_are_refused(
        self, dataset: Dataset, inputs: dict[str, Any], folder: Path
    ) -> None:
        weights = folder / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-7])
        with pytest.raises(
            ArtefactError, match=r"weights\.safetensors cannot be read \(.*train' again"
        ):
            load_trained(folder, dataset, **inputs)

    def test_a_broken_description_is_refused(
        self, dataset: Dataset, inputs: dict[str, Any], folder: Path
    ) -> None:
        file = folder / "model.json"
        description = read_description(folder)
        file.write_text(file.read_text()[:-9])
        with pytest.raises(ArtefactError, match=r"model is not a readable trained model \("):
            load_trained(folder, dataset, **inputs)
        file.write_text('{"name": "mf", "seed": 0}')
        with pytest.raises(
            ArtefactError,
            match=r"\(model\.json lacks dataset, dataset_fingerprint, training, variant\)",
        ):
            load_trained(folder, dataset, **inputs)
        file.write_text(json.dumps({**description, "variant": {"model": {"kind": "mystery"}}}))
        with pytest.raises(ArtefactError, match=r"does not describe a variant of this release"):
            load_trained(folder, dataset, **inputs)
