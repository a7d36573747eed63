"""Which groups of declared columns validation has the towers read."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset
from twotower.data.schema import Side
from twotower.models.sequence import SequenceTower
from twotower.models.sequence_towers import SequenceConfig
from twotower.reporting.choices import columns_in_words
from twotower.training.fit import Trained
from twotower.training.progress import TrainingState
from twotower.workflow.bundling import bundle_contents
from twotower.workflow.models import best_columns, train_variant
from twotower.workflow.refit import refit

ALL: tuple[Side, ...] = ("items", "users", "events")


def chosen(
    metrics: dict[tuple[Side, ...], float],
    groups: tuple[Side, ...] = ALL,
    *,
    apart: bool = True,
) -> Any:
    """What is read, and what was trained, where each choice has a known metric."""
    trained = []

    def fitted(read: tuple[Side, ...]) -> Trained:
        trained.append(read)
        record = {"columns": {"read": list(read)}}
        return Trained(
            None,
            0,
            None,
            TrainingState(""),
            metrics[read],
            record,  # type: ignore[arg-type]
        )

    best = best_columns(groups, fitted, apart=apart)
    assert best.metric == max(metrics[read] for read in trained)
    return best.chosen["columns"]["read"], trained


HARMFUL_ITEMS: dict[tuple[Side, ...], float] = {
    (): 0.1,
    ALL: 0.08,
    ("items",): 0.05,
    ("users",): 0.1,
    ("events",): 0.2,
}


def test_where_all_columns_help_all_are_read() -> None:
    assert chosen({(): 0.1, ALL: 0.2}) == (list(ALL), [(), ALL])


def test_a_group_that_helps_is_read_beside_one_that_does_harm() -> None:
    read, trained = chosen(HARMFUL_ITEMS)
    assert read == ["events"]
    assert trained == [(), ALL, ("items",), ("users",), ("events",)]
    assert chosen(HARMFUL_ITEMS, apart=False) == ([], [(), ALL])


def test_groups_that_help_are_read_together_where_that_is_best() -> None:
    alone = {**HARMFUL_ITEMS, ("users",): 0.12}
    assert chosen({**alone, ("users", "events"): 0.25})[0] == ["users", "events"]
    assert chosen({**alone, ("users", "events"): 0.15})[0] == ["events"]


def test_where_nothing_helps_nothing_is_read() -> None:
    assert chosen({(): 0.1, ("items",): 0.1}, ("items",)) == ([], [(), ("items",)])


def test_what_was_chosen_is_said_of_older_models_too() -> None:
    older = {"read": "none", "with": 0.1, "without": 0.2}
    assert columns_in_words(older) == ("none read", "none 0.2000, all 0.1000")
    assert columns_in_words({"read": ["items"]}) is None
    assert columns_in_words({}) is None


def test_the_model_its_refit_and_its_bundle_read_what_was_chosen(
    context_log: pl.DataFrame,
    context_variant: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    items = context_log["item"].unique(maintain_order=True)
    noise = [f"n{value}" for value in rng.integers(8, size=len(items))]
    dataset = Dataset.from_frames(
        context_log,
        pl.DataFrame({"item": items, "noise": noise}),
        schema={"items": {"noise": "category"}, "events": {"device": "category"}},
        settings={"k_core": 0},
    )
    variant = context_variant.vary(
        model=context_variant.model.vary(columns="chosen"),
        training=context_variant.training.vary(epochs=30),
    )
    assert variant.model.column_groups(dataset) == ("items", "events")
    trained = train_variant(variant, dataset)
    record = trained.chosen["columns"]
    assert {"none", "items + events"} <= set(record["tried"])
    assert "events" in record["read"], record
    # As it would be where the columns of the items do harm.
    alone = Trained(
        variant, 0, trained.module, trained.state, trained.metric,
        {**trained.chosen, "columns": {**record, "read": ["events"]}},
    )  # fmt: skip
    again = refit("v10", alone, dataset)
    assert isinstance(again.module, SequenceTower)
    assert again.module.item_tower.columns is None
    assert again.module.user_tower.context is not None
    declared = bundle_contents("v10", again, dataset.with_all_in_train()).declared
    assert declared is not None
    assert not declared.item_encoders
    assert list(declared.context_encoders.encoders) == ["device"]


def test_settings_may_name_the_groups() -> None:
    config = SequenceConfig(columns=("events",))
    assert [config.reads(side) for side in ALL] == [False, False, True]
    assert SequenceConfig.model_validate_json(config.model_dump_json()) == config
    assert [SequenceConfig(columns="all").reads(side) for side in ALL] == [True] * 3
    assert not any(SequenceConfig(columns="none").reads(side) for side in ALL)
