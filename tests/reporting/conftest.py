from typing import Any

import pytest

from twotower.evaluation.results import Absent, Difference, Meta, Results, Row, verdict
from twotower.reporting.study_results import Published, Reference, StudyFigures

META = Meta(
    command="twotower ablate --dataset toy",
    commit="0123456789ab",
    machine="a machine",
    threads=1,
    started="2025-01-01T00:00:00+00:00",
    wall_seconds=1.5,
    peak_memory_mb=100,
    packages={"numpy": "2.0"},
)
QUALITY = {"popularity": 0.01, "v1": 0.02, "v4": 0.03, "v8": 0.029}


def _row(model: str, protocol: str, metric: str, value: float, **given: Any) -> Row:
    fields = {"low": value * 0.9, "high": value * 1.1, "seeds": [0, 1], "users": 500}
    return Row(
        dataset="toy", split="s", model=model, protocol=protocol, metric=metric, value=value,
        **{**fields, **given},
    )  # fmt: skip


def _difference(model: str, parent: str, protocol: str, value: float, p: float) -> Difference:
    return Difference(
        dataset="toy", split="s", model=model, parent=parent, protocol=protocol,
        metric="NDCG@10", value=value, low=value - 0.002, high=value + 0.002, p=p / 4,
        p_corrected=p, verdict=verdict(value, p), seeds=[0, 1], parent_seeds=[0, 1], users=500,
        seed_error=0.001,
    )  # fmt: skip


@pytest.fixture(scope="session")
def study_results() -> Results:
    """A made-up study in which v4 helps, v8 shows nothing, and v7 lacks images."""
    protocols = {
        "full": 1.0, "sampled-100": 9.0, "history-3": 0.5, "history-10": 0.8, "history-full": 1.1,
        "activity-5-7": 0.9, "activity-8-15": 1.1, "new-users": 0.6, "known-users": 0.8,
        "new-items": 0.3,
    }  # fmt: skip
    rows = [
        _row(model, protocol, metric, value * scale * factor)
        for model, value in QUALITY.items()
        for protocol, scale in protocols.items()
        for metric, factor in (("HR@10", 2.0), ("NDCG@10", 1.0))
    ]
    for number, model in enumerate(("v1", "v4", "v8")):
        rows.append(_row(model, "timing", "training-seconds", 10.0 * (number + 1)))
        rows += [
            _row(model, f"epoch-{epoch}", "validation-NDCG@10", 0.01 * epoch) for epoch in (1, 2)
        ]
    rows += [_row("v8", "gates", f"user-{part}", w) for part, w in (("id", 0.6), ("history", 0.4))]
    differences = [
        _difference(model, parent, protocol, scale * value, p)
        for protocol, scale in (("full", 1.0), ("sampled-100", 9.0))
        for model, parent, value, p in (("v4", "v1", 0.01, 0.004), ("v8", "v4", -0.001, 0.6))
    ]
    absent = [Absent(dataset="toy", model="v7", reason="no images in this data set")]
    words = {"v4": "title text <b>", "v8": "learned gates", "v7": "image embeddings"}
    return Results(meta=META, rows=rows, differences=differences, absent=absent, models=words)


@pytest.fixture(scope="session")
def reference() -> Reference:
    figures = (("v4", "sampled-100", "HR@10", 0.6355), ("v8", "gates", "user-id", 0.63))
    rows = tuple(
        Published(model=model, protocol=protocol, metric=metric, value=value)
        for model, protocol, metric, value in figures
    )
    return Reference(source="https://example.org/paper", note="Another split.", rows=rows)


@pytest.fixture(scope="session")
def study_figures(study_results: Results, reference: Reference) -> StudyFigures:
    return StudyFigures.of([study_results], reference=reference)
