import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twotower.errors import InputError
from twotower.evaluation.significance import holm_bonferroni, sign_flip_test


def test_it_agrees_with_all_sign_vectors_counted() -> None:
    differences = np.random.default_rng(0).standard_normal((10, 3)) + np.array([0.0, 0.4, 1.0])
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    exact = (np.abs(signs @ differences) >= np.abs(differences.sum(axis=0)) - 1e-9).mean(axis=0)
    np.testing.assert_allclose(sign_flip_test(differences), exact, atol=0.01)


def test_ties_of_hit_rates_count_as_extreme() -> None:
    # Eight users changed, six of them for the better: P(|B - 4| >= 2), B ~ Bin(8, 1/2).
    differences = np.array([[1.0]] * 6 + [[-1.0]] * 2 + [[0.0]] * 50)
    assert sign_flip_test(differences)[0] == pytest.approx(74 / 256, abs=0.01)


def test_false_positives_stay_below_alpha_for_equal_models() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for study in range(400):
        hits = rng.random((2, 300, 5)) < 0.1  # two models of equal quality, five comparisons
        p = sign_flip_test((hits[0] * 1.0) - hits[1], resamples=400, seed=study)
        alarms += bool((holm_bonferroni(p) < 0.05).any())
    assert alarms / 400 < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_p_values_of_equal_models_are_uniform() -> None:
    differences = np.random.default_rng(2).standard_normal((200, 1000))
    p = sign_flip_test(differences, resamples=500)
    np.testing.assert_allclose(np.quantile(p, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.06)


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(3)
    differences = rng.standard_normal((2000, 100)) + 0.1  # 4.5 standard errors
    assert (sign_flip_test(differences, resamples=2000) < 0.05).mean() > 0.97


def test_the_direction_does_not_matter_and_the_seed_repeats() -> None:
    differences = np.random.default_rng(4).standard_normal((60, 2)) + 0.2
    p = sign_flip_test(differences, seed=5, resamples=1000)
    np.testing.assert_array_equal(sign_flip_test(-differences, seed=5, resamples=1000), p)
    np.testing.assert_allclose(sign_flip_test(differences, seed=6, resamples=1000), p, atol=0.05)


def test_signs_do_not_depend_on_the_memory_used(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(4).standard_normal((64, 1)) + 0.2
    whole = sign_flip_test(differences, resamples=500)
    monkeypatch.setattr("twotower.evaluation.significance._CHUNK_SIGNS", 1000)
    np.testing.assert_array_equal(sign_flip_test(differences, resamples=500), whole)


def test_holm_by_hand() -> None:
    # 4 x .005, 3 x .01, 2 x .03, 1 x .04; never below the one before.
    np.testing.assert_allclose(holm_bonferroni([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm_bonferroni([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_correction_keeps_the_order_and_never_lowers(p: list[float]) -> None:
    adjusted = holm_bonferroni(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    assert adjusted.min() <= min(1.0, len(p) * min(p))


@pytest.mark.parametrize(
    ("values", "resamples", "message"),
    [
        (np.zeros((0, 1)), 9, "differences must be (queries, metrics) and not empty, got (0, 1)"),
        (np.zeros(3), 9, "differences must be (queries, metrics) and not empty, got (3,)"),
        (np.zeros((3, 1)), 0, "resamples must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(values: np.ndarray, resamples: int, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        sign_flip_test(values, resamples=resamples)


def test_p_values_beyond_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"^p-values must be a list of numbers from 0 to 1, got"):
        holm_bonferroni([0.5, 1.5])
