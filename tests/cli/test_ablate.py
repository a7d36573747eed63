import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(cli: Run, tmp_path: Path, monkeypatch: Any) -> Run:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return partial(cli, "ablate")


@pytest.mark.usefixtures("in_process")
def test_one_variant_of_the_sample_beside_a_baseline(
    run: Run, small_sample: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "study", tmp_path / "results.json"
    options = ("--dataset", small_sample, "--protocol", "full", "--json", file, "--out", out)
    status, message, error = run(
        *options, "--variant", "popularity", "--variant", "v1", "--jobs", 2
    )
    assert (status, error) == (0, "")
    assert "2 cells, 0 of them found finished; 2 at a time" in message
    results = json.loads(file.read_text())
    ndcg = {
        row["model"]: row["value"]
        for row in results["rows"]
        if (row["protocol"], row["metric"]) == ("full", "NDCG@10")
    }
    assert ndcg["v1"] > ndcg["popularity"] > 0
    assert results["meta"]["command"]
    assert results["models"]["v1"].startswith("id and features in both towers")

    status, message, error = run(*options, "--variant", "popularity", "--variant", "v1=1")
    assert (status, error) == (0, "")
    assert json.loads(file.read_text())["rows"] == results["rows"]  # nothing was run again

    other = (
        "--dataset",
        small_sample,
        "--protocol",
        "full",
        "--json",
        file,
        "--out",
        tmp_path / "b",
    )
    status, message, error = run(*other, "--variant", "item-knn", "--keep")
    assert (status, error) == (0, "")
    kept = json.loads(file.read_text())
    assert kept["rows"][: len(results["rows"])] == results["rows"]
    assert {row["model"] for row in kept["rows"]} == {"popularity", "v1", "item-knn"}
    assert kept["earlier"][0]["models"] == ["popularity", "v1"]
    assert kept["earlier"][0]["meta"]["commit"] == results["meta"]["commit"]


@pytest.mark.usefixtures("small_models")
def test_a_study_that_cannot_be_finished_is_exit_code_1(
    run: Run, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twotower.workflow.variants import VARIANTS

    mf = VARIANTS["mf"]
    diverges = mf.vary(training=mf.training.vary(learning_rate=1e30))
    monkeypatch.setitem(VARIANTS, "mf", diverges)
    status, message, error = run(
        "--dataset", shop, "--k-core", 0, "--protocol", "full", "--out", tmp_path / "out",
        "--variant", "popularity", "--variant", "mf",
    )  # fmt: skip
    assert (status, error) == (1, "")
    assert "✗ mf seed 0 failed: loss is " in message
    assert "1 cell failed: mf seed 0; run the same command to try again" in message
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"popularity"}


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (["v99"], "unknown model 'v99'; pass one of "),
        (["v1=0"], "--variant must be NAME or NAME=SEEDS, got 'v1=0'; such as v1=3"),
        (["v1=x"], "--variant must be NAME or NAME=SEEDS, got 'v1=x'"),
        (["v1", "v1=2"], "--variant v1 is given twice; pass --variant v1=SEEDS"),
    ],
)
def test_mistakes_are_one_line(run: Run, variants: list[str], message: str, tmp_path: Path) -> None:
    chosen = [part for name in variants for part in ("--variant", name)]
    status, _, error = run("--dataset", "sample", "--out", tmp_path / "out", *chosen)
    assert status == 2
    assert error.startswith(f"twotower: {message}")
