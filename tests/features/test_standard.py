import logging

import numpy as np
import pytest

from twotower.features.declared import Feature
from twotower.features.standard import Standardiser

TWO = (Feature("a", "prices", ""), Feature("b", "timestamps", ""))


def test_known_values_get_mean_zero_and_spread_one_and_the_unknown_is_the_mean() -> None:
    raw = np.array([[1.0, 10.0], [3.0, np.nan], [np.nan, 30.0]])
    out = Standardiser.fit(raw, TWO).apply(raw)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, [[-1, -1], [1, 0], [0, 1]])


def test_a_constant_column_stays_zero_whatever_comes_later() -> None:
    fitted = Standardiser.fit(np.array([[4.2, 1.0], [4.2, 2.0]]), TWO)
    np.testing.assert_array_equal(fitted.apply(np.array([[4.2, 1.5], [99.0, 1.5]]))[:, 0], 0)


def test_indicators_are_left_alone() -> None:
    declared = (Feature("flag", "prices", "", indicator=True),)
    raw = np.array([[1.0], [0.0], [1.0]])
    np.testing.assert_array_equal(Standardiser.fit(raw, declared).apply(raw), raw)


def test_what_is_unknown_throughout_is_zero_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    declared = (*TWO, Feature("c", "timestamps", ""))
    raw = np.full((2, 3), np.nan)
    raw[:, 0] = [1, 2]
    with caplog.at_level(logging.WARNING):
        fitted = Standardiser.fit(raw, declared, notices=True)
        Standardiser.fit(raw, declared)  # a model that does not read them says nothing
    assert caplog.messages == ["the source has no timestamps: constant 0 for b, c"]
    np.testing.assert_array_equal(fitted.apply(np.array([[1.0, 7.0, 7.0]]))[:, 1:], 0)
