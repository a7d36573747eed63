"""Conjugate gradients against the exact solution."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from twotower.factors.fold_in import improve_rows, principal_basis, solve_rows

RNG = np.random.default_rng(0)
TABLE = principal_basis(RNG.normal(size=(600, 12)).astype(np.float32))
LENGTHS = np.array([0, 1, 3, 16, 17, 18, 40, 65, 70, 300, 0, 2])
INDPTR = np.append(0, np.cumsum(LENGTHS))
EVENTS = np.concatenate([RNG.permutation(600)[:length] for length in LENGTHS])
WEIGHTS = RNG.uniform(10, 80, len(EVENTS)).astype(np.float32)
PENALTY = np.linspace(0.5, 5, len(LENGTHS)).astype(np.float32)


def _exact():
    return solve_rows(TABLE, INDPTR, EVENTS, WEIGHTS, PENALTY)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("near", [False, True])
def test_rows_come_to_the_exact_solution(near, threads):
    exact = _exact()
    vectors = RNG.normal(size=exact.shape).astype(np.float32)
    if near:
        vectors = exact + 0.01 * vectors
    with threadpool_limits(threads, user_api="blas"):
        improve_rows(vectors, TABLE, INDPTR, EVENTS, WEIGHTS, PENALTY, tolerance=1e-6)
    np.testing.assert_allclose(vectors, exact, atol=2e-5)


def test_a_round_ends_at_its_tolerance():
    exact = _exact()
    vectors = np.zeros_like(exact)
    improve_rows(vectors, TABLE, INDPTR, EVENTS, WEIGHTS, PENALTY)
    error = np.linalg.norm(vectors - exact, axis=1)
    assert (error <= 0.02 * np.linalg.norm(exact, axis=1)).all()
    np.testing.assert_allclose(vectors[:4], exact[:4], atol=1e-5)  # short rows are solved


def test_no_row_is_empty_or_left_out():
    vectors = np.ones((3, 12), dtype=np.float32)
    improve_rows(vectors, TABLE, np.zeros(4, np.int64), EVENTS[:0], WEIGHTS[:0], PENALTY[:3])
    np.testing.assert_array_equal(vectors, 0)
