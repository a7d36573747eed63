"""What every trainable model promises, whatever its family."""

import json
from collections.abc import Callable
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
from twotower.models.base import RetrievalModule, VectorScorer
from twotower.training.fit import Trained, fit
from twotower.training.storage import load_trained, read_description, save_trained

NAMES = [
    "mf",
    "lightgcn",
    "v1",
    "v2",
    "v3",
    "v4",
    "v4-bpr",
    "v5",
    "v5c",
    "v6",
    "v7",
    "v8",
    "v9",
    "v10",
]


@pytest.fixture(scope="module", params=NAMES)
def variant(request: Any, small_variants: Any) -> Any:
    return small_variants[request.param]


@pytest.fixture(scope="module")
def inputs(block_text: Any, block_image: Any) -> dict[str, Any]:
    """What models may read of the items."""
    return {"text": block_text, "image": block_image}


@pytest.fixture(scope="module")
def train(
    variant: Any, blocks: Dataset, inputs: Any, block_teachers: Any
) -> Callable[[int], Trained]:
    """Train the variant with a seed."""

    def validate(module: RetrievalModule) -> float:
        return validation_ndcg(module.scorer(), blocks)

    return partial(fit, variant, blocks, validate=validate, **inputs, teachers=block_teachers)


@pytest.fixture(scope="module")
def model(train: Any) -> Trained:
    return train(seed=0)


@pytest.fixture
def folder(model: Trained, blocks: Dataset, tmp_path: Path) -> Path:
    return save_trained(tmp_path / "model", "a name", model, blocks)


def test_fitting_lowers_the_loss_and_ends_in_eval_mode(model: Trained) -> None:
    first, last = model.state.epochs
    assert last.loss < first.loss
    assert model.state.best_metric is not None
    assert not model.module.training


def test_one_seed_gives_one_model(model: Trained, train: Any) -> None:
    again = train(seed=0).module.state_dict()
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, again[name]), name


def test_another_seed_gives_another_model(model: Trained, train: Any) -> None:
    other = dict(train(seed=1).module.named_parameters())
    same = [torch.equal(value, other[name]) for name, value in model.module.named_parameters()]
    assert not any(same)


def test_scores_are_finite_float32_for_known_unknown_and_empty(
    model: Trained, blocks: Dataset
) -> None:
    scorer = model.module.scorer()
    assert isinstance(scorer, VectorScorer)
    assert scorer.num_items == len(blocks.items)
    users = np.array([0, -1, 59, -1], np.int32)
    histories = blocks.interactions.select(np.array([0, 1, 2, 3]))
    mask = histories.rows < 2  # the last two queries have an empty history
    queries = Queries(users, histories.keep(mask))
    scores = scorer.scores(queries)
    assert scores.shape == (4, 40)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    vectors = scorer.user_vectors(queries) @ scorer.item_vectors().T
    np.testing.assert_allclose(vectors, scores, atol=1e-5)


def test_no_queries_are_no_scores(model: Trained, blocks: Dataset) -> None:
    queries, _ = blocks.held_out(Part.TEST)
    assert model.module.scorer().scores(queries.select(np.array([], np.int64))).shape == (0, 40)


def test_a_query_scores_alike_alone_and_in_a_batch(model: Trained, blocks: Dataset) -> None:
    queries, _ = blocks.held_out(Part.TEST)
    scorer = model.module.scorer()
    together = scorer.scores(queries)
    for row in (0, 17, 59):
        alone = scorer.scores(queries.select(np.array([row])))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_seen_items_are_no_candidates(model: Trained, blocks: Dataset) -> None:
    queries, targets = blocks.held_out(Part.TEST)
    ranks = full_ranks(model.module.scorer(), queries, targets).ranks
    # 11 of the 40 items are in every history, so 29 are left to be ranked.
    assert ranks.min() >= 1
    assert ranks.max() <= 29


def test_saved_and_loaded_it_scores_alike(
    model: Trained, blocks: Dataset, inputs: Any, folder: Path
) -> None:
    queries, _ = blocks.held_out(Part.TEST)
    loaded = load_trained(folder, blocks, **inputs)
    assert loaded.variant == model.variant
    assert loaded.state == model.state
    described = read_description(folder)
    assert described["name"] == "a name"
    assert described["gates"] == getattr(model.module, "gate_weights", dict)()
    found = loaded.module.scorer().scores(queries)
    np.testing.assert_array_equal(found, model.module.scorer().scores(queries))


def test_a_model_of_another_data_set_is_refused(blocks: Dataset, inputs: Any, folder: Path) -> None:
    items = blocks.interactions.items.copy()
    items[:2] = items[1::-1]
    other = replace(blocks, name="other", interactions=replace(blocks.interactions, items=items))
    with pytest.raises(
        ArtefactError,
        match=r"was trained on data set 'blocks' with another fingerprint than 'other' has; "
        r"pass the data set that it was trained on$",
    ):
        load_trained(folder, other, **inputs)


def test_broken_weights_are_refused(blocks: Dataset, inputs: Any, folder: Path) -> None:
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(
        ArtefactError, match=r"weights\.safetensors cannot be read \(.*train' again"
    ):
        load_trained(folder, blocks, **inputs)


def test_a_broken_description_is_refused(blocks: Dataset, inputs: Any, folder: Path) -> None:
    file = folder / "model.json"
    description = read_description(folder)
    file.write_text(file.read_text()[:-9])
    with pytest.raises(ArtefactError, match=r"model is not a readable trained model \("):
        load_trained(folder, blocks, **inputs)
    file.write_text('{"name": "mf", "seed": 0}')
    with pytest.raises(
        ArtefactError,
        match=r"\(model\.json lacks dataset, dataset_fingerprint, training, variant\)",
    ):
        load_trained(folder, blocks, **inputs)
    file.write_text(json.dumps({**description, "variant": {"model": {"kind": "mystery"}}}))
    with pytest.raises(ArtefactError, match=r"does not describe a variant of this release"):
        load_trained(folder, blocks, **inputs)
