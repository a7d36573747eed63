from typing import Any

import numpy as np
import pytest
import torch

from twotower.data import Dataset, Histories, Part, Queries
from twotower.data.holdouts import hold_out, of_new_items
from twotower.models.base import Batch
from twotower.models.build import build_model
from twotower.models.history import GRUConfig
from twotower.models.towers import hide_ids
from twotower.models.two_tower import TwoTower


@pytest.fixture
def v5(blocks: Dataset, block_text: Any, small_variants: Any) -> TwoTower:
    return made("v5", blocks, block_text, small_variants)


def made(name: str, blocks: Dataset, text: Any, variants: Any) -> TwoTower:
    torch.manual_seed(0)
    module = build_model(variants[name].model, blocks, text)
    assert isinstance(module, TwoTower)
    return module


def a_batch(histories: list[list[int]], lengths: list[int]) -> Batch:
    size = len(lengths)
    return Batch(
        torch.arange(size),
        torch.arange(size) + 3,
        torch.zeros(size),
        torch.zeros(size, 0, dtype=torch.int64),
        torch.tensor(histories),
        torch.tensor(lengths),
        torch.randn(size, 8, generator=torch.Generator().manual_seed(4)),
    )


@pytest.mark.parametrize("name", ["v1", "v4", "v5"])
def test_vectors_are_of_unit_length(
    name: str, blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    scorer = made(name, blocks, block_text, small_variants).scorer()
    queries, _ = blocks.held_out(Part.TEST)
    for vectors in (scorer.item_vectors(), scorer.user_vectors(queries)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert vectors.dtype == np.float32


def test_what_stands_behind_a_history_is_never_read(v5: TwoTower) -> None:
    v5.eval()
    padded = [[4, 7, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]]
    rubbish = [[4, 7, 9, 31], [1, 2, 3, 4], [12, 5, 40, 1]]
    lengths = [2, 4, 0]
    with torch.no_grad():
        clean, dirty = (v5(a_batch(rows, lengths)) for rows in (padded, rubbish))
    torch.testing.assert_close(clean.query, dirty.query, rtol=0, atol=1e-6)


def test_wider_padding_changes_nothing(v5: TwoTower) -> None:
    v5.eval()
    narrow, wide = [[4, 7], [3, 0]], [[4, 7, 0, 0, 0], [3, 0, 0, 0, 0]]
    with torch.no_grad():
        queries = [v5(a_batch(rows, [2, 1])).query for rows in (narrow, wide)]
    torch.testing.assert_close(*queries, rtol=0, atol=1e-6)


def test_the_history_is_read_in_order(v5: TwoTower) -> None:
    v5.eval()
    with torch.no_grad():
        one, other = (v5(a_batch([row], [3])).query for row in ([5, 9, 14], [14, 9, 5]))
    assert (one - other).abs().max() > 1e-4


def test_only_the_newest_items_are_read_in_order(
    blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    config = small_variants["v5"].model  # reads the newest 4 items
    without_features = config.vary(user_tower=config.user_tower.vary(features=False))
    module = build_model(without_features, blocks, block_text)
    assert isinstance(module, TwoTower)
    rows = [[9, 1, 2, 3, 4], [30, 31, 1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4, 3]]
    vectors = module.encode_users(Queries.anonymous(Histories.from_lists(rows)))
    np.testing.assert_allclose(vectors[:2], vectors[[2, 2]], atol=1e-6)
    assert np.abs(vectors[3] - vectors[2]).max() > 1e-4


def test_an_empty_history_is_the_zero_state() -> None:
    torch.manual_seed(0)
    encoder = GRUConfig(length=3, hidden_dim=4).build()
    states = encoder(torch.randn(2, 3, 4), torch.tensor([0, 3]))
    assert torch.equal(states[0], torch.zeros(4))
    assert states[1].abs().sum() > 0


def test_ids_are_hidden_in_training_only() -> None:
    ids = torch.arange(1, 10_001)
    assert torch.equal(hide_ids(ids, 0.3, training=False), ids)
    assert torch.equal(hide_ids(ids, 0.0, training=True), ids)
    torch.manual_seed(0)
    hidden = hide_ids(ids, 0.3, training=True)
    assert ((hidden == 0) | (hidden == ids)).all()
    assert (hidden == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_hidden_ids_teach_the_unknown_id(v5: TwoTower) -> None:
    v5.train()
    torch.manual_seed(0)
    batch = a_batch([[1, 2]] * 30, [2] * 30)
    found = v5(batch)
    (found.query * found.positive.detach().roll(1, 0)).sum().backward()
    gradient = v5.user_embedding.weight.grad.to_dense().norm(dim=1)
    assert gradient[0] > 0  # the unknown id
    assert 0 < (gradient[1:31] > 0).sum() < 30  # some of the users, not all


def test_scoring_hides_nothing_and_leaves_the_mode_as_it_was(v5: TwoTower, blocks: Dataset) -> None:
    queries, _ = blocks.held_out(Part.TEST)
    v5.train()
    training = v5.scorer().scores(queries)
    assert v5.training
    v5.eval()
    np.testing.assert_array_equal(v5.scorer().scores(queries), training)
    assert not v5.training


def test_an_unknown_user_has_the_unknown_id(v5: TwoTower) -> None:
    histories = Histories.from_lists([[1, 5], [1, 5]])
    vectors = v5.encode_users(Queries(np.array([-1, 7], np.int32), histories))
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
    with torch.no_grad():
        v5.user_embedding.weight[8] = v5.user_embedding.weight[0]
    vectors = v5.encode_users(Queries(np.array([-1, 7], np.int32), histories))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_row_zero_of_the_history_table_is_padding(v5: TwoTower) -> None:
    table = v5.history_table()
    assert table.shape == (41, 8)
    assert torch.equal(table[0], torch.zeros(8))


def test_data_is_no_part_of_the_weights(v5: TwoTower) -> None:
    assert not {"item_features", "item_text"} & set(v5.state_dict())


def test_a_model_that_reads_text_refuses_to_go_without(
    blocks: Dataset, small_variants: Any
) -> None:
    with pytest.raises(
        ValueError, match=r"^this model reads item text, got none; pass text=\.\.\.$"
    ):
        build_model(small_variants["v4"].model, blocks)


def test_an_item_that_training_never_saw_has_the_unknown_id(
    blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    cold = hold_out(blocks, users=0, items=0.1)
    new = np.unique(cold.interactions.items[of_new_items(cold)])
    module = made("v4", cold, block_text, small_variants)
    before = module.scorer().item_vectors()
    with torch.no_grad():
        module.item_embedding.weight[new + 1] += 1.0  # whatever its own row holds
    np.testing.assert_array_equal(module.scorer().item_vectors(), before)
    with torch.no_grad():
        module.item_embedding.weight[0] += 1.0
    changed = (module.scorer().item_vectors() != before).any(axis=1)
    assert np.flatnonzero(changed).tolist() == new.tolist()
