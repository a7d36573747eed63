import json
from pathlib import Path
from typing import Any

import pytest

from twotower.errors import ArtefactError, InputError
from twotower.evaluation.results import (
    Absent,
    Difference,
    Meta,
    Row,
    markdown_table,
    read_results,
    write_results,
)

META = Meta(
    command="twotower run",
    commit=None,
    machine="a machine",
    threads=2,
    started="2025-01-01T00:00:00+00:00",
    wall_seconds=1.5,
    peak_memory_mb=100,
    packages={"numpy": "2.0"},
)


def row(model: str = "mf", metric: str = "HR@10", value: float = 0.1, **others: Any) -> Row:
    fields = {"dataset": "toy", "split": "s", "protocol": "full", "seeds": [0], "users": 9}
    return Row(model=model, metric=metric, value=value, **{**fields, **others})


def test_a_repeated_measurement_is_its_median_and_range() -> None:
    fields = {"dataset": "toy", "split": "s", "model": "mf", "protocol": "timing", "metric": "s"}
    found = Row.of_repeats([3.0, 1.0, 8.0, 2.0], users=9, **fields)
    assert (found.value, found.low, found.high) == (2.5, 1.0, 8.0)


def test_results_come_back(tmp_path: Path) -> None:
    rows = [row(low=0.05, high=0.15), row(model="größer", value=1 / 3)]
    path = tmp_path / "results" / "toy.json"
    write_results(path, META, rows)
    results = read_results(path)
    assert results.meta == META
    assert results.rows == rows


def test_a_file_has_the_promised_shape_and_a_line_per_row(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    write_results(path, META, [row(value=1 / 3), row(metric="MRR")])
    text = path.read_text()
    content = json.loads(text)
    assert list(content) == ["meta", "rows"]
    assert " ".join(content["meta"]) == (
        "command commit machine threads started wall_seconds peak_memory_mb packages"
    )
    assert " ".join(content["rows"][0]) == (
        "dataset split model protocol metric value low high seeds users"
    )
    assert content["rows"][0]["value"] == 0.333333
    assert sum('"metric"' in line for line in text.splitlines()) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["toy.json"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": float("nan")}, "must be finite, got nan"),
        ({"low": 0.1}, "low and high must be given together"),
        ({"low": 0.3, "high": 0.2}, "low must not be above high, got 0.3 and 0.2"),
        ({"users": -1}, "greater than or equal to 0"),
        ({"model": ""}, "at least 1 character"),
        ({"note": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_a_row_is_validated(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row(**fields)


def test_a_figure_is_in_a_file_once(tmp_path: Path) -> None:
    message = "toy.json are not valid: two rows are of toy / s / mf / full / HR@10"
    with pytest.raises(InputError, match=message):
        write_results(tmp_path / "toy.json", META, [row(), row(value=0.2)])
    assert list(tmp_path.iterdir()) == []


def test_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"none.json cannot be read: No such file"):
        read_results(tmp_path / "none.json")
    path = tmp_path / "toy.json"
    path.write_text("{")
    with pytest.raises(ArtefactError, match=r"toy.json is not a results file: Invalid JSON"):
        read_results(path)
    path.write_text('{"meta": {}, "rows": []}')
    with pytest.raises(ArtefactError, match=r"is not a results file: meta.command: Field required"):
        read_results(path)


def test_a_table_has_a_line_per_model_and_a_column_per_metric() -> None:
    rows = [row(low=0.05, high=0.15), row(metric="MRR", value=0.25), row(model="v5", value=0.12345)]
    assert markdown_table(rows, ["MRR", "HR@10"]).splitlines() == [
        "| model | MRR | HR@10 |",
        "| --- | ---: | ---: |",
        "| mf | 0.2500 | 0.1000 |",
        "| v5 | – | 0.1235 |",
    ]
    assert markdown_table(rows[:1], ["HR@10"], intervals=True, digits=2).endswith(
        "| mf | 0.10 [0.05, 0.15] |"
    )


def test_a_table_refuses_what_it_cannot_show() -> None:
    with pytest.raises(InputError, match=r"^two figures for HR@10 of mf; select one"):
        markdown_table([row(), row(protocol="full-unmasked")], ["HR@10"])
    with pytest.raises(InputError, match=r"^no row has the metric 'HR@11'; check its name"):
        markdown_table([row()], ["HR@10", "HR@11"])


def difference(**given: Any) -> Difference:
    fields = {
        "dataset": "toy", "split": "s", "model": "v4", "parent": "v1", "protocol": "full",
        "metric": "NDCG@10", "value": 0.01, "low": 0.005, "high": 0.015, "p": 0.001,
        "p_corrected": 0.004, "verdict": "helps", "seeds": [0, 1], "parent_seeds": [0], "users": 9,
    }  # fmt: skip
    return Difference(**{**fields, **given})


def test_differences_and_absent_models_come_back(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    differences = [difference(), difference(metric="HR@10", seed_error=0.002)]
    absent = [Absent(dataset="toy", model="v7", reason="no images in this data set")]
    write_results(path, META, [row()], differences=differences, absent=absent)
    results = read_results(path)
    assert (results.rows, results.differences, results.absent) == ([row()], differences, absent)
    assert list(json.loads(path.read_text())) == ["meta", "rows", "differences", "absent"]
    with pytest.raises(InputError, match="two differences are of toy / s / v4 / full / NDCG@10"):
        write_results(path, META, [], differences=[difference(), difference()])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"p_corrected": 0.2}, "verdict must be 'no difference shown', got 'helps'"),
        ({"value": -0.01}, "verdict must be 'hurts', got 'helps'"),
        ({"p": 1.5}, "less than or equal to 1"),
    ],
)
def test_a_verdict_follows_from_the_figures(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference(**fields)
