"""Both stages as a model: what is first stays first, and weights are fitted on validation."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from twotower.bundle.blend import ALL_SIGNALS, AS_RETRIEVED, SIGNALS, ItemLinks
from twotower.bundle.trend import Trend
from twotower.data import Dataset, Histories, Part, Queries
from twotower.data.splits import GlobalTime, global_time
from twotower.index import top_k
from twotower.inference import Pipeline
from twotower.inference.options import RecommendOptions
from twotower.inference.requests import Request
from twotower.training.fit import Trained
from twotower.types import FloatArray
from twotower.workflow import reranking, reranking_network
from twotower.workflow.bundling import bundle_contents
from twotower.workflow.models import train_variant
from twotower.workflow.reranking import (
    TwoStages,
    fit_blend,
    fitted_blend,
    fitted_weights,
    unfitted_blend,
)
from twotower.workflow.reranking_network import fitted_network

CANDIDATES = 12


@pytest.fixture(scope="module")
def v9(blocks: Dataset, small_variants: Any) -> Trained:
    return train_variant(small_variants["v9"], blocks)


def test_candidates_are_the_best_that_were_not_seen() -> None:
    scores = np.array([[5, 4, 3, 2], [1, 2, 3, 4]], np.float32)
    queries = Queries.anonymous(Histories.from_lists([[0, 2], []]))
    found, items = top_k(scores, 3, queries.histories)
    assert items.tolist() == [[1, 3, -1], [3, 2, 1]]
    np.testing.assert_array_equal(found[1], [4, 3, 2])


def test_candidates_come_before_all_others_in_the_blends_order(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    scorer, blend = v9.module.scorer(), unfitted_blend(blocks.train, block_text)
    blend = replace(blend, weights=np.array([0, 0, 0, 0, 1, 0, 0], np.float32))
    queries = blocks.held_out(Part.TEST)[0].select(np.arange(5))
    scores = TwoStages(scorer, blend, CANDIDATES).scores(queries)
    assert np.isfinite(scores).all()
    _, items = top_k(scorer.scores(queries), CANDIDATES, queries.histories)
    for row in range(5):
        order = np.argsort(-scores[row], kind="stable")
        order = order[~np.isin(order, queries.histories.row(row))]
        assert set(order[:CANDIDATES]) == set(items[row])
        assert (np.diff(blend.popularity[order[:CANDIDATES]]) <= 0).all()
        rest = scorer.scores(queries)[row][order[CANDIDATES:]]
        assert (np.diff(rest) <= 1e-6).all()


def test_items_without_interactions_keep_their_place_among_the_others(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    scorer, blend = v9.module.scorer(), unfitted_blend(blocks.train, block_text)
    queries = blocks.held_out(Part.TEST)[0].select(np.arange(5))
    _, items = top_k(scorer.scores(queries), CANDIDATES, queries.histories)
    popularity, new = blend.popularity.copy(), np.unique(items[:, 1:3])
    popularity[new] = 0
    by_popularity = np.array([0, 0, 0, 0, 1, 0, 0], np.float32)
    blend = replace(blend, weights=by_popularity, popularity=popularity)
    scores = TwoStages(scorer, blend, CANDIDATES).scores(queries)
    assert np.isfinite(scores).all()
    for row in range(5):
        again = items[row][np.argsort(-scores[row][items[row]], kind="stable")]
        before, after = np.isin(items[row], new), np.isin(again, new)
        np.testing.assert_array_equal(before, after)
        np.testing.assert_array_equal(items[row][before], again[after])


def test_what_was_seen_ranks_by_the_blend_where_it_is_not_masked(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    scorer = v9.module.scorer()
    blend = replace(
        unfitted_blend(blocks.train, block_text),
        weights=np.array([0, 0, 0, 0, 1, 0, 0], np.float32),
    )
    queries = blocks.held_out(Part.TEST)[0].select(np.arange(5))
    scores = TwoStages(scorer, blend, CANDIDATES).scores(queries)
    _, items = top_k(scorer.scores(queries), CANDIDATES, queries.histories)
    for row in range(5):
        ranked = np.append(items[row], queries.histories.row(row))
        order = ranked[np.argsort(-scores[row][ranked], kind="stable")]
        assert (np.diff(blend.popularity[order]) <= 0).all()
        assert scores[row][ranked].min() > np.delete(scores[row], ranked).max()


def test_the_recency_with_the_least_loss_is_chosen(blocks: Dataset, block_text: Any) -> None:
    """Known answer: the next item is a neighbour of the newest item, or of any."""
    rng = np.random.default_rng(0)
    blend = unfitted_blend(blocks.train, block_text)
    for recency in (0.3, 1.0):
        chosen_by = replace(
            blend, recency=recency, weights=np.array([0, 9, 0, 0, 0, 0, 0], np.float32)
        )
        examples, positives = [], []
        for _ in range(300):
            history = rng.permutation(40)[:8].astype(np.int32)
            items = np.setdiff1d(np.arange(40), history)
            none = np.zeros(len(items), np.float32)
            drawn = chosen_by.combined(chosen_by.signals(history, items, none, none), 8)
            examples.append((history, items, none, none, None))
            logits = drawn + rng.gumbel(size=len(items))
            positives.append(int(logits.argmax()))
        fields, wanted = {"recency": (blend.recency, 1.0, 0.3)}, np.asarray(positives)
        found, _ = reranking._chosen([blend], fields, examples, wanted)
        assert found.recency == recency


def test_the_half_life_with_the_least_loss_is_chosen(blocks: Dataset, block_text: Any) -> None:
    """Known answer: of 40 items, some are in demand for a while."""
    rng = np.random.default_rng(0)
    blend = unfitted_blend(blocks.train, block_text)
    days = np.sort(rng.integers(0, 1000, 4000))
    items = (days // 25 + rng.integers(0, 4, 4000)) % 40
    log = Histories(np.array([0, 4000]), items.astype(np.int32), timestamps=days * 86_400_000)
    trends = [Trend.fit(log, share * 86_400.0) for share in (60, 5, 400)]
    candidates, none = np.arange(40), np.zeros(40, np.float32)
    history = np.empty(0, np.int32)
    for wanted in trends:
        chosen_by = replace(blend, earlier=wanted)
        examples, positives = [], []
        for moment in rng.integers(100, 1000, 400).tolist():
            signals = chosen_by.signals(history, candidates, none, none, moment * 86_400)
            positives.append(int((9 * signals[:, 5] + rng.gumbel(size=40)).argmax()))
            examples.append((history, candidates, none, none, moment * 86_400))
        start = replace(blend, earlier=trends[0])
        fields = {"recency": (blend.recency,), "earlier": trends}
        found, _ = reranking._chosen([start], fields, examples, np.asarray(positives))
        assert found.earlier.half_life == wanted.half_life
        np.testing.assert_array_equal(found.trend, wanted.at_end(40))
        assert found.weights[5] > 0


def test_fitting_finds_the_weights_that_made_the_choices() -> None:
    """Known answer: items drawn by a softmax of known weights."""
    rng = np.random.default_rng(0)
    signals = rng.normal(0, [1, 5, 0.2, 1], size=(4000, 20, 4)).astype(np.float32)
    weights = np.array([1.5, 0.2, 4, 0])
    logits = signals @ weights + rng.gumbel(size=(4000, 20))
    found, loss = fitted_weights(signals, logits.argmax(axis=1))
    assert 0 < loss < np.log(20)
    np.testing.assert_allclose(found * [1, 5, 0.2, 1], weights * [1, 5, 0.2, 1], atol=0.1)


def judged_candidates(rng: np.random.Generator, *, of_two_signals: bool) -> Any:
    """Items of 900 users, chosen by popularity where the index scores high, else by its opposite.

    Otherwise by both alone. Nothing but the scores and popularities of the blend below counts.
    """
    users, items = 900, 120
    scores = -np.sort(-rng.normal(size=(users, items)).astype(np.float32), axis=1)
    shown = np.stack([rng.permutation(items) for _ in range(users)])
    popularity = shown / items * 4 - 2
    taste = np.where(scores > 1, 3, -1) * popularity if of_two_signals else popularity
    logits = np.where(np.arange(items) < reranking.NEAR, scores + taste, -np.inf)
    positives = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    empty = Queries.anonymous(Histories.from_lists([[]] * users))
    return reranking._Candidates(
        empty, shown, scores, scores, [None] * users, np.arange(users), positives
    )


@pytest.mark.parametrize("of_two_signals", [False, True])
def test_a_network_is_kept_where_the_signals_work_together(
    blocks: Dataset, block_text: Any, monkeypatch: pytest.MonkeyPatch, *, of_two_signals: bool
) -> None:
    """Known answer: a weighted sum is what made the choices, or cannot be."""
    monkeypatch.setattr(reranking_network, "EPOCHS", 20)  # enough for so plain an answer
    blend = unfitted_blend(blocks.train, block_text)
    nothing = ItemLinks.none(120)
    blend = replace(
        blend,
        weights=np.array([1, 0, 0, 0, 1, 0, 0], np.float32),
        neighbours=nothing,
        transitions=nothing,
        text=np.zeros((120, 2), np.float32),
        popularity=(np.arange(120) / 120 * 4 - 2).astype(np.float32),
        trend=np.zeros(120, np.float32),
    )
    found = judged_candidates(np.random.default_rng(0), of_two_signals=of_two_signals)
    steps: list[int] = []
    kept = reranking.with_network(blend, found, steps.append)
    assert (kept.network is not None) == of_two_signals
    assert sum(steps) == reranking.FOLDS + 1
    if of_two_signals:  # the first part of the users is clear enough
        assert steps == [reranking.FOLDS, 1]
    assert kept.helps == of_two_signals
    again = reranking.with_network(blend, found)
    for name, value in kept.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], value)
    if kept.network is not None:  # what says nothing is neither read nor computed
        read = [ALL_SIGNALS[place] for place in np.flatnonzero(kept.used)]
        assert read == ["retrieval", "popularity", "towers"]


def test_few_items_and_few_examples_have_no_network(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    blend = unfitted_blend(blocks.train, block_text)
    found = judged_candidates(np.random.default_rng(0), of_two_signals=True)
    assert reranking.with_network(blend, found.kept(np.arange(400))) is blend
    assert fit_blend(v9.module.scorer(), blocks, block_text).network is None


@dataclass(frozen=True)
class SumOfItems:
    """A first stage that scores by the vectors of the items in a history."""

    vectors: FloatArray

    @property
    def num_items(self) -> int:
        return len(self.vectors)

    def item_vectors(self) -> FloatArray:
        return self.vectors

    def user_vectors(self, queries: Queries) -> FloatArray:
        rows = [self.vectors[queries.histories.row(row)].sum(axis=0) for row in range(len(queries))]
        return np.stack(rows)


@pytest.mark.parametrize("by_popularity", [False, True])
def test_short_histories_are_ranked_by_what_helps_them(
    blocks: Dataset, block_text: Any, *, by_popularity: bool
) -> None:
    """Known answer: everybody takes what is popular, or what the first stage finds by one item."""
    rng = np.random.default_rng(0)
    scorer = SumOfItems(rng.normal(size=(40, 30)).astype(np.float32))
    popularity = np.linspace(0, 3, 40, dtype=np.float32)
    blend = replace(
        unfitted_blend(blocks.train, block_text),
        weights=np.array([1, 0, 0, 0, -2, 0, 0], np.float32),  # as regulars are told apart
        popularity=popularity,
    )
    histories = Histories.from_lists([rng.permutation(40)[:8].tolist() for _ in range(600)])
    queries = Queries.anonymous(histories)
    scores = scorer.user_vectors(Queries.anonymous(histories.last(1))) @ scorer.vectors.T
    values = 3 * popularity if by_popularity else scores
    values = values + rng.gumbel(size=scores.shape)
    values[histories.rows, histories.items] = -np.inf
    targets = Histories.from_lists(values.argmax(axis=1)[:, None].tolist())
    found = reranking.with_short_weights(blend, scorer, queries, targets, histories)
    assert found.short_lengths.tolist() == [2, 4, 8]
    np.testing.assert_array_equal(found.weights, blend.weights)
    if by_popularity:
        assert (found.short_weights[:, 4] > 1).all()
    else:
        np.testing.assert_array_equal(found.short_weights[0], AS_RETRIEVED)
    as_needed = replace(blend, weights=found.short_weights[0])
    again = reranking.with_short_weights(as_needed, scorer, queries, targets, histories)
    assert not again.short_weights[0].any() or not by_popularity  # as long histories are
    of_one = replace(queries, histories=histories.last(1))
    assert reranking.with_short_weights(blend, scorer, of_one, targets, histories) is blend


def test_the_towers_part_of_a_score_is_that_of_their_columns(v9: Trained, blocks: Dataset) -> None:
    scorer = v9.module.scorer()
    queries = blocks.held_out(Part.VALIDATION)[0].select(np.arange(3))
    users, vectors = scorer.user_vectors(queries), scorer.item_vectors()
    items = np.array([[0, 5], [1, 2], [7, 3]])
    found = reranking._tower_scores(scorer, users, vectors, items)
    assert scorer.tower_dim is not None
    with v9.module.towers_alone():
        alone = v9.module.scorer().scores(queries)
    np.testing.assert_allclose(found, np.take_along_axis(alone, items, axis=1), rtol=1e-4)


def test_test_interactions_change_no_weight(v9: Trained, blocks: Dataset, block_text: Any) -> None:
    """The held-out part moved elsewhere gives the same blend."""
    items = blocks.interactions.items.copy()
    of_test = blocks.split == Part.TEST
    items[of_test] = np.roll(items[of_test], 1)
    other = replace(blocks, interactions=replace(blocks.interactions, items=items))
    scorer = v9.module.scorer()
    one = fit_blend(scorer, blocks, block_text, candidates=CANDIDATES)
    two = fit_blend(scorer, other, block_text, candidates=CANDIDATES)
    for name, value in one.to_arrays().items():
        np.testing.assert_array_equal(two.to_arrays()[name], value)


@pytest.mark.parametrize(("by_network", "candidates"), [(False, None), (True, None), (False, 30)])
def test_the_pipeline_ranks_as_the_evaluated_stages(
    v9: Trained, blocks: Dataset, *, by_network: bool, candidates: int | None
) -> None:
    """Over as many candidates as the bundle says, or as are asked for."""
    blend = fitted_blend(v9, blocks)
    assert blend is not None
    blend = replace(blend, candidates=8)
    if by_network:
        drawn = np.random.default_rng(0).normal(size=(200, 20, len(ALL_SIGNALS)))
        values = drawn.astype(np.float32)
        values[..., -1] += 3 * values[..., 0]
        lengths = np.arange(200) % 9
        network = fitted_network(values, lengths, values[..., -1].argmax(axis=1), blend.weights)
        blend = replace(blend, network=network)
    contents = bundle_contents("v9", v9, blocks, reranker=blend)
    pipeline = Pipeline(contents)
    histories = blocks.interactions.select(np.arange(8))
    assert blocks.train.timestamps is not None
    now = np.full(8, blocks.train.timestamps.max() + 1000)  # a service is asked after its log
    queries = replace(Queries.anonymous(histories), times=now)
    scores = TwoStages(v9.module.scorer(), blend, candidates).scores(queries)
    ids = blocks.items.ids
    requests = [Request(None, [ids[item] for item in histories.row(row)], None) for row in range(8)]
    options = RecommendOptions(5, rerank=True, candidates=candidates)
    for row, answer in enumerate(pipeline.recommend_batch(requests, options)):
        scores[row, histories.row(row)] = -np.inf
        expected = [ids[item] for item in np.argsort(-scores[row], kind="stable")[:5]]
        assert [one.item_id for one in answer] == expected


def test_as_many_candidates_are_ranked_as_validation_needs(
    blocks: Dataset, block_text: Any
) -> None:
    """Known answer: an item from place 150 comes first if it is ranked at all."""
    blend = unfitted_blend(blocks.train, block_text)
    blend = replace(blend, weights=np.eye(7, dtype=np.float32)[SIGNALS.index("popularity")])
    queries = Queries.anonymous(Histories.from_lists([[0]] * 4))
    order = np.random.default_rng(0).permutation(len(blend.popularity))

    def enough(place: int) -> int:
        best = int(blend.popularity.argmax())
        items = np.tile(np.resize(np.setdiff1d(order, [best]), 400), (4, 1))
        items[:, place] = best
        none = np.zeros(items.shape, np.float32)
        found = reranking._Candidates(
            queries, items, none, none, [None] * 4, np.arange(4), np.full(4, place)
        )
        return reranking._enough(blend, found)

    assert [enough(place) for place in (20, 150, 250)] == [100, 200, 300]


def test_with_repeats_what_was_seen_is_a_candidate(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    """The second stage is fitted and measured on what the first one is asked for."""
    items = np.asarray(blocks.interactions.items).copy()
    last = blocks.interactions.indptr[1:]
    items[last - 2] = items[last - 4]  # everybody validates on an item had before
    again = replace(blocks, interactions=replace(blocks.interactions, items=items))
    assert again.has_repeats
    assert not blocks.has_repeats
    scorer = v9.module.scorer()
    blend = fit_blend(scorer, again, block_text)  # with the mask, no list would hold its target
    queries, targets = again.held_out(Part.VALIDATION)
    scores = TwoStages(scorer, blend, 30, exclude_seen=False).scores(queries)
    first = scorer.scores(queries)
    places = [(-row).argsort().argsort()[targets.row(i)[0]] for i, row in enumerate(scores)]
    before = [(-row).argsort().argsort()[targets.row(i)[0]] for i, row in enumerate(first)]
    assert np.mean(places) < np.mean(before)
    assert blend.weights[SIGNALS.index("repeats")] > 0


def test_a_bundle_of_a_log_with_repeats_recommends_what_was_had(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    """Served as it was evaluated: items of the history are candidates, unless a request says no."""
    items = np.asarray(blocks.interactions.items).copy()
    last = blocks.interactions.indptr[1:]
    items[last - 1] = items[last - 2]
    again = replace(blocks, interactions=replace(blocks.interactions, items=items))
    weights = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    blend = replace(unfitted_blend(again.train, block_text), weights=weights, helps=True)
    for dataset in (blocks, again):
        pipeline = Pipeline(bundle_contents("v9", v9, dataset, reranker=blend))
        history = {dataset.items.ids[item] for item in dataset.interactions.row(0)}
        (user,) = dataset.users.ids[:1]
        had = [
            [item.item_id in history for item in pipeline.recommend(user, k=3, **options)]
            for options in ({}, {"exclude_seen": True}, {"exclude_seen": False})
        ]
        assert had == [[dataset is again] * 3, [False] * 3, [True] * 3]


def test_where_nothing_had_is_a_candidate_repeats_have_no_weight(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    blend = fit_blend(v9.module.scorer(), blocks, block_text, candidates=CANDIDATES)
    assert blend.weights[SIGNALS.index("repeats")] == 0


def test_a_request_that_does_not_say_is_reranked_where_validation_was_better(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    blend = replace(
        unfitted_blend(blocks.train, block_text),
        weights=np.array([0, 0, 0, 0, 1, 0, 0], np.float32),
    )
    requests = [Request(None, [blocks.items.ids[item]], None) for item in (3, 30)]
    for helps in (False, True):
        contents = bundle_contents("v9", v9, blocks, reranker=replace(blend, helps=helps))
        pipeline = Pipeline(contents)
        asked = pipeline.recommend_batch(requests, RecommendOptions(5, rerank=helps))
        assert pipeline.recommend_batch(requests, RecommendOptions(5)) == asked
        assert (asked[0][0].rerank_score is not None) == helps


class GivenSignals:
    """A blend whose signals are given: of the query whose history is its number."""

    def __init__(self, table: FloatArray) -> None:
        self.table = table

    def signals(self, history: Any, items: Any, *_: Any) -> FloatArray:
        return self.table[history[0], items]


@pytest.mark.parametrize(
    ("weights", "lifted", "helps"),
    [([1, 0], False, False), ([1, 2], False, True), ([1, 2], True, False)],
)
def test_the_second_stage_helps_where_more_than_the_first_stage_counts(
    weights: list[float], *, lifted: bool, helps: bool
) -> None:
    """Known answer: items drawn by a softmax of known weights, listed by the first signal.

    They are among the best 30 of 60 candidates; where the others are ``lifted``, the second signal
    is large of all of these.
    """
    rng = np.random.default_rng(0)
    table = np.zeros((2000, 60, len(SIGNALS)), np.float32)
    table[:, :, :2] = rng.normal(size=(2000, 60, 2))
    table[:, :, 0] = -np.sort(-table[:, :, 0], axis=1)
    logits = table[:, :30, :2] @ np.array(weights) + rng.gumbel(size=(2000, 30))
    if lifted:
        table[:, 30:, 1] = 9
    scores = table[:, :, 0]
    everything = np.broadcast_to(np.arange(60), (2000, 60))
    users = np.arange(2000)
    queries = Queries.anonymous(Histories.from_lists(users[:, None].tolist()))
    found = reranking._Candidates(
        queries, everything, scores, scores, [None] * 2000, users, logits.argmax(axis=1)
    )
    blend: Any = GivenSignals(table)
    assert reranking._helps(blend, found.among(30), table[:, :30], found) == helps
    few = found.kept(np.arange(reranking.LEAST_FITTED - 1))
    assert not reranking._helps(blend, few, table[: len(few), :30], found)


def test_every_target_of_a_query_is_learned_from(
    v9: Trained, blocks: Dataset, block_text: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = np.full(len(blocks.interactions.items), Part.TRAIN, dtype=blocks.split.dtype)
    ends = blocks.interactions.indptr[1:]
    parts[ends - 1], parts[ends - 2] = Part.VALIDATION, Part.VALIDATION
    both, found = replace(blocks, split=parts), {}
    learned: list[Any] = []

    def chosen(blends: Any, fields: Any, examples: Any, positives: Any) -> Any:
        learned.extend(examples)
        return blends[0], reranking._stacked(blends[0], examples)

    def helps(blend: Any, near: Any, *_: Any) -> bool:
        if not found:
            places = zip(near.owners.tolist(), near.positives.tolist(), strict=True)
            found.update(zip(places, learned, strict=True))
        return False

    monkeypatch.setattr(reranking, "_chosen", chosen)
    monkeypatch.setattr(reranking, "_helps", helps)
    fit_blend(v9.module.scorer(), both, block_text, candidates=CANDIDATES)
    queries, targets = both.held_out(Part.VALIDATION)
    _, items = top_k(v9.module.scorer().scores(queries), CANDIDATES, queries.histories)
    expected = {
        (row, int(np.flatnonzero(items[row] == item)[0]))
        for row in range(len(queries))
        for item in targets.row(row)
        if item in items[row]
    }
    assert set(found) == expected
    assert len(expected) > len({row for row, _ in expected})
    for (row, _), (history, candidates, *_) in found.items():
        np.testing.assert_array_equal(history, queries.histories.row(row))
        np.testing.assert_array_equal(candidates, items[row])


def test_in_a_split_by_time_the_trend_is_that_of_the_end_of_training(
    v9: Trained, blocks: Dataset, block_text: Any
) -> None:
    """At the newest events of users who were away other items are in demand than at the targets."""
    scorer, times = v9.module.scorer(), blocks.interactions.timestamps
    assert times is not None
    by_time = replace(blocks, split=global_time(times, GlobalTime()))
    blend = fit_blend(scorer, by_time, block_text)
    queries, _ = by_time.held_out(Part.TEST)
    moments = set(blend.earlier.moments(queries))
    assert by_time.train.timestamps is not None
    assert moments == {int(by_time.train.timestamps.max()) // 1000 + 1}
    last_two = fit_blend(scorer, blocks, block_text)
    assert len(set(last_two.earlier.moments(blocks.held_out(Part.TEST)[0]))) > 1
