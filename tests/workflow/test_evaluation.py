import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import Recorder
from twotower.data import Dataset, Part
from twotower.data.holdouts import hold_out, of_new_items
from twotower.errors import ArtefactError, InputError
from twotower.evaluation.results import Row
from twotower.factors.graph_filter import FilterConfig, GraphFilter
from twotower.workflow.baseline_settings import choose_filter
from twotower.workflow.baselines import BASELINES, fitted_baseline
from twotower.workflow.evaluation import Evaluator, evaluate_models, split_name
from twotower.workflow.models import trained_model
from twotower.workflow.progress import LineReporter

pytestmark = pytest.mark.usefixtures("small_models")


@pytest.fixture(scope="module")
def cold(blocks: Dataset) -> Dataset:
    return hold_out(blocks, users=0.2, items=0.2)


def of(rows: list[Row], model: str, protocol: str, metric: str = "HR@10") -> float:
    (row,) = (r for r in rows if (r.model, r.protocol, r.metric) == (model, protocol, metric))
    return row.value


def test_every_protocol_is_measured_for_models_and_baselines_alike(
    cold: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("mf", "lightgcn", "v5")]
    for folder in folders:
        trained_model(small_variants[folder.name], cold, folder, name=folder.name)
    recorder = Recorder()
    names = ["full", "by-activity", "beyond-accuracy", "cold-start", "cold-start-all", "hold-outs"]
    rows = evaluate_models(
        cold,
        folders,
        baselines=["popularity", "content"],
        protocols=names,
        text_encoder="hashing",
        reporter=recorder,
    )
    left_out = [text for text in recorder.notes if "left out" in text]
    assert len(left_out) == 5  # nobody has 20 items
    assert left_out[0].startswith("history-3 is left out: no user of 'blocks' has 20 items before")
    for model in ("popularity", "content", "mf", "lightgcn", "v5"):
        mine = [row for row in rows if row.model == model]
        assert {row.split for row in mine} == {"leave-last-two+hold-out"}
        assert {"full", "new-users", "known-users", "new-items", "history-3-all"} <= {
            row.protocol for row in mine
        }
        assert 0 < of(rows, model, "beyond-accuracy", "coverage@10") <= 1
    # The blocks never meet, and their titles differ: words find the block of a new item.
    assert of(rows, "content", "new-items") > of(rows, "popularity", "new-items")


def test_what_was_never_trained_scores_alike(
    cold: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    """MF and LightGCN have nothing to say of new items: no luck of the draw ranks one first."""
    queries, _ = cold.held_out(Part.TEST)
    new = np.unique(cold.interactions.items[of_new_items(cold)])
    for name in ("mf", "lightgcn"):
        module = trained_model(small_variants[name], cold, tmp_path / name).module
        np.testing.assert_array_equal(module.scorer().scores(queries)[:, new], 0)


def test_a_model_is_evaluated_with_its_own_hold_out_only(
    blocks: Dataset, cold: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    trained_model(small_variants["mf"], cold, tmp_path / "mf", name="mf")
    for other in (blocks, hold_out(blocks, users=0.2, items=0.2, seed=1)):
        with pytest.raises(ArtefactError, match=r"was trained on data set 'blocks' with another"):
            evaluate_models(other, [tmp_path / "mf"], baselines=(), protocols=["full"])


def test_two_folders_of_one_model_and_seed_are_refused(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    trained_model(small_variants["mf"], blocks, tmp_path / "one", name="mf")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with pytest.raises(
        InputError, match=r"one and .*two both hold 'mf' of seed 0; pass one of them, or train"
    ):
        evaluate_models(blocks, [tmp_path / "one", tmp_path / "two"], protocols=["full"])


def test_seeds_of_one_model_are_one_row(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    folders = [tmp_path / str(seed) for seed in (0, 4)]
    for seed, folder in zip((0, 4), folders, strict=True):
        trained_model(small_variants["mf"], blocks, folder, name="mf", seed=seed)
    rows = evaluate_models(
        blocks, folders, baselines=(), protocols=["full", "beyond-accuracy"], text_encoder="hashing"
    )
    assert {tuple(row.seeds) for row in rows} == {(0, 4)}
    assert {row.protocol for row in rows} == {"full", "beyond-accuracy"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"baselines": ["popular"]}, "^unknown baseline 'popular'; pass one of popularity, item-"),
        ({"baselines": ()}, "^nothing to evaluate; pass a trained model's folder or a baseline"),
        ({"protocols": ["full", "best"]}, "^unknown protocol 'best'; pass one of full"),
        ({"protocols": ["new-users"]}, "^no users of 'blocks' were held out of training; make"),
    ],
)
def test_mistakes_are_found_before_anything_is_scored(
    given: Any, told: str, blocks: Dataset
) -> None:
    recorder = Recorder()
    with pytest.raises(InputError, match=told):
        evaluate_models(blocks, [], **given, reporter=recorder)
    assert all("left out" in text for text in recorder.notes)


def test_what_a_catalogue_lacks_is_noted(blocks: Dataset) -> None:
    bare = replace(blocks, catalogue=blocks.catalogue.with_columns(title=None, category=None))
    recorder = Recorder()
    evaluator = Evaluator(bare, protocols=["beyond-accuracy"], reporter=recorder)
    metrics = {row.metric for row in evaluator.baseline("popularity")}
    assert recorder.notes == [
        "lists are described without title: the catalogue has none",
        "lists are described without category: the catalogue has none",
    ]
    assert "novelty@10" in metrics
    assert not {"title-diversity@10", "category-diversity@10", "miscalibration@10"} & metrics
    with pytest.raises(InputError, match=r"^the catalogue of 'blocks' has no titles; choose anot"):
        evaluator.baseline("content")
    with pytest.raises(InputError, match="has no titles"):  # before popularity is scored
        evaluate_models(bare, [], baselines=["popularity", "content"], reporter=(log := Recorder()))
    assert not log.notes


def test_the_split_says_what_was_held_out(blocks: Dataset, cold: Dataset) -> None:
    assert split_name(blocks) == "leave-last-two"
    assert split_name(cold, Part.VALIDATION) == "leave-last-two+hold-out, validation"


def test_a_ranking_of_a_handful_is_reported() -> None:
    rows = {"user": ["u", "v"] * 6, "item": [f"i{n}" for n in range(12)], "time": range(12)}
    recorder = Recorder()
    dataset = Dataset.from_frames(rows, settings={"k_core": 0})
    evaluate_models(dataset, [], protocols=["full"], reporter=recorder)
    assert any(
        "2 of 2 queries have at most 10 items left to rank" in text for text in recorder.notes
    )
    wide = {"user": ["u", "v"] * 12, "item": [f"i{n}" for n in range(24)], "time": range(24)}
    recorder = Recorder()
    dataset = Dataset.from_frames(wide, settings={"k_core": 0})
    evaluate_models(dataset, [], protocols=["full"], reporter=recorder)
    assert not any("left to rank" in text for text in recorder.notes)


def test_settings_of_a_baseline_are_chosen_on_validation_where_there_is_one(
    blocks: Dataset,
) -> None:
    fitted = BASELINES["graph-filter"](blocks)
    assert isinstance(fitted, GraphFilter)
    assert fitted.config == choose_filter(blocks).config
    without = replace(blocks, split=np.where(blocks.split == Part.TEST, Part.TEST, Part.TRAIN))
    default = BASELINES["graph-filter"](without)
    assert isinstance(default, GraphFilter)
    assert default.config == FilterConfig()


def test_settings_of_a_baseline_are_shown_as_they_are_tried(blocks: Dataset) -> None:
    lines: list[str] = []
    fitted_baseline("graph-filter", blocks, LineReporter(lines.append, every=0))
    assert lines[0].startswith("fit graph-filter: 1, 0 s so far, validation NDCG@10 0.")
    assert len(lines) == choose_filter(blocks).trials
