import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twotower.index import ExactConfig, FlatConfig, HnswConfig, IvfConfig, build_index
from twotower.inference.eligibility import EligibilityMask
from twotower.inference.retrieval import nearest

RNG = np.random.default_rng(2)
VECTORS = RNG.normal(size=(400, 8)).astype(np.float32)
CONFIGS = [
    ExactConfig(),
    FlatConfig(),
    HnswConfig(links=4, ef_construction=8, ef_search=4),
    IvfConfig(cells=16, probes=2),
]
INDEXES = {
    (config.kind, rows): build_index(VECTORS[:rows], config)
    for config in CONFIGS
    for rows in (400, 380)
}


def truth(query, k, mask):
    rows = np.flatnonzero(mask)
    return rows[np.argsort(-(VECTORS[rows] @ query), kind="stable")][:k]


@pytest.mark.parametrize("rows", [400, 380])
@pytest.mark.parametrize("kind", ["exact", "flat"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 450), share=st.sampled_from([0, 0.01, 0.3, 1]))
def test_exact_indexes_give_the_best_open_items(kind, rows, seed, k, share) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(400) < share
    query = rng.normal(size=8).astype(np.float32)
    seen = rng.integers(400, size=30).astype(np.int32)
    eligible = EligibilityMask.of(mask.copy()).without(seen)
    mask[seen] = False
    scores, items = nearest(INDEXES[kind, rows], VECTORS, query, k, eligible)
    np.testing.assert_array_equal(items, truth(query, k, mask))
    np.testing.assert_allclose(scores, VECTORS[items] @ query, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [400, 380])
@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 450), share=st.sampled_from([0.01, 0.3, 1]))
def test_poor_indexes_still_fill_the_answer(kind, rows, seed, k, share) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(400) < share
    query = rng.normal(size=8).astype(np.float32)
    scores, items = nearest(INDEXES[kind, rows], VECTORS, query, k, EligibilityMask.of(mask))
    assert len(items) == min(k, mask.sum())
    assert len(set(items.tolist())) == len(items)
    assert mask[items].all()
    assert (np.diff(scores) <= 0).all()


def test_what_the_index_lacks_is_found() -> None:
    query = VECTORS[395]
    everything = EligibilityMask.of(np.ones(400, dtype=bool))
    _, items = nearest(INDEXES["hnsw", 380], VECTORS, query, 5, everything)
    assert 395 in items
    but_one = everything.without(np.array([395], dtype=np.int32))
    assert 395 not in nearest(INDEXES["hnsw", 380], VECTORS, query, 5, but_one)[1]


def test_what_was_found_before_is_used() -> None:
    index = INDEXES["exact", 400]
    query = VECTORS[3]
    found = tuple(one[0] for one in index.search(query[None], 30))
    mask = np.ones(400, dtype=bool)
    mask[found[1][:10]] = False
    _, items = nearest(index, VECTORS, query, 20, EligibilityMask.of(mask), found)
    assert items.tolist() == found[1][10:30].tolist()
    shallow = found[0][:12], found[1][:12]
    again = nearest(index, VECTORS, query, 20, EligibilityMask.of(mask), shallow)
    np.testing.assert_array_equal(again[1], items)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
@pytest.mark.parametrize("rows", [400, 380])
@pytest.mark.parametrize("k", [3, 30, 400])
def test_rows_that_changed_since_the_index_was_made_are_found_as_they_are(config, rows, k) -> None:
    stale = np.array([3, 77, 200, 201, 379])
    before = VECTORS.copy()
    before[stale] = 9 * RNG.normal(size=(len(stale), 8))  # the best of many queries
    index = build_index(before[:rows], config)
    mask = np.ones(400, dtype=bool)
    mask[[77, 390]] = False
    for query in RNG.normal(size=(20, 8)).astype(np.float32):
        scores, items = nearest(index, VECTORS, query, k, EligibilityMask.of(mask), stale=stale)
        np.testing.assert_allclose(scores, VECTORS[items] @ query, rtol=1e-4, atol=1e-5)
        assert len(set(items.tolist())) == len(items) == min(k, 398)
        assert not {77, 390} & set(items.tolist())
        if index.is_exact:
            np.testing.assert_array_equal(items, truth(query, k, mask))
