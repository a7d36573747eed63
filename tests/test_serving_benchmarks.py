"""The serving benchmarks run on a small bundle, and write what they say they measure."""

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.bundle.blend import ALL_SIGNALS, Blend
from twotower.bundle.network import Network
from twotower.evaluation.results import read_results
from twotower.types import FloatArray
from twotower.workflow.bundling import bundle_contents, write_bundle
from twotower.workflow.models import train_variant
from twotower.workflow.reranking import fitted_blend

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
Figures = dict[tuple[str, str], float]
Run = Callable[..., Figures]


@pytest.fixture(scope="module")
def bundles(blocks: Any, small_variants: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bundle``, whose second stage is a weighted sum, and ``network``, where it is a network."""
    trained = train_variant(small_variants["v9"], blocks)
    contents = bundle_contents("v9", trained, blocks, reranker=fitted_blend(trained, blocks))
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(folder / "bundle", contents, trained)
    assert isinstance(contents.reranker, Blend)
    blend = replace(contents.reranker, network=random_network())
    write_bundle(folder / "network", replace(contents, reranker=blend), trained)
    return folder


def random_network() -> Network:
    """Of any weights, over a range that no signal leaves."""
    rng, inputs, hidden = np.random.default_rng(0), len(ALL_SIGNALS) + 1, 4

    def some(*shape: int) -> FloatArray:
        return rng.normal(size=shape).astype(np.float32)

    low, high = np.full(inputs, -9, "f4"), np.full(inputs, 9, "f4")
    center, spread = np.zeros(inputs, "f4"), np.ones(inputs, "f4")
    layers = some(inputs, hidden), some(hidden), some(hidden, hidden), some(hidden), some(hidden)
    return Network(low, high, center, spread, some(inputs), *layers)


@pytest.fixture
def run(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(script: str, *options: str, bundle: str = "bundle") -> Figures:
        out = tmp_path / "results.json"
        command = [f"{script}.py", "--bundle", str(bundles / bundle), *options, "--out", str(out)]
        monkeypatch.setattr(sys, "argv", command)
        importlib.import_module(script).main()
        rows = read_results(out).rows
        assert {row.split for row in rows} == {"bundle"}
        return {(row.model, row.metric): row.value for row in rows}

    return run


@pytest.mark.parametrize("bundle", ["bundle", "network"])
def test_latency_of_both_stages(bundle: str, run: Run) -> None:
    small = ("--requests", "4", "--repeats", "2", "--history", "3", "--candidates", "12")
    found = run("serving_latency", *small, bundle=bundle)
    for end in ("", "+rerank"):
        assert found[f"twotower{end}", "ratio-to-native"] > 0
        assert found[f"plain{end}", "ratio-to-twotower"] > 0
        # The same items, found by other code.
        assert found[f"plain{end}", "overlap@10"] == 1
        for stage in ("encode", "search", "present"):
            assert found[f"twotower{end}", f"mean-{stage}-ms"] > 0
    assert ("twotower", "mean-rerank-ms") not in found
    assert found["twotower+rerank", "mean-rerank-ms"] > 0


def test_a_grown_catalogue_is_served(run: Run) -> None:
    small = ("--items", "300", "--kind", "flat", "--requests", "4", "--history", "3")
    found = run("serving_large", *small, "--repeats", "2")
    assert found["in-process", "overlap@10"] == 1
    assert found["in-process", "p99-ms"] <= found["in-process", "max-ms"]
    assert found["http", "median-ms"] > found["in-process", "median-ms"]
    assert found["http", "memory-mb"] > 0


@pytest.mark.skipif(importlib.util.find_spec("implicit") is None, reason="needs the extra 'bench'")
def test_batches_find_what_implicit_finds(run: Run) -> None:
    found = run("serving_batch", "--users", "20", "-k", "5", "--repeats", "1", "--threads", "1")
    assert found["twotower-search", "agreement"] == 1
    assert found["twotower", "seconds"] > 0
    assert found["implicit", "seconds"] > 0


def test_new_users_and_items(run: Run) -> None:
    found = run("serving_new_items", "--franchises", "3")
    assert {model for model, _ in found} == {"v9", "v9+rerank", "popularity", "item-knn"}
    assert all(0 <= value <= 1 for value in found.values())
    assert found["v9", "franchises@10"] >= found["v9", "siblings@10"]


def test_the_start_of_the_service(run: Run) -> None:
    found = run("serving_start", "--repeats", "1", "--history", "3")
    assert found["twotower serve", "ready-seconds"] > 0
    assert found["twotower serve", "ready-memory-mb"] > 50
    assert found["twotower serve", "torch-loaded"] == 0


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_load_with_writes(run: Run) -> None:
    found = run(
        "serving_load", "--seconds", "1", "--history", "3", "--requests", "5",
        "--connections", "2", "--reloads", "1", "--items-per-second", "3", "--processes", "2",
        "--beside", "network",
    )  # fmt: skip
    for part in ("reads-both-stages", "reads-shadow", "reads-interleave"):
        assert found[part, "requests/s"] > 0
        assert found[part, "errors"] == 0
    for end in ("", "-2-processes"):
        for part in (f"reads{end}", f"reads-and-writes{end}"):
            assert found[part, "requests/s"] > 0
            assert found[part, "errors"] == 0
        assert found[f"reads-and-writes{end}", "failed-writes"] == 0
        assert found[f"reads-and-writes{end}", "items"] == 3
        assert found[f"reads-and-writes{end}", "reloads"] == 1
    assert found["reads-2-processes", "memory-mb"] > 1.5 * found["reads", "memory-mb"]
    assert found["reads", "memory-pss-mb"] <= found["reads", "peak-memory-mb"]
