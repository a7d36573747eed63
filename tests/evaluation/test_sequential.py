"""Looking early is no mistake: simulated experiments that are looked at after every 50 units."""

import numpy as np
import pytest

from twotower.errors import InputError
from twotower.evaluation.sequential import Arm, Difference, difference, preference


def looked_at(rates: tuple[float, float], units: int, seed: int) -> str | None:
    """What an experiment says that is stopped as soon as it says anything."""
    rng = np.random.default_rng(seed)
    arms = rng.random(units) < 0.5
    wins = rng.random(units) < np.where(arms, rates[1], rates[0])
    for looked in range(50, units + 1, 50):
        counts = [
            Arm(int((arms[:looked] == arm).sum()), int(wins[:looked][arms[:looked] == arm].sum()))
            for arm in (False, True)
        ]
        if (found := difference(*counts).better) is not None:
            return found
    return None


def test_equal_arms_are_not_called_different() -> None:
    verdicts = [looked_at((0.1, 0.1), 6_000, seed) for seed in range(200)]
    assert sum(one is not None for one in verdicts) <= 10  # 5% of all looks together


def test_a_better_arm_is_found_better() -> None:
    verdicts = [looked_at((0.1, 0.14), 12_000, seed) for seed in range(60)]
    assert verdicts.count("b") >= 57
    assert verdicts.count("a") == 0
    assert looked_at((0.14, 0.1), 12_000, 0) == "a"


def preferred(shares: tuple[float, float], units: int, seed: int) -> str | None:
    """What interleaving says that is looked at after every unit, until it says anything."""
    rng = np.random.default_rng(seed)
    won = rng.choice(3, units, p=[*shares, 1 - sum(shares)])
    counts = np.cumsum(won[:, None] == np.arange(3), axis=0).tolist()
    found = (preference(*one).better for one in counts)
    return next((better for better in found if better is not None), None)


@pytest.mark.parametrize("share", [0.5, 0.3, 0.1])
def test_interleaved_lists_that_are_alike_are_not_called_different(share) -> None:
    verdicts = [preferred((share, share), 1_000, seed) for seed in range(200)]
    assert sum(one is not None for one in verdicts) <= 10


def test_a_list_that_wins_more_often_is_preferred() -> None:
    verdicts = [preferred((0.3, 0.45), 1_500, seed) for seed in range(60)]
    assert verdicts.count("b") >= 57
    assert preferred((0.45, 0.3), 1_500, 0) == "a"


def test_a_preference_is_within_one() -> None:
    assert preference(0, 0, 0) == Difference(0.0, -1.0, 1.0)
    assert preference(0, 3, 0) == Difference(1.0, preference(0, 3, 0).low, 1.0)
    assert preference(0, 3, 0).better is None
    found = preference(400, 500, 100)
    assert found.low < 0.1 == found.estimate < found.high
    with pytest.raises(InputError, match="units must be counted from 0, got 1, -1 and 0"):
        preference(1, -1, 0)


def test_an_interval_narrows_and_holds_the_truth() -> None:
    widths = []
    for units in (100, 1_000, 10_000, 100_000):
        found = difference(Arm(units, units // 10), Arm(units, units // 8))
        assert found.low < 0.025 < found.high
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


def test_without_units_nothing_is_known() -> None:
    assert difference(Arm(0, 0), Arm(10, 5)) == Difference(0.5, -1.0, 1.0)
    assert difference(Arm(5, 0), Arm(5, 0)).better is None


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 3 successes of 3 units, got 4"):
        Arm(3, 4)
    with pytest.raises(InputError, match="confidence must be between 0 and 1, got 1"):
        difference(Arm(1, 1), Arm(1, 1), confidence=1)
