import json
import sys
from dataclasses import replace

import faiss
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from twotower.errors import ArtefactError, InputError
from twotower.index import (
    AutoConfig,
    ExactConfig,
    FlatConfig,
    HnswConfig,
    IndexChoice,
    IvfConfig,
    Measurement,
    PqConfig,
    build_index,
    load_choice,
    load_index,
    named_choice,
    save_index,
)
from twotower.index.choice import CANDIDATES, fastest
from twotower.index.compare import search_one_by_one


def measured(config, latency, recall=1.0, k=10):
    return Measurement(config, k, recall, latency, 2 * latency, 0.1, 1000)


EXACT = measured(ExactConfig(), 100)


def test_the_fastest_that_reaches_the_recall():
    rows = [EXACT, measured(PqConfig(), 40), measured(HnswConfig(), 20, recall=0.98)]
    config, reason = fastest(rows, 0.99, 1.2)
    assert config == PqConfig()
    assert reason == (
        "pq takes 40 us at k = 10 with recall 1.0000 (exact 100): 2.50 times as fast as exact, "
        "the fastest with a recall of 0.99 or more"
    )


def test_exact_gives_way_only_to_a_clear_gain():
    config, reason = fastest([EXACT, measured(PqConfig(), 90)], 0.99, 1.2)
    assert config == ExactConfig()
    assert "1.11 times as fast as exact, not 1.2" in reason
    assert fastest([EXACT, measured(PqConfig(), 80)], 0.99, 1.2)[0] == PqConfig()
    slower = fastest([EXACT, measured(PqConfig(), 200)], 0.99, 1.2)
    assert slower[0] == ExactConfig()
    assert slower[1].startswith("exact is the fastest")


def test_recall_counts_at_every_k():
    rows = [EXACT, replace(EXACT, k=1000)]
    rows += [measured(IvfConfig(), 10, 0.5), measured(IvfConfig(), 10, 1.0, k=1000)]
    rows += [measured(PqConfig(), 50), measured(PqConfig(), 50, k=1000)]
    assert fastest(rows, 0.99, 1.2)[0] == PqConfig()


def test_times_at_every_k_count_alike():
    rows = [EXACT, replace(EXACT, k=1000, latency_us=1000)]
    rows += [measured(IvfConfig(), 20), measured(IvfConfig(), 800, k=1000)]  # mean 126
    rows += [measured(PqConfig(), 50), measured(PqConfig(), 500, k=1000)]  # mean 158
    config, reason = fastest(rows, 0.99, 1.2)
    assert config == IvfConfig()
    assert "800 us at k = 1000 with recall 1.0000 (exact 1000): 2.50 times as fast" in reason


def test_chooses_by_measuring_every_candidate(vectors, queries):
    candidates = (FlatConfig(), IvfConfig(cells=40, probes=1, reach=0))
    auto = AutoConfig(least_items=100, queries=20, candidates=candidates)
    choice = auto.choose(vectors, queries, (5, 50))
    assert [(one.config, one.k) for one in choice.measured] == [
        (config, k) for config in (ExactConfig(), *candidates) for k in (5, 50)
    ]
    assert choice.config in (ExactConfig(), FlatConfig())
    assert (choice.k, choice.items, choice.queries) == (50, 2000, 20)


@pytest.fixture
def two_threads():
    """BLAS and FAISS with two threads each."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    with threadpool_limits(2):
        yield
    faiss.omp_set_num_threads(before)


def threads():
    return {one["num_threads"] for one in threadpool_info()}


def test_measures_on_one_thread_as_a_service_searches(vectors, queries, two_threads, monkeypatch):
    seen = []

    def measure(*arguments, **options):
        seen.append(threads())
        return search_one_by_one(*arguments, **options)

    monkeypatch.setattr(sys.modules["twotower.index.compare"], "search_one_by_one", measure)
    AutoConfig(least_items=100, queries=5, candidates=(FlatConfig(),)).choose(
        vectors, queries, (5, 50)
    )
    assert seen == [{1}] * 4
    assert threads() == {2}


def test_a_small_catalogue_is_searched_exactly(vectors, queries):
    choice = AutoConfig().choose(vectors, queries, (10,))
    assert choice == IndexChoice(
        config=ExactConfig(), reason="2,000 items: exact", k=10, items=2000, queries=0
    )
    without_queries = AutoConfig(least_items=1).choose(vectors, queries[:0], (10,))
    assert (without_queries.config, without_queries.reason) == (ExactConfig(), "no queries: exact")


def test_candidates_of_one_structure_are_neighbours():
    kinds = [config.kind for config in CANDIDATES]
    assert len([i for i, kind in enumerate(kinds) if kinds[i - 1 : i] != [kind]]) == len(set(kinds))


def test_the_choice_is_kept_with_the_index(vectors, queries, tmp_path):
    auto = AutoConfig(least_items=100, queries=5, candidates=(FlatConfig(),))
    choice = auto.choose(vectors, queries, (5,))
    index = build_index(vectors, choice.config)
    save_index(index, tmp_path / "chosen", choice)
    save_index(index, tmp_path / "given")
    assert load_choice(tmp_path / "chosen") == choice
    assert load_choice(tmp_path / "given") is None
    assert load_index(tmp_path / "chosen").config == choice.config


def test_refuses_a_broken_choice(vectors, tmp_path):
    save_index(build_index(vectors, FlatConfig()), tmp_path)
    about = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**about, "choice": {"reason": 3}}))
    with pytest.raises(ArtefactError, match=r"index.json holds no readable choice .*again"):
        load_choice(tmp_path)
    with pytest.raises(ArtefactError, match="holds no readable choice"):
        load_choice(tmp_path / "nowhere")


def test_names():
    assert named_choice("auto") == AutoConfig()
    assert named_choice("ivf-int8") == IvfConfig(numbers="int8")
    with pytest.raises(InputError):
        AutoConfig(recall=0)


@pytest.mark.parametrize(
    "config", [PqConfig(), IvfConfig(numbers="float16", probes=8), HnswConfig(numbers="float16")]
)
def test_recall_holds_where_filters_search_deeper(config, vectors, queries):
    """A search that over-fetches must not lose what it was measured to find."""
    index = build_index(vectors, config)
    scores = queries @ vectors.T
    for k in (10, 50, 200, 800):
        found = index.search(queries, k)[1]
        true = np.argsort(-scores, axis=1)[:, :k]
        shared = [np.isin(one, other).mean() for one, other in zip(found, true, strict=True)]
        assert np.mean(shared) >= 0.97, k
