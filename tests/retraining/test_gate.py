"""The gate refuses what each threshold is about, and passes models that are as good."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from twotower.errors import ArtefactError
from twotower.retraining.comparison import Comparison, Measured
from twotower.retraining.gate import Thresholds, judged
from twotower.retraining.loop import RetrainSettings
from twotower.retraining.shelf import INDEX, Shelf

DOCUMENTS = Path(__file__).parents[2] / "docs"
OLD = Measured(ndcg=0.1, coverage=0.5, new_item_share=0.0, milliseconds=1.0)


def comparison(low: float = -0.01, high: float = 0.01, **changes: float) -> Comparison:
    new = OLD.vary(**{key: value for key, value in changes.items() if key != "users"})
    return Comparison(
        users=int(changes.get("users", 100)), old=OLD, new=new, difference=(low + high) / 2,
        low=low, high=high,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "limits", "reason"),
    [
        (comparison(), {}, None),
        (comparison(-0.03, -0.001), {}, "most_loss"),
        (comparison(-0.03, -0.001), {"most_loss": 0.05}, None),
        (comparison(users=29), {}, "least_users"),
        (comparison(coverage=0.2), {}, "least_coverage"),
        (comparison(new_item_share=0.6), {}, "most_new_item_share"),
        (comparison(new_item_share=0.1), {"least_new_item_share": 0.2}, "least_new_item_share"),
        (comparison(milliseconds=3.5), {}, "most_latency"),
    ],
)
def test_each_threshold(found, limits, reason) -> None:
    verdict = judged(found, Thresholds(**limits))
    assert verdict.passed is (reason is None)
    assert [reason in text for text in verdict.reasons] == ([True] if reason else [])


def test_models_that_are_equal_pass_and_worse_ones_do_not() -> None:
    """By the intervals of 400 users; a worse one loses a fifth of its hits."""
    from twotower.evaluation.significance import bootstrap_interval

    rng = np.random.default_rng(3)
    refused = {"equal": 0, "worse": 0}
    for _ in range(60):
        hits = rng.random((3, 400)) < 0.5
        worse = hits[2] & (rng.random(400) < 0.6)
        for name, other in (("equal", hits[1]), ("worse", worse)):
            differences = other.astype(float) - hits[0]
            low, high = bootstrap_interval(differences[:, None])
            found = comparison(float(low[0]), float(high[0]))
            refused[name] += not judged(found, Thresholds()).passed
    assert refused["equal"] <= 5
    assert refused["worse"] >= 55


def test_an_index_that_is_none_is_refused(tmp_path) -> None:
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(ArtefactError, match="is no index of bundles"):
        Shelf(tmp_path)


def test_the_defaults_are_those_that_are_documented() -> None:
    section = (DOCUMENTS / "serving.md").read_text().split("### Retraining as a loop")[1]
    written = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert written is not None
    settings = tomllib.loads(written[1])
    assert settings.pop("kinds") == ["buy", "rating"]  # where the bundle declares none
    defaults = RetrainSettings().model_dump(exclude={"kinds", "keep_days", "anonymise_after_days"})
    assert settings == defaults
