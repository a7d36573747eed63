import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from twotower.bundle import Bundle, load_bundle
from twotower.data import Histories, Queries
from twotower.data.events import EventRules
from twotower.errors import InputError
from twotower.index import HnswConfig, build_index
from twotower.inference import Pipeline, RecommendOptions, Request
from twotower.inference.filters import Filters
from twotower.inference.requests import Past
from twotower.inference.user_tower import UserTower


@pytest.fixture
def bundle(folder) -> Bundle:
    return load_bundle(folder)


@pytest.fixture
def pipeline(bundle) -> Pipeline:
    return Pipeline(bundle.contents)


def ids(recommendations):
    return [one.item_id for one in recommendations]


def stored(contents, user):
    return [f"item-{item:02}" for item in contents.histories.row(user)]


def best(contents, queries, scores_of, k, allowed=lambda item: True):
    """The ``k`` best item ids of one query, by scoring every item."""
    vector = UserTower(contents).encode(queries)[0]
    order = np.argsort(-(scores_of @ vector), kind="stable")
    return [f"item-{item:02}" for item in order if allowed(item)][:k]


def test_known_user_gets_the_best_unseen_items(pipeline, contents):
    queries = Queries(np.array([4], np.int32), contents.histories.select(np.array([4])))
    seen = set(contents.histories.row(4).tolist())
    found = pipeline.recommend("user-04", k=7)
    assert ids(found) == best(contents, queries, contents.item_vectors, 7, lambda i: i not in seen)
    assert [one.rank for one in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    titles = dict(contents.catalogue.select("item_id", "title").iter_rows())
    assert all(one.title == titles[one.item_id] for one in found)


def test_seen_items_may_come_back(pipeline, contents):
    queries = Queries(np.array([11], np.int32), contents.histories.select(np.array([11])))
    found = ids(pipeline.recommend("user-11", k=20, exclude_seen=False))
    assert found == best(contents, queries, contents.item_vectors, 20)
    assert set(found) & set(stored(contents, 11))
    assert not set(ids(pipeline.recommend("user-11", k=20))) & set(stored(contents, 11))


def test_new_user_is_known_by_the_history_alone(pipeline):
    found = pipeline.recommend(history=["item-03", "item-07", "item-03"], k=10)
    assert len(found) == 10
    assert not {"item-03", "item-07"} & set(ids(found))
    assert found == pipeline.recommend("nobody", ["item-03", "item-07", "item-03"], k=10)
    assert ids(found) != ids(pipeline.recommend(history=["item-40"], k=10))


def test_items_just_browsed_move_a_known_user(pipeline):
    before = pipeline.recommend("user-02", k=5)
    after = pipeline.recommend("user-02", ["item-01", ids(before)[0]], k=5)
    assert ids(before)[0] not in ids(after)
    assert [one.score for one in before] != [one.score for one in after]


def test_long_history_is_read_by_its_newest_and_excluded_whole(pipeline):
    everything = [f"item-{item:02}" for item in range(55)]
    found = pipeline.recommend(history=everything * 4, k=10)
    assert sorted(ids(found)) == [f"item-{item}" for item in range(55, 60)]


def test_titles_may_be_unknown(pipeline):
    every = pipeline.recommend(history=["item-00"], k=60)
    assert len(every) == 59
    assert [one.title for one in every if one.item_id == "item-59"] == [None]


def test_rerank_orders_the_candidates(pipeline, contents):
    candidates = ids(pipeline.recommend("user-03", k=20))
    vectors = contents.reranker
    scores = {
        item: float(vectors.item_vectors[int(item[-2:])] @ vectors.user_vectors[3])
        for item in candidates
    }
    found = pipeline.recommend("user-03", k=5, candidates=20, rerank=True)
    assert ids(found) == sorted(scores, key=scores.get, reverse=True)[:5]
    assert [one.score for one in found] == pytest.approx([scores[i] for i in ids(found)])


def test_rerank_serves_new_users(pipeline):
    found = pipeline.recommend(history=["item-03", "item-07"], k=5, candidates=30, rerank=True)
    assert len(found) == 5
    assert not {"item-03", "item-07"} & set(ids(found))
    assert ids(found) != ids(pipeline.recommend(history=["item-03", "item-07"], k=5))


def test_more_candidates_than_items(pipeline, contents):
    found = pipeline.recommend("user-00", k=60, candidates=1000, rerank=True)
    assert sorted(ids(found) + stored(contents, 0)) == list(contents.catalogue["item_id"])


@pytest.mark.parametrize("rerank", [False, True])
def test_batch_equals_one_by_one(pipeline, rerank):
    requests = [
        Request("user-01"),
        Request(history=["item-09"]),
        Request("user-05", ["item-10", "item-11"]),
        Request("user-11"),
    ]
    batch = pipeline.recommend_batch(requests, RecommendOptions(6, candidates=25, rerank=rerank))
    for request, answer in zip(requests, batch, strict=True):
        alone = pipeline.recommend(
            request.user_id, request.history, k=6, candidates=25, rerank=rerank
        )
        assert ids(alone) == ids(answer)
        assert [a.score for a in alone] == pytest.approx([b.score for b in answer], abs=1e-4)


def test_batch_beyond_one_block(pipeline):
    requests = [Request(history=[f"item-{n % 60:02}"]) for n in range(1030)]
    answers = pipeline.recommend_batch(requests, RecommendOptions(3))
    assert len(answers) == 1030
    assert ids(answers[1029]) == ids(pipeline.recommend(history=["item-09"], k=3))
    assert pipeline.recommend_batch([], RecommendOptions(3)) == []


def test_always_k_items_from_a_poor_index(bundle, contents):
    poor = build_index(contents.item_vectors, HnswConfig(links=2, ef_search=1, ef_construction=1))
    pipeline = Pipeline(replace(contents, index=poor))
    for user in contents.users.ids:
        for exclude_seen in (True, False):
            assert len(pipeline.recommend(user, k=40, exclude_seen=exclude_seen)) == 40
    assert len(pipeline.similar_items("item-00", k=59)) == 59


def test_similar_items_by_vector(pipeline, contents):
    similarity = contents.item_vectors @ contents.item_vectors[8]
    order = [f"item-{item:02}" for item in np.argsort(-similarity) if item != 8]
    found = pipeline.similar_items("item-08", k=4)
    assert ids(found) == order[:4]
    assert [one.rank for one in found] == [1, 2, 3, 4]


@pytest.mark.parametrize("k", [0, -1])
def test_refuses_k_below_one(pipeline, k):
    for call in (
        lambda: pipeline.recommend("user-00", k=k),
        lambda: pipeline.recommend_batch([], RecommendOptions(k)),
        lambda: pipeline.similar_items("item-00", k=k),
    ):
        with pytest.raises(InputError, match=f"k must be at least 1, got {k}"):
            call()


def test_refuses_unknown_users_and_items(pipeline):
    with pytest.raises(InputError, match=r"unknown user 'eve'; pass history=\[item ids\]"):
        pipeline.recommend("eve")
    with pytest.raises(InputError, match="needs a user id or a history, got neither"):
        pipeline.recommend(history=[])
    with pytest.raises(InputError, match="unknown item 'item-99'"):
        pipeline.recommend(history=["item-01", "item-99"])
    with pytest.raises(InputError, match="unknown item 'item-99'"):
        pipeline.similar_items("item-99")


def test_refuses_fewer_candidates_than_items(pipeline):
    with pytest.raises(InputError, match="candidates must be at least k 10, got 9"):
        pipeline.recommend("user-00", k=10, candidates=9, rerank=True)


def test_refuses_to_rerank_without_vectors(bundle, contents):
    pipeline = Pipeline(replace(contents, reranker=None))
    with pytest.raises(InputError, match=r"bundle of v5 has no re-ranker; pass rerank"):
        pipeline.recommend("user-00", rerank=True)


def test_recommends_without_torch(folder):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from twotower.inference.pipeline import Pipeline\n"
        f"pipeline = Pipeline.load(Path({str(folder)!r}))\n"
        "assert len(pipeline.recommend('user-01')) == 10\n"
        "assert len(pipeline.recommend(history=['item-01'], rerank=True)) == 10\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_filters_and_always_as_many_as_exist(pipeline, contents):
    genres = dict(contents.catalogue.select("item_id", "category").iter_rows())
    prices = dict(contents.catalogue.select("item_id", "price").iter_rows())
    narrow = Filters(categories=("genre-2",), max_price=30)
    exist = [
        item
        for item in genres
        if genres[item] == "genre-2" and prices[item] <= 30 and item not in stored(contents, 3)
    ]
    found = pipeline.recommend("user-03", k=60, filters=narrow)
    assert sorted(ids(found)) == sorted(exist)
    plain = [item for item in ids(pipeline.recommend("user-03", k=60)) if item in exist]
    assert ids(found) == plain


@pytest.mark.parametrize("rerank", [False, True])
def test_at_most_so_many_of_a_category(pipeline, contents, rerank):
    genres = dict(contents.catalogue.select("item_id", "category").iter_rows())
    found = ids(
        pipeline.recommend(
            "user-03", k=10, filters=Filters(max_per_category=2), candidates=10, rerank=rerank
        )
    )
    assert sorted(genres[item] for item in found) == sorted(
        f"genre-{number}" for number in range(4) for _ in range(2)
    )
    if not rerank:
        order, taken = [], dict.fromkeys(genres.values(), 0)
        for item in ids(pipeline.recommend("user-03", k=60)):
            taken[genres[item]] += 1
            if taken[genres[item]] <= 2:
                order.append(item)
        assert found == order


def test_the_franchise_is_derived_from_the_title(pipeline):
    found = pipeline.recommend("user-03", k=10, filters=Filters(max_per_franchise=3))
    titles = [one.title for one in found]
    assert sum(title is not None and title.startswith("Game") for title in titles) == 3


def test_unavailable_and_deleted_items_do_not_appear(pipeline):
    first, second = ids(pipeline.recommend("user-03", k=2))
    changed = pipeline.with_items(
        pipeline.items.with_availability({first: False}).without([second])
    )
    assert not {first, second} & set(ids(changed.recommend("user-03", k=60)))
    assert first in ids(pipeline.recommend("user-03", k=2))


def test_the_reason_is_the_nearest_item_of_the_history_that_was_not_rated_low(pipeline, contents):
    log = contents.histories
    ratings = dict(
        zip(stored(contents, 3), log.ratings[log.indptr[3] : log.indptr[4]], strict=True)
    )
    assert min(ratings.values()) < 3 <= max(ratings.values())
    history = [*(item for item, rating in ratings.items() if rating >= 3), "item-41"]
    for one in pipeline.recommend("user-03", ["item-41"], k=5):
        rows = [int(item[-2:]) for item in history]
        similarity = contents.item_vectors[rows] @ contents.item_vectors[int(one.item_id[-2:])]
        best = history[int(similarity.argmax())]
        if similarity.max() <= 0:
            assert one.reason is None
            continue
        assert one.reason.item_id == best
        assert one.reason.similarity == pytest.approx(float(similarity.max()), abs=1e-5)
        named = one.reason.title or best
        said = f"because of {named}"
        if best != "item-41":
            said = f"because you gave {named} a rating of {ratings[best]:g}"
        assert one.reason.text == said


def test_one_star_is_no_reason(pipeline):
    past = [Past("item-41", "rating", 1.0, 10**12)]
    found = pipeline.recommend_batch([Request("somebody", past=past)], RecommendOptions(60))[0]
    assert {one.reason for one in found} == {None}


def test_a_log_without_kinds_and_ratings_claims_no_purchase(contents):
    plain = replace(contents.histories, ratings=None)
    found = Pipeline(replace(contents, histories=plain)).recommend("user-03", k=5)
    assert all(one.reason.text.endswith(" in your history") for one in found)


def test_the_kinds_of_the_log_are_in_the_reasons(contents):
    rules = EventRules(weights={"view": 0.5, "wishlist": 0.7, "addtocart": 1})
    log = contents.histories
    kinds = (np.arange(len(log.items)) % 3).astype(np.uint8)
    log = replace(log, ratings=None, kinds=kinds, weights=np.ones(len(kinds), np.float32))
    with_kinds = replace(
        contents,
        info=contents.info.vary(events=rules),
        histories=replace(log, rules=rules),
    )
    found = Pipeline(with_kinds).recommend("user-03", k=60)
    said = {one.reason.text.split(one.reason.title)[0] for one in found if one.reason}
    assert said <= {"because you viewed ", "because of ", "because you put "}
    assert len(said) > 1


def test_returned_items_are_never_recommended(contents):
    first = ids(Pipeline(contents).recommend("user-03", k=3))
    rows = [
        [contents.items.index(item) for item in first] if user == 3 else [] for user in range(12)
    ]
    pipeline = Pipeline(replace(contents, returned=Histories.from_lists(rows)))
    for options in ({}, {"exclude_seen": False}, {"rerank": True}):
        assert not {*first} & {*ids(pipeline.recommend("user-03", k=60, **options))}
    assert {*first} & {*ids(pipeline.recommend("user-04", k=60))}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("view", "because you viewed Game 41"),
        ("cart", "because you put Game 41 in the cart"),
        ("buy", "because you bought Game 41"),
        ("rating", "because you gave Game 41 a rating of 5"),
    ],
)
def test_the_reason_says_what_was_done(pipeline, kind, text):
    past = [Past("item-41", kind, 5.0 if kind == "rating" else None, 10**12)]
    found = pipeline.recommend_batch([Request("somebody", past=past)], RecommendOptions(60))[0]
    assert {one.reason.text for one in found if one.reason is not None} == {text}


def test_stage_scores(pipeline):
    one = pipeline.recommend("user-03", k=1)[0]
    assert (one.retrieval_score, one.rerank_score) == (one.score, None)
    two = pipeline.recommend("user-03", k=1, rerank=True)[0]
    assert two.rerank_score == two.score != two.retrieval_score


def test_timings_and_reasons_are_asked_for(pipeline):
    timings = {}
    answers = pipeline.recommend_batch(
        [Request("user-01"), Request(history=["item-01"])],
        RecommendOptions(rerank=True, reasons=False), timings,
    )  # fmt: skip
    assert {one.reason for answer in answers for one in answer} == {None}
    assert set(timings) == {"encode", "search", "rerank", "present"}
    assert all(seconds > 0 for seconds in timings.values())


def test_past_events_change_a_known_user(pipeline):
    past = [Past("item-50", "cart", None, 2 * 10**12), Past("gone", "buy", None, 2 * 10**12)]
    (answer,) = pipeline.recommend_batch([Request("user-01", past=past)], RecommendOptions(60))
    assert "item-50" not in ids(answer)
    kinds = {one.reason.kind for one in answer if one.reason is not None}
    assert kinds <= {"stored", "cart"}
    assert "cart" in kinds
