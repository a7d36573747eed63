"""Whose declared columns validation has the towers read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from twotower.data import Dataset, Part
from twotower.data.schema import Side
from twotower.models.build import build_model
from twotower.models.column_vectors import HIDDEN
from twotower.models.sequence import SequenceTower
from twotower.models.sequence_towers import SequenceConfig
from twotower.reporting.choices import columns_in_words
from twotower.training.storage import save_trained
from twotower.training.variant import Variant
from twotower.workflow.bundling import bundle_contents
from twotower.workflow.models import saved_model, train_variant
from twotower.workflow.progress import Silent
from twotower.workflow.refit import refit

ALL: tuple[Side, ...] = ("items", "users", "events")


HARMFUL_ITEMS: dict[tuple[Side, ...], float] = {(): 0.1, ("users",): 0.1, ("events",): 0.2}


@pytest.fixture(scope="module")
def dataset(context_log: pl.DataFrame) -> Dataset:
    """Items with a column of noise, users with another, and a device, which decides."""
    rng = np.random.default_rng(0)
    items = context_log["item"].unique(maintain_order=True)
    users = context_log["user"].unique(maintain_order=True)
    return Dataset.from_frames(
        context_log,
        pl.DataFrame({"item": items, "noise": rng.integers(8, size=len(items)).astype(str)}),
        users=pl.DataFrame({"user": users, "group": rng.integers(4, size=len(users)).astype(str)}),
        schema={
            "items": {"noise": "category"},
            "users": {"group": "category"},
            "events": {"device": "category"},
        },
        settings={"k_core": 0},
    )


@pytest.fixture(scope="module")
def variant(context_variant: Any) -> Variant:
    """A small v10 whose columns are chosen."""
    found: Variant = context_variant.vary(
        model=context_variant.model.vary(columns="chosen"),
        training=context_variant.training.vary(epochs=30),
    )
    return found


@pytest.fixture
def module(dataset: Dataset, variant: Variant) -> SequenceTower:
    """An untrained one, which reads all columns."""
    built = build_model(variant.model, dataset, np.zeros((len(dataset.items), 8), np.float32), None)
    assert isinstance(built, SequenceTower)
    return built


def chosen(module: SequenceTower, metrics: dict[tuple[Side, ...], float]) -> Any:
    """What is read where some choices have a known metric, and the others one of 0.05."""
    record = module.choose_columns(lambda _: metrics.get(module.column_sides, 0.05))["columns"]
    assert module.column_sides == tuple(record["read"])
    assert len(record["tried"]) == 8
    assert record["tried"]["none"] == metrics[()]
    return record["read"]


def test_where_all_columns_help_all_are_read(module: SequenceTower) -> None:
    assert chosen(module, {(): 0.1, ALL: 0.2}) == list(ALL)


def test_a_side_that_helps_is_read_beside_one_that_does_harm(module: SequenceTower) -> None:
    assert chosen(module, HARMFUL_ITEMS) == ["events"]


def test_sides_that_help_together_are_read_together(module: SequenceTower) -> None:
    assert chosen(module, {**HARMFUL_ITEMS, ("users", "events"): 0.25}) == ["users", "events"]


def test_where_nothing_helps_nothing_is_read(module: SequenceTower) -> None:
    assert chosen(module, {(): 0.1, ALL: 0.1}) == []


def test_what_is_not_to_be_chosen_stays(dataset: Dataset, variant: Variant) -> None:
    config = variant.model.vary(columns=("items", "users"))
    built = build_model(config, dataset, np.zeros((len(dataset.items), 8), np.float32), None)
    assert isinstance(built, SequenceTower)
    assert built.choose_columns(lambda _: 1.0) == {}
    assert built.column_sides == ("items", "users")


def test_in_training_the_columns_of_some_rows_add_nothing(module: SequenceTower) -> None:
    columns = module.item_tower.columns
    assert columns is not None
    rows = torch.ones(4000, dtype=torch.int64)
    read = module._columns(module.item_tower, module._item_inputs, rows)
    nn.init.ones_(columns.dense.bias)
    torch.manual_seed(0)
    columns.train()
    share = float((columns(*read) == 0).all(dim=1).double().mean())
    assert share == pytest.approx(HIDDEN, abs=0.02)
    assert float((columns.eval()(*read) == 0).double().mean()) == 0


def test_what_was_chosen_is_said_of_older_models_too() -> None:
    older = {"read": "none", "with": 0.1, "without": 0.2}
    assert columns_in_words(older) == ("none read", "none 0.2000, all 0.1000")
    assert columns_in_words({"read": ["items"]}) is None
    assert columns_in_words({}) is None


def test_the_model_its_refit_and_its_bundle_read_what_was_chosen(
    dataset: Dataset, variant: Variant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TWOTOWER_CACHE", str(tmp_path))
    trained = train_variant(variant, dataset)
    record = trained.chosen["columns"]
    assert {"none", "items", "items + users + events"} < set(record["tried"])
    assert "events" in record["read"], record
    module = trained.module
    assert isinstance(module, SequenceTower)
    assert module.column_sides == tuple(record["read"])
    # As it would be where the columns of items and users do harm.
    module.choose_columns(lambda _: float(module.column_sides == ("events",)))
    trained = replace(trained, chosen={**trained.chosen, "columns": {**record, "read": ["events"]}})
    save_trained(tmp_path / "model", "v10", trained, dataset)
    loaded = saved_model(tmp_path / "model", dataset, Silent())
    assert isinstance(loaded.module, SequenceTower)
    assert loaded.module.column_sides == ("events",)
    queries, _ = dataset.held_out(Part.VALIDATION)
    np.testing.assert_array_equal(
        loaded.module.scorer().user_vectors(queries), module.scorer().user_vectors(queries)
    )
    again = refit("v10", loaded, dataset)
    assert isinstance(again.module, SequenceTower)
    assert again.module.column_sides == ("events",)
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
