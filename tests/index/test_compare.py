import numpy as np
import pytest

from twotower.errors import InputError
from twotower.index import ExactConfig, FlatConfig, HnswConfig, IvfConfig, compare


def test_measures_every_index_at_every_k(vectors, queries):
    configs = [FlatConfig(), HnswConfig(), IvfConfig(cells=40, probes=1, reach=0)]
    rows = compare(vectors, queries, configs, ks=(5, 100))
    assert [(row.config, row.k) for row in rows] == [(c, k) for c in configs for k in (5, 100)]
    assert [row.recall for row in rows[:2]] == [1.0, 1.0]
    assert rows[2].recall >= 0.95
    assert rows[4].recall < 0.95
    assert all(row.latency_us > 0 and row.build_seconds > 0 for row in rows)


def test_equal_scores_are_equally_good(vectors, queries):
    twins = np.concatenate([vectors[:500], vectors[:500]])
    for row in compare(twins, queries, [ExactConfig(), FlatConfig()], ks=(3,)):
        assert row.recall == 1.0


def test_counts_only_items_that_exist(vectors, queries):
    (row,) = compare(vectors[:4], queries, [HnswConfig()], ks=(10,))
    assert row.recall == 1.0


def test_refuses_no_queries(vectors, queries):
    with pytest.raises(InputError, match="at least one query, got 0"):
        compare(vectors, queries[:0], [FlatConfig()])


def test_refuses_k_below_one(vectors, queries):
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        compare(vectors, queries, [FlatConfig()], ks=(10, 0))
