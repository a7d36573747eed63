"""What images change in the item tower, and how an item without one fares."""

from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.models.build import build_model
from twotower.models.two_tower import TwoTower, TwoTowerConfig
from twotower.training.fit import Trained, fit
from twotower.training.storage import load_trained, save_trained
from twotower.training.variant import Variant
from twotower.types import FloatArray

MISSING = [3, 17, 18]


@pytest.fixture(scope="module")
def variant(small_variants: dict[str, Variant]) -> Variant:
    v5 = small_variants["v5"]
    assert isinstance(v5.model, TwoTowerConfig)
    item_tower = v5.model.item_tower.vary(image_dim=6)
    return v5.vary(model=v5.model.vary(item_tower=item_tower))


@pytest.fixture(scope="module")
def model(variant: Variant, blocks: Dataset, block_text: Any, block_image: FloatArray) -> Trained:
    return fit(variant, blocks, validate=lambda _: 1.0, text=block_text, image=block_image)


def vectors(module: torch.nn.Module) -> FloatArray:
    assert isinstance(module, TwoTower)
    return module.scorer().item_vectors()


def test_the_image_moves_its_own_item_alone(
    model: Trained, variant: Variant, blocks: Dataset, block_text: Any, block_image: FloatArray
) -> None:
    other = block_image.copy()
    other[7] = np.roll(other[7], 1)
    changed = build_model(variant.model, blocks, block_text, other)
    changed.load_state_dict(model.module.state_dict())
    moved = np.abs(vectors(changed) - vectors(model.module)).max(axis=1) > 1e-6
    assert np.flatnonzero(moved).tolist() == [7]


def test_no_image_is_a_learned_vector(model: Trained) -> None:
    module = model.module
    assert isinstance(module, TwoTower)
    before = vectors(module)
    learned = module.item_tower.missing_image
    assert learned.detach().abs().sum() > 0, "it begins at zero, and items without images train it"
    saved = learned.detach().clone()
    with torch.no_grad():
        learned += 1.0
        moved = np.abs(vectors(module) - before).max(axis=1) > 1e-6
        learned.copy_(saved)
    assert np.flatnonzero(moved).tolist() == MISSING


def test_images_are_data_and_no_weights(model: Trained, block_image: FloatArray) -> None:
    weights = model.module.state_dict()
    assert "item_image" not in weights
    assert weights["item_tower.image.weight"].shape == (6, block_image.shape[1])
    assert weights["item_tower.missing_image"].shape == (6,)


def test_saved_and_loaded_it_embeds_alike(
    model: Trained, blocks: Dataset, block_text: Any, block_image: FloatArray, tmp_path: Any
) -> None:
    folder = save_trained(tmp_path / "model", "v7", model, blocks)
    loaded = load_trained(folder, blocks, block_text, block_image)
    np.testing.assert_array_equal(vectors(loaded.module), vectors(model.module))
    with pytest.raises(
        InputError, match=r"^this model reads item images, got none; pass image=\.\.\.$"
    ):
        load_trained(folder, blocks, block_text)
