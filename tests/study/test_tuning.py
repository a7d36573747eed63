import importlib.util
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from twotower.data import Dataset, Part
from twotower.errors import InputError
from twotower.study import tuning
from twotower.study.search_space import Categorical, Range
from twotower.study.tuning import Tuned, tune
from twotower.training.variant import Variant
from twotower.workflow import selection
from twotower.workflow.models import train_variant
from twotower.workflow.selection import choose_for

HISTORY = "model.history.hidden_dim"
SPACE = (
    Range(path="training.learning_rate", low=1e-4, high=1e-1, log=True),
    Categorical(path="negatives.count", values=(1, 4)),
)


def timid(variant: Variant) -> Variant:
    """With a step size that leaves something to find."""
    return variant.vary(training=variant.training.vary(learning_rate=1e-3))


@pytest.fixture
def mf(small_variants: dict[str, Any]) -> Variant:
    return timid(small_variants["mf"])


@pytest.fixture(scope="module")
def searched(
    blocks: Dataset, small_variants: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tuned, Path]:
    out = tmp_path_factory.mktemp("tuned")
    return tune(timid(small_variants["mf"]), SPACE, blocks, out, name="mf", trials=8), out


def test_the_best_is_no_worse_than_the_variant_itself(
    searched: tuple[Tuned, Path], blocks: Dataset, mf: Variant
) -> None:
    tuned, _ = searched
    assert len(tuned.trials) == 8
    first = tuned.trials[0]
    assert first.settings == {
        "training.learning_rate": mf.training.learning_rate,
        "negatives.count": 4,
    }
    assert first.value == train_variant(mf, blocks).state.best_metric
    assert tuned.value == max(t.value or 0 for t in tuned.trials if t.state == "complete")
    assert tuned.value > (first.value or 0)  # eight trials find a better step size


def test_the_best_settings_are_a_variant_that_can_be_trained(
    searched: tuple[Tuned, Path], blocks: Dataset
) -> None:
    tuned, out = searched
    best = Variant.model_validate_json((out / "best.json").read_text())
    assert best == tuned.best
    assert train_variant(best, blocks).state.best_metric == pytest.approx(tuned.value)


def test_a_search_resumes_and_repeats_nothing(
    searched: tuple[Tuned, Path], blocks: Dataset, mf: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned, out = searched
    trained: list[str] = []

    def counted(*args: Any, **given: Any) -> Any:
        trained.append(given["name"])
        return train_variant(*args, **given)

    monkeypatch.setattr(tuning, "train_variant", counted)
    again = tune(mf, SPACE, blocks, out, name="mf", trials=8)
    assert (trained, again.trials, again.best) == ([], tuned.trials, tuned.best)
    more = tune(mf, SPACE, blocks, out, name="mf", trials=9)
    assert trained == ["mf trial 8"]
    assert list(more.trials[:8]) == list(tuned.trials)


def test_an_interrupted_trial_is_run_again(
    blocks: Dataset, mf: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: Any, **given: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train_variant", cut_off)
        with pytest.raises(KeyboardInterrupt):
            tune(mf, SPACE, blocks, tmp_path, trials=1)
    tuned = tune(mf, SPACE, blocks, tmp_path, trials=1)
    assert [(trial.number, trial.state) for trial in tuned.trials] == [(1, "complete")]
    assert tuned.trials[0].settings["training.learning_rate"] == mf.training.learning_rate
    assert tune(mf, SPACE, blocks, tmp_path, trials=1).trials == tuned.trials


def test_a_trial_of_a_killed_process_is_queued_again(
    blocks: Dataset, mf: Variant, tmp_path: Path
) -> None:
    """Its last heartbeat is older than the grace period, and its settings are tried again."""
    tune(mf, SPACE, blocks, tmp_path, trials=1)
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    (name,) = optuna.study.get_all_study_names(url)
    study = optuna.load_study(study_name=name, storage=url)
    killed = study.ask()
    killed.suggest_float("training.learning_rate", 1e-4, 1e-1, log=True)
    killed.suggest_categorical("negatives.count", [1, 4])
    with sqlite3.connect(tmp_path / "trials.db") as store:
        store.execute(
            "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, '2020-01-01 00:00:00')",
            (killed._trial_id,),
        )
    store.close()
    tuned = tune(mf, SPACE, blocks, tmp_path, trials=2)
    assert [(trial.number, trial.state) for trial in tuned.trials] == [
        (0, "complete"),
        (2, "complete"),
    ]
    assert tuned.trials[1].settings == killed.params


def test_hopeless_trials_are_pruned(blocks: Dataset, mf: Variant, tmp_path: Path) -> None:
    longer = mf.vary(training=mf.training.vary(epochs=4, patience=4))
    useless = (Categorical(path="training.learning_rate", values=(1e-2, 1e-12)),)
    tuned = tune(longer, useless, blocks, tmp_path, trials=10)
    states = {(trial.settings["training.learning_rate"], trial.state) for trial in tuned.trials}
    assert (1e-12, "pruned") in states
    assert tuned.best.training.learning_rate == 1e-2


def test_the_test_part_is_never_read(blocks: Dataset, mf: Variant, tmp_path: Path) -> None:
    kept = blocks.split != Part.TEST
    without = replace(blocks, interactions=blocks.interactions.keep(kept), split=blocks.split[kept])
    whole = tune(mf, SPACE, blocks, tmp_path / "a", trials=2)
    assert [t.value for t in tune(mf, SPACE, without, tmp_path / "b", trials=2).trials] == [
        t.value for t in whole.trials
    ]


def test_a_trial_that_diverges_costs_only_itself(
    blocks: Dataset, mf: Variant, tmp_path: Path
) -> None:
    space = (Categorical(path="training.learning_rate", values=(1e-2, 1e30)),)
    tuned = tune(mf, space, blocks, tmp_path, trials=8)
    assert {t.state for t in tuned.trials if t.settings["training.learning_rate"] == 1e30} == {
        "failed"
    }
    with pytest.raises(InputError, match=r"^no trial succeeded; look at the failures above"):
        tune(mf, (space[0].vary(values=(1e30,)),), blocks, tmp_path / "x", trials=1)


def test_mistakes_are_refused(
    blocks: Dataset, mf: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"^the search space is empty; name at least one"):
        tune(mf, (), blocks, tmp_path)
    with pytest.raises(InputError, match=r"^trials must be at least 1, got 0"):
        tune(mf, SPACE, blocks, tmp_path, trials=0)
    with pytest.raises(InputError, match=r"^minutes must be above 0, got 0"):
        tune(mf, SPACE, blocks, tmp_path, minutes=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"optuna, which is not installed; run pip install"):
        tune(mf, SPACE, blocks, tmp_path)


def test_no_trial_begins_after_its_minutes(blocks: Dataset, mf: Variant, tmp_path: Path) -> None:
    assert len(tune(mf, SPACE, blocks, tmp_path, trials=5, minutes=1e-6).trials) == 1
    assert len(tune(mf, SPACE, blocks, tmp_path, trials=5, minutes=1e-6).trials) == 2


def test_a_model_of_two_parts_is_judged_whole_and_searches_least_squares_once(
    blocks: Dataset, small_variants: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v9 = small_variants["v9"]
    variant = v9.vary(
        model=v9.model.vary(choose_factors=True), training=v9.training.vary(towers_alone=True)
    )
    space = (Categorical(path="loss.temperature", values=(0.05, 0.5)),)
    searched: list[Any] = []
    monkeypatch.setattr(
        selection,
        "choose_for",
        lambda *given: searched.append(given) or choose_for(*given),  # type: ignore[func-returns-value]
    )
    tuned = tune(variant, space, blocks, tmp_path, trials=3)
    assert len(searched) == 1
    trained = train_variant(variant, blocks)
    assert tuned.trials[0].value == trained.metric
    assert trained.metric != trained.state.best_metric  # that of the towers alone


def test_settings_that_go_together_change_together(
    blocks: Dataset, small_variants: Any, tmp_path: Path
) -> None:
    width = Categorical(path="model.embedding_dim", values=(8, 16), also=(HISTORY,))
    tuned = tune(small_variants["v9"], (width,), blocks, tmp_path, trials=3)
    assert tuned.best.model.embedding_dim == tuned.best.model.history.hidden_dim
