import numpy as np
import pytest

from twotower.errors import InputError
from twotower.evaluation.significance import bootstrap_interval


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.random(4000) < 0.1, rng.standard_normal(4000)], axis=1).astype(float)
    low, high = bootstrap_interval(values, resamples=2000)
    error = 1.96 * values.std(axis=0) / np.sqrt(4000)
    np.testing.assert_allclose(low, values.mean(axis=0) - error, atol=0.1 * error.max())
    np.testing.assert_allclose(high, values.mean(axis=0) + error, atol=0.1 * error.max())


def test_it_covers_the_truth_about_as_often_as_its_confidence() -> None:
    rng = np.random.default_rng(1)
    samples = rng.random((300, 200))  # every column a sample of its own
    low, high = bootstrap_interval(samples, resamples=500, confidence=0.9)
    assert 0.84 <= ((low < 0.5) & (high > 0.5)).mean() <= 0.96


def test_resampling_is_shared_repeatable_and_independent_of_the_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).random((50, 1))
    low, high = bootstrap_interval(np.hstack([values, 2 * values]), resamples=100, seed=3)
    np.testing.assert_allclose([low[1], high[1]], [2 * low[0], 2 * high[0]])
    monkeypatch.setattr("twotower.evaluation.significance._CHUNK_DRAWS", 1000)
    np.testing.assert_allclose(bootstrap_interval(values, resamples=100, seed=3)[0], low[:1])
    assert bootstrap_interval(values, resamples=100, seed=4)[0][0] != low[0]


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((500, 1))
    other = one + 0.01 + 0.001 * rng.standard_normal((500, 1))
    low, high = bootstrap_interval(other - one)
    assert 0.009 < low[0] < 0.01 < high[0] < 0.011


def test_one_query_has_an_interval_of_no_width() -> None:
    low, high = bootstrap_interval(np.array([[0.25]]))
    assert low[0] == high[0] == 0.25


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.zeros((0, 2)), {}, r"values must be \(queries, metrics\) and not empty, got \(0, 2\)"),
        (np.zeros(3), {}, r"values must be \(queries, metrics\) and not empty, got \(3,\)"),
        (np.zeros((3, 1)), {"resamples": 0}, "resamples must be at least 1, got 0"),
        (np.zeros((3, 1)), {"confidence": 95}, "confidence must be between 0 and 1, got 95"),
    ],
)
def test_bad_input_is_refused(values: np.ndarray, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap_interval(values, **options)
