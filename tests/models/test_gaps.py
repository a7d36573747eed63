"""The time between events as an input of the user tower."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from twotower.data import Dataset, Part, Queries
from twotower.errors import InputError
from twotower.evaluation.protocols import evaluate
from twotower.evaluation.registry import FULL, FULL_TIMED
from twotower.features.gaps import UNKNOWN, gap_codes, query_gaps
from twotower.models.build import build_model
from twotower.models.sequence import SequenceTower
from twotower.training.fit import fit
from twotower.training.negatives import Uniform
from twotower.training.sequences import SequenceExamples


@pytest.fixture(scope="module")
def module(blocks: Dataset, small_variants: Any, block_text: Any) -> SequenceTower:
    trained = fit(small_variants["v10"], blocks, validate=lambda _: 0.0, text=block_text)
    assert isinstance(trained.module, SequenceTower)
    trained.module.reads_gaps.fill_(True)
    return trained.module


def examples(dataset: Dataset, seed: int = 0) -> SequenceExamples:
    negatives = Uniform(count=4, shared=True).fit(dataset.train, len(dataset.items))
    return SequenceExamples(dataset.train, negatives, 64, seed, length=4, batch_positions=16)


def test_an_example_knows_when_its_item_came_and_nothing_of_what_came_after(
    blocks: Dataset,
) -> None:
    train = blocks.train
    assert train.timestamps is not None
    when = {
        (int(user), int(item)): int(time)
        for user, item, time in zip(train.rows, train.items, train.timestamps, strict=True)
    }
    batch = examples(blocks).batch(0, 0)
    rows = batch.positions.numpy() // batch.histories.shape[1]
    for place, (row, user, wanted) in enumerate(
        zip(rows, batch.users.tolist(), batch.positives.tolist(), strict=True)
    ):
        column = int(batch.positions[place]) % batch.histories.shape[1]
        read = int(batch.histories[row, column]) - 1
        expected = gap_codes(np.array(when[user, wanted] - when[user, read]))
        assert int(batch.gaps[row, column]) == int(expected)
    assert not batch.gaps[batch.histories == 0].any()


def test_times_after_an_event_change_nothing_before_it(
    module: SequenceTower, blocks: Dataset
) -> None:
    """Of the future only the time of the request is read: no later event, and none of an item."""
    queries, _ = blocks.held_out(Part.TEST, timed=True)
    before, _ = blocks.held_out(Part.VALIDATION, timed=True)
    found = module.scorer().user_vectors(before)
    moved = replace(
        blocks,
        interactions=replace(
            blocks.interactions,
            timestamps=np.where(
                blocks.split >= Part.TEST,
                blocks.interactions.timestamps + 10**10,
                blocks.interactions.timestamps,
            ),
        ),
    )
    again, _ = moved.held_out(Part.VALIDATION, timed=True)
    np.testing.assert_array_equal(module.scorer().user_vectors(again), found)
    later, _ = moved.held_out(Part.TEST, timed=True)
    assert (later.times != queries.times).all()


def test_the_states_of_a_sequence_do_not_read_later_gaps(module: SequenceTower) -> None:
    rng = np.random.default_rng(0)
    history = torch.from_numpy(rng.normal(size=(1, 5, 8)).astype(np.float32))
    codes = torch.tensor([[3, 4, 5, 6, 7]])
    other = codes.clone()
    other[0, 3:] = 20
    assert module.gaps is not None
    module.eval()
    with torch.no_grad():
        found, changed = (
            module.user_tower.states(module.gaps(history, one)) for one in (codes, other)
        )
    torch.testing.assert_close(found[:, :3], changed[:, :3])
    assert not torch.allclose(found[:, 3:], changed[:, 3:])


def test_the_time_of_a_request_changes_the_answer_where_it_is_read(
    module: SequenceTower, blocks: Dataset
) -> None:
    queries, _ = blocks.held_out(Part.TEST, timed=True)
    assert queries.times is not None
    later = replace(queries, times=queries.times + 10**10)
    scorer = module.scorer()
    assert not np.allclose(scorer.user_vectors(queries), scorer.user_vectors(later))
    module.reads_gaps.fill_(False)
    try:
        unread = module.scorer()
        np.testing.assert_array_equal(unread.user_vectors(queries), unread.user_vectors(later))
    finally:
        module.reads_gaps.fill_(True)


def test_onnx_reads_gaps_as_torch_does(module: SequenceTower, blocks: Dataset) -> None:
    served = module.export(len(blocks.users))
    session = onnxruntime.InferenceSession(served.user_tower, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["history", "lengths", "gaps"]
    queries, _ = blocks.held_out(Part.TEST, timed=True)
    items, lengths = queries.histories.padded(module.history_length)
    width = int(lengths.max())
    assert served.history_table is not None
    inputs = {
        "history": served.history_table[items[:, :width]],
        "lengths": lengths,
        "gaps": query_gaps(queries, width),
    }
    (found,) = session.run(["vector"], inputs)
    expected = module.scorer().user_vectors(queries)[:, : found.shape[1]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("better", [True, False])
def test_validation_decides_whether_gaps_are_read(
    better: bool, blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    def validate(module: Any) -> float:
        return float(bool(module.reads_gaps) == better)

    trained = fit(small_variants["v10"], blocks, validate=validate, text=block_text)
    assert trained.chosen["gaps"]["read"] is better
    assert bool(trained.module.reads_gaps) is better
    refit = fit(
        small_variants["v10"], blocks, validate=None, evaluated=trained, text=block_text, seed=1
    )
    assert bool(refit.module.reads_gaps) is better


def test_a_log_without_times_has_no_gaps(
    blocks: Dataset, small_variants: Any, block_text: Any
) -> None:
    untimed = replace(blocks, interactions=replace(blocks.interactions, timestamps=None))
    module = build_model(small_variants["v10"].model, untimed, block_text)
    assert isinstance(module, SequenceTower)
    assert module.gaps is None
    assert not examples(untimed).batch(0, 0).gaps.numel()


def test_hidden_gaps_are_of_single_items_and_of_whole_sequences(module: SequenceTower) -> None:
    assert module.gaps is not None
    table = module.gaps.table.detach().clone()
    module.gaps.table.data = torch.zeros_like(table).index_fill_(0, torch.tensor(UNKNOWN), 1.0)
    try:
        module.train()
        torch.manual_seed(0)
        hidden = module.gaps(torch.zeros(500, 9, 8), torch.full((500, 9), 4))[..., 0].bool()
    finally:
        module.gaps.table.data = table
        module.eval()
    whole = hidden.all(dim=1)
    assert 0.1 < float(whole.float().mean()) < 0.3
    assert 0.1 < float(hidden[~whole].float().mean()) < 0.3


def test_the_protocol_that_tells_the_time_needs_times(
    module: SequenceTower, blocks: Dataset
) -> None:
    found = evaluate(module.scorer(), blocks, protocols=(FULL, FULL_TIMED))
    assert not np.array_equal(found.values[FULL], found.values[FULL_TIMED])
    untimed = replace(blocks, interactions=replace(blocks.interactions, timestamps=None))
    with pytest.raises(InputError, match="has no times to tell"):
        evaluate(module.scorer(), untimed, protocols=(FULL_TIMED,))


def test_a_query_is_one_of_a_known_time_only_where_it_is_asked_for(blocks: Dataset) -> None:
    assert blocks.held_out(Part.TEST)[0].times is None
    queries, targets = blocks.held_out(Part.TEST, timed=True)
    assert isinstance(queries, Queries)
    np.testing.assert_array_equal(queries.times, targets.timestamps[targets.indptr[:-1]])
