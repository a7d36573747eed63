from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Dataset, Queries
from twotower.data.holdouts import hold_out
from twotower.features import ReleaseOrder, releases
from twotower.models.history import TransformerConfig
from twotower.models.sequence import SequenceTower
from twotower.training.fit import fit


@pytest.fixture(scope="module")
def cold_blocks(blocks: Dataset) -> Dataset:
    return hold_out(blocks, users=0, items=0.1)


@pytest.fixture(scope="module")
def module(cold_blocks: Dataset, small_variants: Any, block_text: Any) -> SequenceTower:
    trained = fit(small_variants["v9"], cold_blocks, validate=lambda _: 0.0, text=block_text)
    assert isinstance(trained.module, SequenceTower)
    return trained.module


def test_an_item_without_events_has_the_vector_that_serving_would_give_it(
    module: SequenceTower, cold_blocks: Dataset, block_text: Any
) -> None:
    trained = np.bincount(cold_blocks.train.items, minlength=len(cold_blocks.items)) > 0
    cold = np.flatnonzero(~trained)
    assert len(cold)
    vectors, factors = module.scorer().item_vectors(), module.next_factors.numpy()
    assert not factors[cold].any()
    assert module.projected
    towers = module.history_table().numpy()[1:] @ module.item_map.numpy()
    kept = np.hstack([towers, factors])[trained]
    np.testing.assert_allclose(vectors[trained], kept, atol=1e-6)
    config = module.cold_items
    released = releases(cold_blocks.catalogue)
    waves = ReleaseOrder.fit(released, trained).waves(released)
    for item in cold:
        alike = block_text @ block_text[item] + config.release_weight * waves @ waves[item]
        alike = np.where(trained, alike, -np.inf)
        order = np.argsort(-alike)
        lenders, next_one = order[: config.neighbours], order[config.neighbours]
        if alike[next_one] == alike[lenders[-1]]:
            continue  # titles that tie: either may lend
        borrowed = config.factor_scale * factors[lenders].mean(axis=0)
        expected = np.hstack([config.tower_scale * towers[item], borrowed])
        np.testing.assert_allclose(vectors[item], expected, atol=1e-5)


def test_nothing_of_a_held_out_item_reaches_the_model(
    module: SequenceTower, blocks: Dataset, cold_blocks: Dataset
) -> None:
    cold = np.setdiff1d(np.unique(blocks.train.items), np.unique(cold_blocks.train.items))
    assert (module.item_ids.numpy()[cold + 1] == 0).all()
    assert not module.factors.numpy()[cold].any()
    # In a history it is read by its title alone, and the least-squares part passes over it.
    queries = Queries.anonymous(blocks.interactions.select(np.arange(3)))
    assert np.isfinite(module.scorer().user_vectors(queries)).all()


def test_training_and_its_validations_are_without_the_projection(
    cold_blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    seen: list[bool] = []

    def validate(module: Any) -> float:
        seen.append(module.projected)
        return 0.0

    fit(small_variants["v9"], cold_blocks, validate=validate, text=block_text)
    assert seen[:2] == [False, False]
    assert all(seen[2:])  # the weight of the factors is chosen with it


def test_without_a_projection_the_whole_tower_is_compared(
    cold_blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    small = small_variants["v9"]
    whole = small.vary(model=small.model.vary(index_dim=None))
    module = fit(whole, cold_blocks, validate=lambda _: 0.0, text=block_text).module
    assert isinstance(module, SequenceTower)
    assert not module.projected
    assert module.scorer().item_vectors().shape[1] == 8 + 4


def test_a_projection_is_not_longer_than_the_towers(small_variants: Any) -> None:
    with pytest.raises(ValueError, match="index_dim must be at most embedding_dim 8, got 9"):
        small_variants["v9"].model.vary(index_dim=9)


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_the_newest_state_is_the_last_of_all_states(layers: int) -> None:
    torch.manual_seed(0)
    encoder = TransformerConfig(layers=layers, hidden_dim=8, length=6).build().eval()
    history, lengths = torch.randn(5, 6, 8), torch.tensor([0, 1, 2, 5, 6])
    states = encoder.states(history)[torch.arange(5), (lengths - 1).clamp(min=0)]
    states[0] = 0  # nothing was read
    torch.testing.assert_close(encoder(history, lengths), states)
    history[2, 2:] = 7  # what stands behind is not read
    torch.testing.assert_close(encoder(history, lengths)[2], states[2])
