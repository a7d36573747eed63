from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset
from twotower.study.ablation.cell import Cell, CellRecord, run_cell
from twotower.study.ablation.summary import (
    TESTED_METRICS,
    ModelFigures,
    compared,
    corrected,
    differences,
    model_figures,
)


@pytest.fixture
def records(blocks: Dataset, small_variants: Any, out: Path, recorder: Any) -> list[CellRecord]:
    return [
        run_cell(
            Cell(model="mf", seed=seed, variant=small_variants["mf"]),
            blocks,
            out,
            ("full",),
            recorder,
        )
        for seed in (0, 1)
    ]


def test_rows_are_means_over_seeds_with_their_spread(records: list[CellRecord], out: Path) -> None:
    figures = model_figures(records, out, "leave-last-two")
    rows = {(row.protocol, row.metric): row for row in figures.rows}
    means = [record.means["full"]["NDCG@10"] for record in records]
    assert rows["full", "NDCG@10"].value == pytest.approx(np.mean(means), rel=1e-5)
    assert rows["full", "NDCG@10"].seeds == [0, 1]
    spread = rows["full", "seed-sd-NDCG@10"]
    assert spread.value == pytest.approx(abs(means[0] - means[1]) / np.sqrt(2), rel=1e-4)
    losses = [record.training["epochs"][1]["loss"] for record in records if record.training]
    curve = rows["epoch-2", "loss"]
    assert [curve.low, curve.high] == pytest.approx(sorted(losses), rel=1e-5)
    assert rows["epoch-2", "validation-NDCG@10"].value > 0
    assert rows["timing", "training-seconds"].value > 0
    assert figures.tested["full"].shape == (60, len(TESTED_METRICS))
    assert figures.by_seed["full"][:, 1] == pytest.approx(means)


def test_one_seed_has_no_spread(records: list[CellRecord], out: Path) -> None:
    figures = model_figures(records[:1], out, "leave-last-two")
    assert not any(row.metric.startswith("seed-sd") for row in figures.rows)


def made_up(values: np.ndarray, like: ModelFigures) -> ModelFigures:
    """Figures of a model with given values of both metrics, by seed ``(seeds, queries)``."""
    both = np.repeat(values[:, :, None], 2, axis=2)
    return ModelFigures(
        like.rows, {"full": both.mean(axis=0)}, {"full": both.mean(axis=1)}, (0, 1)[: len(values)]
    )


@pytest.fixture
def study(records: list[CellRecord], out: Path) -> Mapping[str, ModelFigures]:
    like = model_figures(records, out, "leave-last-two")
    rng = np.random.default_rng(0)
    base = rng.random((2, 3000))
    return {
        "v1": made_up(base, like),
        "better": made_up(base + 0.02 + 0.2 * rng.standard_normal(base.shape), like),
        "worse": made_up(base - 0.02 + 0.2 * rng.standard_normal(base.shape), like),
        "same": made_up(base + 0.2 * rng.standard_normal(base.shape), like),
        "alone": made_up(base[:1], like),
    }


def test_verdicts_need_more_than_chance(study: Mapping[str, ModelFigures]) -> None:
    parents = {"better": "v1", "worse": "v1", "same": "v1", "alone": None, "v1": None}
    found = differences(study, parents)
    assert [(one.model, one.metric, one.verdict) for one in found if one.metric == "HR@10"] == [
        ("better", "HR@10", "helps"),
        ("worse", "HR@10", "hurts"),
        ("same", "HR@10", "no difference shown"),
    ]
    for one in found:
        gained = study[one.model].tested["full"][:, 0] - study["v1"].tested["full"][:, 0]
        assert one.value == pytest.approx(gained.mean(), rel=1e-4)
        assert one.low < one.value < one.high
        error = 1.96 * gained.std() / np.sqrt(3000)
        assert one.high - one.low == pytest.approx(2 * error, rel=0.1)
        assert one.p <= one.p_corrected <= 1
        assert (one.users, one.seeds, one.parent_seeds) == (3000, [0, 1], [0, 1])


def test_seed_errors_are_given_where_both_have_several_seeds(
    study: Mapping[str, ModelFigures],
) -> None:
    (one, _) = differences(study, {"better": "v1"})
    own, parent = study["better"].by_seed["full"], study["v1"].by_seed["full"]
    expected = np.sqrt(own[:, 0].var(ddof=1) / 2 + parent[:, 0].var(ddof=1) / 2)
    assert one.seed_error == pytest.approx(expected, rel=1e-4)
    (one, _) = differences(study, {"better": "alone"})
    assert one.seed_error is None


def test_a_model_without_its_parent_is_not_compared(study: Mapping[str, ModelFigures]) -> None:
    assert differences(study, {"better": "v99", "v1": None}) == []


def test_a_study_of_equal_models_finds_no_difference(records: list[CellRecord], out: Path) -> None:
    like = model_figures(records, out, "leave-last-two")
    alarms = 0
    for study in range(20):
        rng = np.random.default_rng(study)
        figures = {
            f"m{number}": made_up((rng.random((1, 500)) < 0.2).astype(float), like)
            for number in range(6)
        }
        found = differences(figures, {name: "m0" for name in figures if name != "m0"})
        alarms += any(one.verdict != "no difference shown" for one in found)
    assert alarms <= 3  # 5% of 20 are expected at most; P(more than 3) is below 2%


def test_a_verdict_is_of_the_digits_that_are_kept() -> None:
    (row,) = compared(
        np.full((9, 1), 0.1), ("HR@10",), dataset="d", split="s", model="m", parent="p",
        protocol="full", seeds=[0], parent_seeds=[0],
    )  # fmt: skip
    (found,) = corrected([row | {"p": 0.0499999999}])
    assert (found.p_corrected, found.verdict) == (0.05, "no difference shown")
