"""Confidence sequences: intervals that stay valid under continuous monitoring (peeking)."""

import math
from dataclasses import dataclass
from typing import Final

from twotower.errors import InputError

TUNED_FOR: Final = 5_000
"""Units at which the interval is narrowest, relative to one that is looked at once."""
PREFERENCE_TUNED_FOR: Final = 500
"""The same of interleaved lists, which need fewer units."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Outcomes of one arm of an experiment."""

    units: int
    """Randomised units, such as a user on a day."""
    successes: int
    """Those among them with an outcome of 1, such as a click."""

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.units:
            raise InputError(
                f"an arm must have 0 to {self.units} successes of {self.units} units, "
                f"got {self.successes}"
            )

    @property
    def rate(self) -> float:
        """Share of successes; 0 without units."""
        return self.successes / self.units if self.units else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two arms, with bounds that hold at all times together."""

    estimate: float
    """Rate of the second arm minus that of the first, or how much the second is preferred."""
    low: float
    high: float
    """Of the confidence sequence."""

    @property
    def better(self) -> str | None:
        """``"a"`` or ``"b"`` where the difference is certain, else None."""
        if self.low > 0:
            return "b"
        return "a" if self.high < 0 else None


def difference(
    a: Arm, b: Arm, *, confidence: float = 0.95, tuned_for: int = TUNED_FOR
) -> Difference:
    r"""Asymptotic confidence sequence of a difference of rates (Waudby-Smith et al., 2021).

    With :math:`t` units in all, :math:`\hat\sigma^2` the variance of one unit's contribution and
    :math:`\alpha` one minus the confidence,

    .. math:: \hat\tau_t \pm \hat\sigma_t \sqrt{\frac{2(t\rho^2 + 1)}{t^2\rho^2}
                                   \log\frac{\sqrt{t\rho^2 + 1}}{\alpha}}

    holds for all :math:`t` at once with a probability that tends to the confidence ("Time-uniform
    central limit theory and asymptotic confidence sequences", Theorem 2.2). So an experiment may
    be looked at after every unit, and be stopped when 0 is outside.

    Parameters
    ----------
    a, b
        The arms. Their units were assigned at random.
    confidence
        Of all looks together.
    tuned_for
        At how many units the interval is to be narrow; the guarantee does not depend on it.

    Examples
    --------
    >>> found = difference(Arm(5000, 500), Arm(5000, 600))
    >>> found.better, round(found.low, 3), round(found.high, 3)
    ('b', 0.001, 0.039)
    >>> difference(Arm(5000, 500), Arm(5000, 510)).better is None
    True
    """
    _check_confidence(confidence)
    if not a.units or not b.units:
        return Difference(b.rate - a.rate, -1.0, 1.0)
    units = a.units + b.units
    # One success more on each side, so that an arm without any has a variance.
    variance = sum(_smoothed(arm) * (1 - _smoothed(arm)) / (arm.units / units) for arm in (a, b))
    return _within(b.rate - a.rate, variance, units, confidence, tuned_for)


def preference(
    a: int, b: int, ties: int, *, confidence: float = 0.95, tuned_for: int = PREFERENCE_TUNED_FOR
) -> Difference:
    r"""How much more often the second of two interleaved lists wins than the first.

    With :math:`y_i` of unit :math:`i` 1, -1 or 0 where the second list, the first or neither won,
    the mean of :math:`y_i` with the confidence sequence of `difference`. It is 0 where both are as
    good, and :math:`2 \Delta` of Chapelle et al. ("Large-scale validation and analysis of
    interleaved search evaluation", TOIS 2012).

    Parameters
    ----------
    a, b, ties
        Units, such as a user on a day, that the first list won, that the second won, and that had
        an outcome for both alike. A unit without an outcome says nothing, and is not counted.
    confidence, tuned_for
        As of `difference`.

    Examples
    --------
    >>> found = preference(60, 110, 30)
    >>> found.better, round(found.estimate, 2), round(found.low, 2), round(found.high, 2)
    ('b', 0.25, 0.05, 0.45)
    >>> preference(60, 66, 30).better is None
    True
    """
    _check_confidence(confidence)
    if min(a, b, ties) < 0:
        raise InputError(f"units must be counted from 0, got {a}, {b} and {ties}")
    units = a + b + ties
    if not units:
        return Difference(0.0, -1.0, 1.0)
    # The second moment, which the variance does not exceed: few units won by one list alone would
    # have next to none. One more won by each, so that ties alone have some.
    square = (a + b + 2) / (units + 2)
    return _within((b - a) / units, square, units, confidence, tuned_for)


def _within(
    estimate: float, variance: float, units: int, confidence: float, tuned_for: int
) -> Difference:
    """An estimate with its confidence sequence, within -1 and 1."""
    alpha = 1 - confidence
    rho = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_for
    width = math.sqrt(
        variance
        * 2 * (units * rho + 1) / (units**2 * rho)
        * math.log(math.sqrt(units * rho + 1) / alpha)
    )  # fmt: skip
    return Difference(estimate, max(-1.0, estimate - width), min(1.0, estimate + width))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, got {confidence}")


def _smoothed(arm: Arm) -> float:
    return (arm.successes + 1) / (arm.units + 2)
