"""The benchmark scripts run, small, and write valid results files."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from twotower.evaluation.results import Results, read_results

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

needs_implicit = pytest.mark.skipif(
    importlib.util.find_spec("implicit") is None, reason="implicit comes with the extra 'bench'"
)


def run_small(script: str, out: Path, *options: str) -> Results:
    command = [sys.executable, str(BENCHMARKS / script), "--dataset", "sample", *options]
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    return read_results(out)


def test_lightgcn_speed(tmp_path: Path) -> None:
    results = run_small("lightgcn_speed.py", tmp_path / "r.json", "--steps", "2", "--repeats", "1")
    metrics = {(row.model, row.metric) for row in results.rows}
    assert ("lightgcn", "seconds/epoch") in metrics
    assert ("lightgcn-plain-pytorch", "ratio-to-lightgcn") in metrics


@needs_implicit
def test_mf_speed(tmp_path: Path) -> None:
    results = run_small("mf_speed.py", tmp_path / "r.json", "--steps", "2", "--repeats", "1")
    rates = {row.model: row.value for row in results.rows if row.metric == "examples/s"}
    assert {"implicit-bpr", "mf-batch-2048"} <= set(rates)
    assert min(rates.values()) > 0
    shares = [row.value for row in results.rows if row.protocol == "profile"]
    assert 0 < sum(shares) <= 1


@needs_implicit
def test_implicit_bpr(tmp_path: Path) -> None:
    small = ("--epochs", "1", "2", "--queries", "200")
    results = run_small("implicit_bpr.py", tmp_path / "r.json", *small)
    assert {row.protocol for row in results.rows} == {"full", "full-unmasked", "sampled-100"}


def test_gowalla(tmp_path: Path) -> None:
    small = ("--epochs", "1", "--models", "lightgcn-5-epochs", "mf")
    results = run_small("gowalla.py", tmp_path / "r.json", *small)
    assert {row.model for row in results.rows} == {"lightgcn-5-epochs", "mf"}


def test_bpr_collapse(tmp_path: Path) -> None:
    results = run_small("bpr_collapse.py", tmp_path / "r.json", "--epochs", "1", "--models", "v4")
    assert [(row.model, row.metric) for row in results.rows] == [
        ("v4", "HR@10"),
        ("v4", "NDCG@10"),
        ("v4", "item-mean-norm"),
    ]
