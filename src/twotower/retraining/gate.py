"""Retraining gate: thresholds that a new bundle must meet to replace the old one."""

from pydantic import Field

from twotower.config import Config
from twotower.retraining.comparison import Comparison


class Thresholds(Config):
    """Thresholds that a new bundle must meet; set others with ``retrain --config``."""

    least_users: int = Field(30, ge=1)
    """With fewer users in the newest events no conclusion is possible, and the old bundle stays."""
    most_loss: float = Field(0.0, ge=0, le=1)
    """Tolerated relative loss of NDCG@10, beyond the interval of the difference."""
    least_coverage: float = Field(0.5, ge=0)
    """Minimum coverage, as a multiple of the old bundle's."""
    least_new_item_share: float = Field(0.0, ge=0, le=1)
    """Minimum share of list positions for items that the old bundle was not trained on."""
    most_new_item_share: float = Field(0.5, ge=0, le=1)
    """Maximum of that share."""
    most_latency: float = Field(3.0, gt=0)
    """Maximum median time of a request, as a multiple of the old bundle's."""


class Verdict(Config):
    """Whether the new bundle may be served, and if not, why."""

    passed: bool
    reasons: tuple[str, ...]
    """One for each failed threshold."""
    comparison: Comparison


def judged(found: Comparison, limits: Thresholds) -> Verdict:
    """The verdict on a comparison.

    The new bundle counts as worse if the whole 95% interval of the difference lies below the
    tolerated loss: chance alone refuses one in forty bundles that are equally good.
    """
    old, new = found.old, found.new
    checks = [
        (
            found.users < limits.least_users,
            f"{found.users} users in the newest events, least_users is {limits.least_users}",
        ),
        (
            found.high < -limits.most_loss * old.ndcg,
            f"NDCG@10 changes by {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}] "
            f"from {old.ndcg:.4f}, most_loss is {limits.most_loss:g} of it",
        ),
        (
            new.coverage < limits.least_coverage * old.coverage,
            f"coverage is {new.coverage:.3f}, that of the old one {old.coverage:.3f}, "
            f"least_coverage is {limits.least_coverage:g} times that",
        ),
        (
            new.new_item_share < limits.least_new_item_share,
            f"new items have {new.new_item_share:.3f} of the places, "
            f"least_new_item_share is {limits.least_new_item_share:g}",
        ),
        (
            new.new_item_share > limits.most_new_item_share,
            f"new items have {new.new_item_share:.3f} of the places, "
            f"most_new_item_share is {limits.most_new_item_share:g}",
        ),
        (
            new.milliseconds > limits.most_latency * old.milliseconds,
            f"a request takes {new.milliseconds:.2f} ms, {old.milliseconds:.2f} with the old one, "
            f"most_latency is {limits.most_latency:g} times that",
        ),
    ]
    reasons = tuple(reason for fails, reason in checks if fails)
    return Verdict(passed=not reasons, reasons=reasons, comparison=found)
