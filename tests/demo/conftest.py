"""A small bundle with a catalogue full of surprises, as ``twotower run`` leaves it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data import Dataset, columns
from twotower.demo.opened import Opened

HTML = "<b>Bold</b><script>window.broken = true</script> & Sons"
TITLES = {4: HTML, 6: "🐉 Dragon Émoji", 8: None, 10: "Pokémon " + "x" * 300}


@pytest.fixture(scope="session")
def run_folder(
    blocks: Dataset, small_variants: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What ``twotower run`` writes: bundle, dataset and results, all small."""
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.results import Row, write_results
    from twotower.experiments.bundling import bundle_contents, write_bundle
    from twotower.experiments.models import train_variant
    from twotower.experiments.progress import Silent
    from twotower.experiments.reranking import fitted_blend

    folder = tmp_path_factory.mktemp("demo")
    titles = [
        TITLES.get(row, title)
        for row, title in enumerate(blocks.catalogue[columns.TITLE].to_list())
    ]
    catalogue = blocks.catalogue.with_columns(pl.Series(columns.TITLE, titles, dtype=pl.String))
    dataset = replace(blocks, catalogue=catalogue)
    trained = train_variant(small_variants["v9"], dataset)
    peers = {name: train_variant(small_variants[name], dataset) for name in ("mf", "lightgcn")}
    blend = fitted_blend(trained, dataset, Silent())
    contents = bundle_contents("v9", trained, dataset, reranker=blend)
    write_bundle(folder / "bundle", contents, trained, peers)
    (folder / "dataset").mkdir()
    summary = {
        "read": 800, "rejected": {"a rating that is no number": 3}, "repeats": 2,
        "k_core": {"k": 5, "users_removed": 1}, "parts": {"train": 600},
    }  # fmt: skip
    manifest = {"fingerprint": contents.info.dataset_fingerprint, "summary": summary}
    (folder / "dataset" / "manifest.json").write_text(json.dumps(manifest))
    rows = [
        Row(dataset="blocks", split="leave-last-two", model=model, protocol=protocol,
            metric=metric, value=value, low=value - 0.01, high=value + 0.01, users=60)
        for model, value in (("popularity", 0.0321), ("v9", 0.1234))
        for protocol in ("full", "sampled-100")
        for metric in ("HR@10", "NDCG@10")
    ]  # fmt: skip
    write_results(folder / "results.json", collect_meta(datetime.now(UTC)), rows)
    return folder


@pytest.fixture(scope="session")
def bundle_folder(run_folder: Path) -> Path:
    return run_folder / "bundle"


@pytest.fixture(scope="session")
def opened(bundle_folder: Path) -> Opened:
    return Opened.of(bundle_folder)
