"""A small bundle with a catalogue full of surprises, as ``twotower run`` leaves it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.data import Dataset, columns
from twotower.demo.loaded_bundle import LoadedBundle

HTML = "<b>Bold</b><script>window.broken = true</script> & Sons"
TITLES = {4: HTML, 6: "🐉 Dragon Émoji", 8: None, 10: "Pokémon " + "x" * 300,
          12: "Iron Quest", 14: "Lantern Road"}  # fmt: skip


@pytest.fixture(scope="session")
def run_folder(
    blocks: Dataset, small_variants: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What ``twotower run`` writes: bundle, dataset and results, all small."""
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.results import Row, write_results
    from twotower.workflow.bundling import bundle_contents, write_bundle
    from twotower.workflow.models import train_variant
    from twotower.workflow.progress import Silent
    from twotower.workflow.reranking import fitted_blend

    folder = tmp_path_factory.mktemp("demo")
    titles = [
        TITLES.get(row, title)
        for row, title in enumerate(blocks.catalogue[columns.TITLE].to_list())
    ]
    catalogue = blocks.catalogue.with_columns(pl.Series(columns.TITLE, titles, dtype=pl.String))
    dataset = replace(blocks, catalogue=catalogue)
    trained = train_variant(small_variants["v9"], dataset)
    others = {
        name: train_variant(small_variants[name], dataset).module.scorer()
        for name in ("mf", "lightgcn")
    }
    blend = fitted_blend(trained, dataset, Silent())
    contents = bundle_contents("v9", trained, dataset, reranker=blend)
    write_bundle(folder / "bundle", contents, trained, others)
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
def loaded(bundle_folder: Path) -> LoadedBundle:
    return LoadedBundle.of(bundle_folder)


@pytest.fixture(scope="session")
def study_file(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``twotower ablate`` writes: all protocols, gates, epochs and differences, made up."""
    from twotower.evaluation.provenance import collect_meta
    from twotower.evaluation.results import Absent, Difference, Row, write_results

    models = [f"v{number}" for number in range(1, 9)]
    like = Row(dataset="blocks", split="leave-last-two", model="v1", protocol="full",
               metric="NDCG@10", value=0.1, low=0.05, high=0.2, users=60)  # fmt: skip

    def row(number: int, protocol: str, metric: str) -> Row:
        return like.model_copy(
            update={"model": models[number], "protocol": protocol, "metric": metric,
                    "value": 0.1 + number / 100}
        )  # fmt: skip

    steps = ("history-3", "history-full", "activity-0-4", "activity-5-7", "new-users-0-4",
             "new-users-5-7")  # fmt: skip
    wanted = [
        *((name, "NDCG@10") for name in ("full", "sampled-100", *steps)),
        *((name, "NDCG@10") for name in ("new-users", "known-users", "new-items")),
        ("full", "seed-sd-NDCG@10"),
        ("timing", "training-seconds"),
        *((f"epoch-{number}", "validation-NDCG@10") for number in (1, 2)),
    ]
    rows = [row(number, *name) for number in range(len(models)) for name in wanted]
    rows += [row(7, "gates", name) for name in ("user-id", "user-history", "item-id")]
    difference = Difference(
        dataset="blocks", split="leave-last-two", model="v2", parent="v1", protocol="full",
        metric="NDCG@10", value=0.01, low=0.005, high=0.02, p=0.001, p_corrected=0.002,
        verdict="helps", seeds=[0], parent_seeds=[0], users=60,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("study") / "ablation.json"
    absent = Absent(dataset="blocks", model="v9", reason="no images in this data set")
    write_results(
        path, collect_meta(datetime.now(UTC)), rows, differences=[difference], absent=[absent]
    )
    return path
