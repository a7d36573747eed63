from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support import Recorder
from twotower import Recommender
from twotower.data import Dataset, Part
from twotower.errors import ArtefactError, InputError
from twotower.reporting.product_names import product_name
from twotower.training.distillation import Listwise
from twotower.training.fit import UNVALIDATED_EPOCHS
from twotower.workflow.models import (
    item_text,
    named_variant,
    train_variant,
    trained_model,
    two_part_warnings,
)
from twotower.workflow.progress import Silent

pytestmark = pytest.mark.usefixtures("small_models")


class Notes(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[str, int, list[int]]] = []

    def counting(self, label: str, total: int) -> Any:
        advances: list[int] = []
        self.counts.append((label, total, advances))
        return advances.append


def test_a_model_is_trained_once(blocks: Dataset, small_variants: Any, tmp_path: Path) -> None:
    variant, folder, notes = small_variants["mf"], tmp_path / "models" / "mf", Notes()
    first = trained_model(variant, blocks, folder, name="mf", reporter=notes)
    again = trained_model(variant, blocks, folder, name="mf", reporter=notes)
    assert again.state == first.state
    assert len(notes.notes) == 3
    assert notes.notes[0].startswith("mf seed 0: training ends when validation stops gaining")
    assert notes.notes[1].startswith("mf seed 0: validation NDCG@10 0.")
    assert notes.notes[2] == "mf seed 0 found trained"
    assert [path.name for path in folder.parent.iterdir()] == ["mf"]  # no checkpoint stays


def test_a_folder_with_another_model_is_refused(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "mf"
    trained_model(small_variants["mf"], blocks, folder, name="mf")
    with pytest.raises(
        ArtefactError,
        match=r"mf holds a model with other settings than 'v5' has now; delete it, or",
    ):
        trained_model(small_variants["v5"], blocks, folder, name="v5")
    with pytest.raises(
        ArtefactError, match=r"mf holds a model of seed 0, wanted seed 3; delete it, or choose"
    ):
        trained_model(small_variants["mf"], blocks, folder, name="mf", seed=3)


def test_an_interrupted_training_goes_on(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    class Interrupting(Silent):
        def training(self, label: str) -> Any:
            def progress(state: Any, steps: int, speed: float) -> None:
                if (state.epoch, state.step) == (1, 4):
                    raise KeyboardInterrupt

            return progress

    class Watching(Silent):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def training(self, label: str) -> Any:
            return lambda state, *_: self.seen.append((state.epoch, state.step))

    variant, folder = small_variants["mf"], tmp_path / "mf"
    with pytest.raises(KeyboardInterrupt):
        trained_model(variant, blocks, folder, reporter=Interrupting())
    assert not folder.exists()
    watching = Watching()
    trained = trained_model(variant, blocks, folder, reporter=watching)
    assert watching.seen[0] == (1, 1)  # from the end of the first epoch
    whole = train_variant(variant, blocks).module.state_dict()
    for name, value in trained.module.state_dict().items():
        assert value.equal(whole[name])


@pytest.mark.parametrize("name", ["mf", "lightgcn", "v5", "v9", "v10"])
def test_without_validation_a_fixed_number_of_epochs_is_trained_and_said(
    name: str, blocks: Dataset, small_variants: Any
) -> None:
    everything = replace(blocks, split=np.zeros_like(blocks.split))
    small = small_variants[name]
    variant = small.vary(training=small.training.vary(epochs=UNVALIDATED_EPOCHS + 3))
    said = Recorder()
    trained = train_variant(variant, everything, name=name, reporter=said)
    assert len(trained.state.epochs) == UNVALIDATED_EPOCHS
    assert trained.metric is None
    assert not {"least_squares", "factor_weight"} & trained.chosen.keys()
    assert said.failures[0] == (
        f"{product_name(name)} seed 0: no validation part (leave-last-two leaves validation or "
        f"test empty), so that nothing is chosen and training takes {UNVALIDATED_EPOCHS} epochs; "
        "to choose, prepare again: choose the split 'global-time' or 'random'"
    )
    queries, _ = blocks.held_out(Part.TEST)
    assert np.isfinite(trained.module.scorer().scores(queries)).all()


def test_without_validation_the_way_to_a_bundle_is_open(
    blocks: Dataset, small_variants: Any
) -> None:
    everything = replace(blocks, split=np.zeros_like(blocks.split))
    recommender = Recommender.fit(everything, small_variants["v9"])
    assert len(recommender.recommend(blocks.users.ids[0], k=3)) == 3


def test_a_split_that_works_is_offered_where_nobody_has_three(
    blocks: Dataset, small_variants: Any
) -> None:
    log = blocks.interactions.last(2)
    short = replace(blocks, interactions=log, split=np.zeros(len(log.items), np.uint8))
    said = Recorder()
    train_variant(small_variants["mf"], short, reporter=said)
    assert "(no user has three interactions, so leave-last-two holds none out)" in said.failures[0]
    assert "choose the split 'global-time' or 'random'" in said.failures[0]


def test_titles_are_encoded_where_the_model_reads_them(
    blocks: Dataset, block_text: Any, small_variants: Any
) -> None:
    notes = Notes()
    for name in ("mf", "lightgcn", "v1"):
        assert item_text(small_variants[name], blocks, notes) is None
    for _ in range(2):  # the second time from the cache
        found = item_text(small_variants["v5"], blocks, notes)
        np.testing.assert_array_equal(found, block_text)
    assert [(label, total) for label, total, _ in notes.counts] == [
        ("encode titles with hashing-1", 40)
    ] * 2
    assert [sum(advances) for *_, advances in notes.counts] == [40, 40]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))


def test_a_teacher_is_trained_once_and_kept_where_the_run_has_its_models(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    notes = Notes()

    def trained(name: str, seed: int) -> Any:
        folder = tmp_path / name / f"seed-{seed}"
        return trained_model(
            small_variants[name], blocks, folder, name=name, seed=seed, models=tmp_path,
            reporter=notes,
        )  # fmt: skip

    trained("v2", 1)
    assert files(tmp_path) == ["lightgcn/seed-1", "v2/seed-1"]
    trained("v3", 1)
    trained("lightgcn", 1)
    told = [text.split(":")[0] for text in notes.notes if "training ends when" not in text]
    found = "lightgcn seed 1 found trained"
    assert told == ["lightgcn seed 1", "v2 seed 1", found, "v3 seed 1", found]


def test_without_a_place_for_them_teachers_are_not_kept(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    kept = trained_model(small_variants["v3"], blocks, tmp_path / "a" / "v3", name="v3")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["v3"]
    in_memory = train_variant(small_variants["v3"], blocks)
    for name, value in kept.module.state_dict().items():
        assert value.equal(in_memory.module.state_dict()[name])


def test_a_baseline_teaches_by_its_name(blocks: Dataset, small_variants: Any) -> None:
    terms = tuple(Listwise(teacher=name, weight=1.0) for name in ("item-knn", "ease", "mf"))
    variant = small_variants["v1"].vary(distillation=terms)
    assert variant.teachers == ("item-knn", "ease", "mf")
    plain, taught = (
        train_variant(one, blocks).state.epochs[0].loss for one in (small_variants["v1"], variant)
    )
    assert taught > plain
    unknown = small_variants["v1"].vary(distillation=(Listwise(teacher="bert", weight=1.0),))
    with pytest.raises(
        InputError, match=r"^unknown model 'bert'; pass one of two-tower, mf, lightgcn, "
    ):
        train_variant(unknown, blocks)


def test_the_products_model_has_a_name_outside_the_study() -> None:
    assert named_variant("two-tower", "hashing") == named_variant("v10", "hashing")


@pytest.mark.parametrize(
    ("weight", "towers", "metric", "expected"),
    [
        (1.0, 0.3, 0.4, []),
        (64.0, 0.1, 0.4, ["the towers add nothing to least squares"]),
        (1 / 64, 0.3, 0.4, []),  # nothing is wrong where the towers do all the work
        (2.0, 0.1, 0.4, ["least squares carries the towers on this data set: alone they have"]),
        (64.0, 0.1, 0.15, ["validation NDCG@10 0.1500 is below popularity", "the towers add no"]),
    ],
)
def test_one_part_that_does_all_the_work_is_reported_once(
    weight: float, towers: float, metric: float, expected: list[str]
) -> None:
    chosen = {"factor_weight": weight, "towers_alone": towers}
    trained: Any = SimpleNamespace(chosen=chosen, metric=metric)
    found = list(two_part_warnings(trained, popularity=0.2))
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))
