import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Dataset, Queries
from twotower.data.holdouts import hold_out
from twotower.features import ReleaseOrder, releases
from twotower.models.build import build_model
from twotower.models.history import Dropout, TransformerConfig
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


def test_only_items_with_text_hide_their_ids(
    cold_blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    text = block_text.copy()
    text[::2] = 0
    config = small_variants["v9"].model.vary(id_dropout=0.5, dropout=0.0)
    torch.manual_seed(0)
    module = build_model(config, cold_blocks, text).train()
    assert isinstance(module, SequenceTower)
    rows = torch.arange(1, len(text) + 1)
    with torch.no_grad():
        whole = module.history_table()[1:]
        changed = (module.embed_items(rows) - whole).abs().amax(1) > 1e-6
    assert not changed[::2].any()
    assert changed[1::2].any()


def test_validations_in_training_can_leave_the_factors_out(
    cold_blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    widths: list[int] = []

    def validate(module: Any) -> float:
        widths.append(module.scorer().item_vectors().shape[1])
        return 0.0

    variant = small_variants["v9"]
    variant = variant.vary(
        model=variant.model.vary(index_dim=None),
        training=variant.training.vary(towers_alone=True),
    )
    trained = fit(variant, cold_blocks, validate=validate, text=block_text)
    assert widths[:2] == [8, 8]
    assert widths[-1] == 8 + 4  # the finished model
    assert widths.count(8) == 3  # and once for its towers alone
    assert trained.chosen["towers_alone"] == 0.0


@pytest.mark.parametrize(
    ("best", "expected"), [(1.0, 1.0), (0.07, 0.0625), (30.0, 32.0), (1e9, 64.0), (0.0, 1 / 64)]
)
def test_the_weight_of_the_factors_is_searched_beyond_its_grid(
    best: float, expected: float, module: SequenceTower
) -> None:
    def validate(module: Any) -> float:
        return -abs(np.log(float(module.factor_weight) + 1e-12) - np.log(best + 1e-12))

    kept = float(module.factor_weight)
    chosen = module.weigh_factors(validate)
    assert chosen["factor_weight"] / expected == pytest.approx(1, abs=0.5)
    assert chosen["factor_weight"] == pytest.approx(float(module.factor_weight))
    module.factor_weight.fill_(kept)


def test_items_of_which_nothing_is_known_are_their_ids(
    cold_blocks: Dataset, small_variants: Any
) -> None:
    bare = cold_blocks.catalogue.select("item_id")
    dataset = dataclasses.replace(cold_blocks, catalogue=bare)
    nothing = np.zeros((len(bare), 16), dtype=np.float32)
    module = build_model(small_variants["v9"].model, dataset, nothing)
    assert isinstance(module, SequenceTower)
    expected = torch.nn.functional.normalize(module.item_embedding(module.item_ids), dim=-1)
    torch.testing.assert_close(module.history_table(), expected)


def test_dropout_hides_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(300, 101, requires_grad=True)
    drop = Dropout(0.25)
    out = drop(x)
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 4 / 3))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, out.detach())
    assert not torch.equal(drop(x), out)
    assert drop.eval()(x) is x


@pytest.mark.parametrize(
    ("steps", "expected"), [(100, [0.0, 0.05, 0.2, 0.2]), (0, [0.2, 0.2, 0.2, 0.2])]
)
def test_the_dropout_of_items_rises(
    steps: int, expected: list[float], blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    config = small_variants["v9"].model.vary(item_dropout=0.2, item_dropout_steps=steps)
    module = build_model(config, blocks, block_text)
    found = []
    for step in (0, 25, 100, 1000):
        module.before_step(step)
        found.append(module.item_tower.item_dropout.share)
    assert found == pytest.approx(expected)


def test_ids_can_start_from_the_factors(
    cold_blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    config = small_variants["v9"].model.vary(start_from_factors=True)
    module = build_model(config, cold_blocks, block_text)
    assert isinstance(module, SequenceTower)
    before = module.item_embedding.weight[1:].detach().clone()
    module.fit_factors(cold_blocks.train, 0)
    after, factors = module.item_embedding.weight[1:].detach(), module.factors
    known = factors.any(dim=1)
    assert torch.equal(after[~known], before[~known])
    assert not after[:, factors.shape[1] :][known].any()
    cosines = torch.nn.functional.cosine_similarity(after[:, : factors.shape[1]], factors)
    torch.testing.assert_close(cosines[known], torch.ones(int(known.sum())))
    torch.testing.assert_close(
        after[known].norm(dim=1), torch.full((int(known.sum()),), 0.05 * 8**0.5)
    )
