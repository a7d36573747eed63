"""The context of a request as an input of the user tower."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch

from twotower.data import Dataset, Part, Queries
from twotower.evaluation.figures import result_rows
from twotower.evaluation.protocols import evaluate, validation_ndcg
from twotower.evaluation.registry import FULL
from twotower.evaluation.tasks import CutHistory
from twotower.factors.popularity import Popularity
from twotower.features.declared_columns import no_texts
from twotower.features.gaps import query_gaps
from twotower.models.build import build_model
from twotower.models.column_vectors import HIDDEN
from twotower.models.sequence import SequenceTower
from twotower.training.fit import Trained, fit
from twotower.training.negatives import Uniform
from twotower.training.sequences import SequenceExamples
from twotower.training.storage import load_trained, save_trained
from twotower.workflow.models import train_variant


@pytest.fixture(scope="module")
def dataset(context_dataset: Dataset) -> Dataset:
    return context_dataset


@pytest.fixture(scope="module")
def text(dataset: Dataset) -> Any:
    return np.zeros((len(dataset.items), 384), np.float32)


@pytest.fixture(scope="module")
def variant(context_variant: Any) -> Any:
    return context_variant


@pytest.fixture(scope="module")
def trained(context_trained: Trained) -> Trained:
    return context_trained


@pytest.fixture(scope="module")
def module(trained: Trained) -> SequenceTower:
    assert isinstance(trained.module, SequenceTower)
    return trained.module


def ndcg(module: Any, dataset: Dataset) -> float:
    return evaluate(module.scorer(), dataset, protocols=(FULL,)).mean(FULL, "NDCG@10")


def test_the_tower_that_reads_the_context_is_far_better_where_that_decides(
    module: SequenceTower, dataset: Dataset, variant: Any, text: Any
) -> None:
    blind = fit(
        variant.vary(model=variant.model.vary(columns="none")), dataset,
        validate=lambda one: validation_ndcg(one.scorer(), dataset), text=text,
    )  # fmt: skip
    assert ndcg(module, dataset) > 1.5 * ndcg(blind.module, dataset)


def test_validation_decides_whether_it_is_read(
    dataset: Dataset, variant: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    chosen = variant.vary(
        model=variant.model.vary(columns="chosen"),
        training=variant.training.vary(epochs=12),
    )
    found = train_variant(chosen, dataset)
    assert found.chosen["columns"]["read"] == ["events"]
    tried = found.chosen["columns"]["tried"]
    assert tried["events"] > tried["none"]


def test_an_evaluation_records_that_the_context_of_the_target_was_read(
    module: SequenceTower, dataset: Dataset
) -> None:
    def rows(scorer: Any) -> Any:
        found = evaluate(scorer, dataset, protocols=(FULL,))
        return result_rows({0: found}, dataset="x", split="y", model="z")

    for row in rows(module.scorer()):
        assert row.context == ["device", "hour", "is_app"]
        assert row.model_dump()["context"] == row.context
    for row in rows(Popularity.fit(dataset.train, len(dataset.items))):
        assert row.context == []
        assert "context" not in row.model_dump()


def examples(dataset: Dataset) -> SequenceExamples:
    negatives = Uniform(count=4, shared=True).fit(dataset.train, len(dataset.items))
    return SequenceExamples(dataset.train, negatives, 64, 0, length=4, batch_positions=16)


def test_an_example_reads_the_context_of_the_event_that_it_predicts(dataset: Dataset) -> None:
    train = dataset.train
    assert train.contexts is not None
    of_event = {
        (int(user), int(item)): int(context)
        for user, item, context in zip(train.rows, train.items, train.contexts, strict=True)
    }
    source = examples(dataset)
    for step in range(source.steps):
        batch = source.batch(0, step)
        read = batch.contexts.flatten()[batch.positions].tolist()
        asked = zip(batch.users.tolist(), batch.positives.tolist(), strict=True)
        assert read == [of_event[one] + 1 for one in asked]
        assert not batch.contexts[batch.histories == 0].any()


def moved(dataset: Dataset, parts: Any) -> Dataset:
    """The data set with other contexts of some parts."""
    log = dataset.interactions
    assert log.contexts is not None
    table = dataset.context_table
    assert table is not None
    changed = np.where(np.isin(dataset.split, parts), log.contexts[::-1], log.contexts)
    return replace(dataset, interactions=replace(log, contexts=changed))


def test_contexts_of_held_out_events_change_nothing_that_is_fitted(
    dataset: Dataset, variant: Any, text: Any
) -> None:
    short = variant.vary(training=variant.training.vary(epochs=2))
    other = moved(dataset, [Part.VALIDATION, Part.TEST])
    first, again = (
        fit(short, one, validate=lambda _: 0.0, text=text).module for one in (dataset, other)
    )
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    encoders = [one.read_columns.context_encoders.to_json() for one in (first, again)]
    assert encoders[0] == encoders[1]


def test_of_the_future_only_the_context_of_the_request_is_read(
    module: SequenceTower, dataset: Dataset
) -> None:
    queries, _ = dataset.held_out(Part.VALIDATION)
    later, _ = moved(dataset, [Part.TEST]).held_out(Part.VALIDATION)
    scorer = module.scorer()
    np.testing.assert_array_equal(scorer.user_vectors(queries), scorer.user_vectors(later))
    past, _ = moved(dataset, [Part.TRAIN]).held_out(Part.VALIDATION)  # nor that of events before
    np.testing.assert_array_equal(scorer.user_vectors(queries), scorer.user_vectors(past))
    own, _ = moved(dataset, [Part.VALIDATION]).held_out(Part.VALIDATION)
    assert not np.allclose(scorer.user_vectors(queries), scorer.user_vectors(own))


def test_a_request_without_context_is_one_of_which_nothing_is_known(
    module: SequenceTower, dataset: Dataset
) -> None:
    queries, _ = dataset.held_out(Part.TEST)
    scorer = module.scorer()
    unknown = replace(queries, contexts=np.full(len(queries), -1, np.int32))
    without = replace(queries, contexts=None)
    np.testing.assert_array_equal(scorer.user_vectors(unknown), scorer.user_vectors(without))
    assert not np.allclose(scorer.user_vectors(queries), scorer.user_vectors(without))


def test_without_a_history_a_context_says_nothing(module: SequenceTower, dataset: Dataset) -> None:
    queries, _ = dataset.held_out(Part.TEST)
    empty = queries.histories.keep(np.zeros(len(queries.histories.items), np.bool_))
    vectors = module.scorer().user_vectors(Queries(queries.users, empty, None, queries.contexts))
    plain = module.scorer().user_vectors(Queries(queries.users, empty))
    np.testing.assert_array_equal(vectors, plain)


def test_it_starts_at_nothing(dataset: Dataset, variant: Any, text: Any) -> None:
    module = build_model(variant.model, dataset, text)
    assert isinstance(module, SequenceTower)
    queries, _ = dataset.held_out(Part.TEST)
    vectors = module.scorer().user_vectors(queries)
    plain = module.scorer().user_vectors(replace(queries, contexts=None))
    np.testing.assert_array_equal(vectors, plain)


def test_columns_and_whole_contexts_are_hidden_in_training(module: SequenceTower) -> None:
    context = module.user_tower.context
    assert context is not None
    rows = torch.full((4000,), 3)
    torch.manual_seed(0)
    context.train()
    codes, _, dense = context.inputs(rows)
    context.eval()
    missing = torch.stack([codes[:, 0] == 2, dense[:, 2] == 1, dense[:, 4] == 1], dim=1)
    whole = missing.all(dim=1)
    assert float(whole.float().mean()) == pytest.approx(HIDDEN, abs=0.02)
    assert float(missing[~whole].float().mean()) == pytest.approx(HIDDEN, abs=0.02)
    codes, _, dense = context.inputs(rows)
    assert not (codes[:, 0] == 2).any()
    assert not dense[:, [2, 4]].any()


def test_onnx_reads_the_context_as_torch_does(module: SequenceTower, dataset: Dataset) -> None:
    served = module.export(len(dataset.users))
    session = onnxruntime.InferenceSession(served.user_tower, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == [
        "history", "lengths", "context_codes", "context_weights", "context_dense",
    ]  # fmt: skip
    queries, _ = dataset.held_out(Part.TEST)
    items, lengths = queries.histories.padded(module.history_length)
    width = int(lengths.max())
    assert served.history_table is not None
    assert served.columns is not None
    assert dataset.context_table is not None
    table = dataset.context_table[queries.contexts].with_columns(
        pl.when(pl.int_range(len(queries)) < 5)
        .then(None)
        .otherwise(pl.col("device"))
        .alias("device")
    )
    encoded = served.columns.context.encode(table, no_texts)
    inputs = {"history": served.history_table[items[:, :width]], "lengths": lengths}
    inputs |= {f"context_{name}": array for name, array in encoded._asdict().items()}
    (found,) = session.run(["vector"], inputs)
    expected = module.scorer().user_vectors(queries)[:, : found.shape[1]]
    np.testing.assert_allclose(found[5:], expected[5:], atol=1e-5)
    assert not np.allclose(found[:5], expected[:5], atol=1e-3)


def test_a_saved_model_reads_the_context_again(
    trained: Trained, dataset: Dataset, text: Any, tmp_path: Any
) -> None:
    again = load_trained(save_trained(tmp_path / "m", "m", trained, dataset), dataset, text)
    queries, _ = dataset.held_out(Part.TEST)
    np.testing.assert_array_equal(
        again.module.scorer().user_vectors(queries), trained.module.scorer().user_vectors(queries)
    )


def test_a_cut_history_keeps_the_context_of_the_request(dataset: Dataset) -> None:
    whole, _ = dataset.held_out(Part.TEST)
    cut = CutHistory(3)(dataset, Part.TEST).queries
    np.testing.assert_array_equal(cut.contexts, whole.contexts)


def test_a_log_without_declared_columns_has_no_context(
    blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    module = build_model(small_variants["v10"].model, blocks, block_text)
    assert isinstance(module, SequenceTower)
    assert module.user_tower.context is None
    assert not examples(blocks).batch(0, 0).contexts.numel()
    assert module.scorer().reads_context == ()


def test_onnx_reads_times_columns_of_users_and_the_context_together(
    context_log: Any, variant: Any, text: Any
) -> None:
    users = pl.DataFrame({"user": [f"u{user:02}" for user in range(60)], "age": range(60)})
    schema = {"users": {"age": "number"}, "events": {"device": "category", "hour": "number"}}
    dataset = Dataset.from_frames(context_log, users=users, schema=schema, settings={"k_core": 0})
    torch.manual_seed(0)
    module = build_model(variant.model.vary(read_gaps=True), dataset, text)
    assert isinstance(module, SequenceTower)
    assert module.gaps is not None
    assert module.user_tower.context is not None
    with torch.no_grad():
        for parameter in (module.gaps.table, *module.user_tower.context.parameters()):
            parameter.normal_(std=0.3)
    module.eval()
    served = module.export(len(dataset.users))
    session = onnxruntime.InferenceSession(served.user_tower, providers=["CPUExecutionProvider"])
    queries, _ = dataset.held_out(Part.TEST, timed=True)
    items, lengths = queries.histories.padded(module.history_length)
    width = int(lengths.max())
    assert served.history_table is not None
    assert served.columns is not None
    assert dataset.context_table is not None
    contexts = served.columns.context.encode(dataset.context_table[queries.contexts], no_texts)
    inputs = {
        "history": served.history_table[items[:, :width]],
        "lengths": lengths,
        "gaps": query_gaps(queries, width),
        **served.columns.user_rows.take(queries.users + 1)._asdict(),
        **{f"context_{name}": array for name, array in contexts._asdict().items()},
    }
    assert [one.name for one in session.get_inputs()] == list(inputs)
    (found,) = session.run(["vector"], inputs)
    expected = module.scorer().user_vectors(queries)[:, : found.shape[1]]
    np.testing.assert_allclose(found, expected, atol=1e-5)
