from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from twotower.data import Dataset
from twotower.factors.scorer import trained_items
from twotower.features import ItemFeatures, ReleaseOrder, releases
from twotower.models.build import build_model
from twotower.models.sequence import SequenceTower
from twotower.models.two_tower import TwoTower


def made(variant: Any, blocks: Dataset, text: Any) -> TwoTower:
    torch.manual_seed(0)
    module = build_model(variant.model, blocks, text)
    assert isinstance(module, TwoTower)
    return module


def session(model: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def v5(blocks: Dataset, block_text: Any, small_variants: Any) -> TwoTower:
    return made(small_variants["v5"], blocks, block_text)


@pytest.fixture(scope="module")
def exported(v5: TwoTower) -> onnxruntime.InferenceSession:
    return session(v5.export(60).user_tower)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("length", [0, 1, 7, 20])
def test_onnx_gives_what_torch_gives(
    v5: TwoTower, exported: onnxruntime.InferenceSession, batch: int, length: int
) -> None:
    rng = np.random.default_rng(length)
    width = max(length, 1)
    lengths = np.full(batch, length)
    lengths[1:] = rng.integers(0, length + 1, batch - 1)
    inputs = {
        "user": rng.normal(size=(batch, 8)).astype(np.float32),
        "history": rng.normal(size=(batch, width, 8)).astype(np.float32),
        "lengths": lengths,
        "features": rng.normal(size=(batch, 8)).astype(np.float32),
    }
    (found,) = exported.run(["vector"], inputs)
    v5.eval()
    with torch.no_grad():
        expected = v5.user_tower(*map(torch.from_numpy, inputs.values())).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["v1", "v4"])
def test_a_tower_without_history_declares_none(
    name: str, blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    module = made(small_variants[name], blocks, block_text)
    exported = session(module.export(60).user_tower)
    assert [one.name for one in exported.get_inputs()] == ["user", "features"]
    user, features = (np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32),) * 2
    (found,) = exported.run(None, {"user": user, "features": features})
    module.eval()
    with torch.no_grad():
        expected = module.user_tower(
            torch.from_numpy(user),
            torch.zeros(5, 1, 0),
            torch.zeros(5, dtype=torch.int64),
            torch.from_numpy(features),
        )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_tower_without_features_exports(
    blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    variant = small_variants["v5"]
    user_tower = variant.model.user_tower.vary(features=False)
    module = made(variant.vary(model=variant.model.vary(user_tower=user_tower)), blocks, block_text)
    names = [one.name for one in session(module.export(60).user_tower).get_inputs()]
    assert names == ["user", "history", "lengths"]


def test_export_leaves_the_mode_as_it_was(v5: TwoTower) -> None:
    v5.train()
    v5.export(60)
    assert v5.training


@pytest.mark.parametrize("name", ["v1", "v4", "v5"])
def test_the_item_tower_gives_what_torch_gives(
    name: str, blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    module = made(small_variants[name], blocks, block_text)
    exported = session(module.export(60).item_tower)
    rows = torch.tensor([1, 7, 40])
    inputs = {
        "item": module.item_embedding(rows),
        "text": module.item_text[rows],
        "features": module.item_features[rows],
    }
    names = [one.name for one in exported.get_inputs()]
    assert names == (["item", "features"] if name == "v1" else ["item", "text", "features"])
    (found,) = exported.run(["vector"], {name: inputs[name].detach().numpy() for name in names})
    module.eval()
    with torch.no_grad():
        expected = module.embed_items(rows).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", ["v9", "v10"])
def test_the_user_tower_of_a_sequence_model_gives_what_torch_gives(
    name: str, layers: int, blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    config = small_variants[name].model
    config = config.vary(history=config.history.vary(layers=layers, length=6), read_gaps=False)
    torch.manual_seed(0)
    module = build_model(config, blocks, block_text)
    assert isinstance(module, SequenceTower)
    exported = session(module.export(60).user_tower)
    table = module.history_table().numpy()
    for lengths in ([0], [1], [6], [3, 0, 6, 1]):
        width = max(*lengths, 1)
        rows = np.random.default_rng(1).integers(1, len(table), (len(lengths), width))
        inputs = {"history": table[rows], "lengths": np.array(lengths)}
        (found,) = exported.run(["vector"], inputs)
        module.eval()
        with torch.no_grad():
            expected = module.user_tower(*map(torch.from_numpy, inputs.values())).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_item_tower_of_a_sequence_model_gives_what_torch_gives(
    blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    bare = block_text.copy()
    bare[::3] = 0
    torch.manual_seed(0)
    module = build_model(small_variants["v10"].model, blocks, bare)
    assert isinstance(module, SequenceTower)
    features = ItemFeatures.fit(blocks.train, blocks.catalogue).values
    waves = ReleaseOrder.fit(
        releases(blocks.catalogue), trained_items(blocks.train, len(bare))
    ).waves(releases(blocks.catalogue))
    inputs = {
        "item": module.item_embedding(module.item_ids[1:]).detach().numpy(),
        "text": bare,
        "features": features,
        "release": waves,
    }
    (found,) = session(module.export(60).item_tower).run(["vector"], inputs)
    np.testing.assert_allclose(found, module.history_table().numpy()[1:], atol=1e-5)
