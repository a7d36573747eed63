from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twotower.data import Dataset
from twotower.errors import ArtefactError, InputError
from twotower.experiments.models import item_text, train_variant, trained_model
from twotower.experiments.progress import Silent

pytestmark = pytest.mark.usefixtures("small_models")


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.counts: list[tuple[str, int, list[int]]] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def counting(self, label: str, total: int) -> Any:
        advances: list[int] = []
        self.counts.append((label, total, advances))
        return advances.append


def test_a_model_is_trained_once(blocks: Dataset, small_variants: Any, tmp_path: Path) -> None:
    variant, folder, notes = small_variants["mf"], tmp_path / "models" / "mf", Notes()
    first = trained_model(variant, blocks, folder, name="mf", reporter=notes)
    again = trained_model(variant, blocks, folder, name="mf", reporter=notes)
    assert again.state == first.state
    assert len(notes.texts) == 2
    assert notes.texts[0].startswith("mf seed 0: validation NDCG@10 0.")
    assert notes.texts[1] == "mf seed 0 found trained"
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
        def training(self, label: str, epochs: int) -> Any:
            def progress(state: Any, steps: int, speed: float) -> None:
                if (state.epoch, state.step) == (1, 4):
                    raise KeyboardInterrupt

            return progress

    class Watching(Silent):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def training(self, label: str, epochs: int) -> Any:
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


def test_a_data_set_without_validation_is_refused(blocks: Dataset, small_variants: Any) -> None:
    everything = replace(blocks, split=np.zeros_like(blocks.split))
    with pytest.raises(
        InputError,
        match=r"^data set 'blocks' has no validation part, which early stopping needs; "
        r"prepare it with another split, for example leave-last-two$",
    ):
        train_variant(small_variants["mf"], everything)


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
