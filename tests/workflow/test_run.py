import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.bundle import load_bundle
from twotower.bundle.blend import Blend
from twotower.data import Dataset, Part
from twotower.data.settings import PrepareSettings
from twotower.errors import ArtefactError, InputError
from twotower.evaluation.protocols import METRICS, PROTOCOLS, SAMPLED
from twotower.evaluation.results import Row
from twotower.index import ExactConfig
from twotower.inference import Pipeline
from twotower.workflow.evaluation import Evaluator
from twotower.workflow.run import DEFAULT_MODELS, RunResult, run
from twotower.workflow.variants import VARIANTS

SETTINGS = PrepareSettings(k_core=0)

pytestmark = pytest.mark.usefixtures("small_models")


def whole_job(shop: Path, out: Path, **given: Any) -> RunResult:
    return run(shop, out, text_encoder="hashing", **{"settings": SETTINGS, **given})


def stamps(out: Path) -> dict[str, int]:
    files = [*out.glob("models/*/*/*"), *out.glob("dataset/*")]
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in files}


def test_the_whole_job_and_once_more(shop: Path, tmp_path: Path) -> None:
    out, written = tmp_path / "out", []
    models = ("popularity", "als", "mf", "lightgcn", "v10")
    result = whole_job(shop, out, models=models, on_rows=lambda rows: written.append(len(rows)))

    assert result.dataset.name == "shop"
    assert [int((result.dataset.split == part).sum()) for part in Part] == [600, 60, 60]
    trained = models[2:]
    measured = [row for row in result.rows if row.protocol != "timing"]
    timed = [row for row in result.rows if row.protocol == "timing"]
    assert sorted((row.model, row.protocol, row.metric) for row in measured) == sorted(
        (model, protocol, metric)
        for model in (*models, "v10+rerank")
        for protocol in PROTOCOLS
        for metric in METRICS
    )
    assert [(row.model, row.metric) for row in timed] == [
        (model, metric) for model in trained for metric in ("training-seconds", "best-epoch")
    ]
    assert written == [21, 42, 65, 88, 132]  # all rows so far, after each of the five models
    for row in result.rows:
        assert (row.dataset, row.split, row.users) == ("shop", "leave-last-two", 60)
        assert row.seeds == ([0] if row.model.removesuffix("+rerank") in trained else [])
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high
    assert all(0 <= row.value <= 1 for row in measured)

    assert sorted(path.name for path in (out / "models").iterdir()) == ["lightgcn", "mf", "v10"]
    assert result.bundle == out / "bundle"
    assert list(load_bundle(out / "bundle").comparison_models()) == ["als", "lightgcn", "mf"]
    pipeline = Pipeline.load(out / "bundle")
    assert len(pipeline.recommend(result.example_user, k=5, rerank=True)) == 5
    assert len(result.example_history) == 3
    assert len(pipeline.recommend(history=result.example_history, k=5)) == 5
    (ndcg,) = (
        row
        for row in result.rows
        if (row.model, row.protocol, row.metric) == ("v10", "full", "NDCG@10")
    )
    assert pipeline.contents.info.metrics["NDCG@10"] == ndcg.value

    before = stamps(out)
    again = whole_job(shop, out, models=models)
    assert stamps(out) == before  # nothing prepared or trained again
    assert again.rows == result.rows


def test_the_default_is_the_model_and_what_it_has_to_beat() -> None:
    assert DEFAULT_MODELS == ("popularity", "item-knn", "als", "v10")


def test_several_seeds_are_one_row(shop: Path, tmp_path: Path) -> None:
    result = whole_job(shop, tmp_path, models=["mf"], seeds=[3, 5])
    assert result.bundle is None
    assert {tuple(row.seeds) for row in result.rows} == {(3, 5)}
    assert sorted(path.name for path in (tmp_path / "models" / "mf").iterdir()) == [
        "seed-3",
        "seed-5",
    ]

    def value(rows: list[Row]) -> float:
        (row,) = (r for r in rows if (r.protocol, r.metric) == ("full", "NDCG@10"))
        return row.value

    singles = [value(whole_job(shop, tmp_path, models=["mf"], seeds=[s]).rows) for s in (3, 5)]
    assert value(result.rows) == pytest.approx(np.mean(singles), rel=1e-4)


def test_the_last_two_tower_is_bundled(shop: Path, tmp_path: Path) -> None:
    result = whole_job(shop, tmp_path, models=["v4", "v1", "mf"], index=ExactConfig())
    assert result.bundle is not None
    contents = Pipeline.load(result.bundle).contents
    assert contents.info.model == "v1"
    assert contents.info.text_encoder is None
    assert isinstance(contents.reranker, Blend)
    assert contents.index.is_exact


def test_the_epochs_that_are_asked_for_are_the_most(shop: Path, tmp_path: Path) -> None:
    whole_job(shop, tmp_path, models=["mf"], epochs=1)
    description = json.loads((tmp_path / "models" / "mf" / "seed-0" / "model.json").read_text())
    assert len(description["training"]["epochs"]) == 1


def test_a_data_set_prepared_otherwise_is_refused(shop: Path, tmp_path: Path) -> None:
    whole_job(shop, tmp_path, models=["popularity"])
    with pytest.raises(
        InputError,
        match=r"dataset was prepared with other settings than wanted now; "
        r"delete it, or choose another output folder$",
    ):
        whole_job(shop, tmp_path, models=["popularity"], settings=PrepareSettings(k_core=2))
    assert whole_job(shop, tmp_path, models=["popularity"], settings=None).rows


def test_files_that_have_changed_are_refused(shop: Path, tmp_path: Path) -> None:
    """What was prepared would be trained on, and the new rows not be noticed."""
    source, out = tmp_path / "shop", tmp_path / "out"
    shutil.copytree(shop, source)
    whole_job(source, out, models=["popularity"])
    log = source / "interactions.csv"
    text = log.read_text()
    log.write_text(text)
    assert whole_job(source, out, models=["popularity"]).rows  # another time, the same content
    log.write_text(text + text.splitlines()[-1] + "\n")
    (source / "dataset.toml").write_text("")
    with pytest.raises(
        InputError,
        match=r"dataset was prepared before interactions\.csv changed or went and "
        r"dataset\.toml came; delete it, or choose another output folder$",
    ):
        whole_job(source, out, models=["popularity"])
    shutil.rmtree(source)
    assert whole_job(source, out, models=["popularity"]).rows  # what was prepared is enough


def test_an_archive_is_unpacked_and_hashed_once(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(module: str, name: str) -> None:
        original = getattr(import_module(module), name)
        call = lambda *given: calls.append(name) or original(*given)  # noqa: E731
        monkeypatch.setattr(f"{module}.{name}", call)

    counted("twotower.data.locate", "unpacked")
    counted("twotower.workflow.run", "file_sha256")
    archive = Path(shutil.make_archive(str(tmp_path / "shop"), "zip", shop))
    files = len(list(shop.iterdir()))
    for _ in range(2):  # prepared, then found prepared
        assert whole_job(archive, tmp_path / "out", models=["popularity"]).rows
        assert sorted(calls) == ["file_sha256"] * files + ["unpacked"]
        calls.clear()


def test_a_model_of_other_settings_is_refused(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_job(shop, tmp_path, models=["mf"])
    mf = VARIANTS["mf"]
    changed = mf.vary(training=mf.training.vary(learning_rate=0.5))
    monkeypatch.setitem(VARIANTS, "mf", changed)
    with pytest.raises(
        ArtefactError, match=r"seed-0 holds a model with other settings than 'mf' has now; delete"
    ):
        whole_job(shop, tmp_path, models=["mf"])


def test_a_small_catalogue_is_evaluated_without_sampled_negatives(
    blocks: Dataset, tmp_path: Path
) -> None:
    log = blocks.interactions
    users, items = np.array(blocks.users.ids)[log.rows], np.array(blocks.items.ids)[log.items]
    table = pl.DataFrame({"user": users, "item": items, "time": log.timestamps})
    table.write_csv(tmp_path / "log.csv")
    result = whole_job(tmp_path / "log.csv", tmp_path / "out", models=["popularity"])
    assert {row.protocol for row in result.rows} == {"full", "full-unmasked"}
    with pytest.raises(InputError, match=r"^100 negatives cannot be drawn for query 0: 28 of 40"):
        Evaluator(result.dataset, protocols=[SAMPLED])


def test_mistakes_are_found_before_anything_is_made(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"^unknown model 'v99'; pass one of "):
        whole_job(shop, out, models=["popularity", "v99"])
    with pytest.raises(InputError, match=r"^seeds must not be empty; pass at least one"):
        whole_job(shop, out, seeds=[])
    assert not out.exists()
