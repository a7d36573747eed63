from typing import Any

import pytest
from pydantic import ValidationError

from twotower.errors import InputError
from twotower.models.history import GRUConfig
from twotower.models.two_tower import TwoTowerConfig
from twotower.reporting.product_names import PRODUCT
from twotower.training.losses import InfoNCE
from twotower.training.variant import Variant
from twotower.workflow.models import named_variant
from twotower.workflow.variants import STUDY, VARIANTS, Step


def differences(one: Any, two: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Paths at which two nested dictionaries differ, and the two values.

    Settings of another kind differ as a whole.
    """
    if isinstance(one, dict) and isinstance(two, dict) and one.get("kind") == two.get("kind"):
        keys = one.keys() | two.keys()
        return {
            where: values
            for key in keys
            for where, values in differences(
                one.get(key), two.get(key), f"{path}.{key}".lstrip(".")
            ).items()
        }
    return {} if one == two else {path: (one, two)}


def between(one: str, two: str) -> dict[str, tuple[Any, Any]]:
    return differences(VARIANTS[one].model_dump(), VARIANTS[two].model_dump())


GRU = {"kind": "gru", "length": 20, "hidden_dim": 64}
CONCAT = {"kind": "concat_mlp", "hidden_dim": 128, "dropout": 0.0}
HARD = {"kind": "hard", "count": 4, "margin": 0.1, "refresh_steps": 100, "in_batch": True}
CURRICULUM = {
    "kind": "curriculum",
    "stages": (
        {"from_epoch": 0, "negatives": {"kind": "in_batch"}},
        {"from_epoch": 2, "negatives": {**HARD, "pool": 100}},
        {"from_epoch": 4, "negatives": {**HARD, "pool": 1000}},
    ),
}
CHANGES: dict[str, dict[str, tuple[Any, Any]]] = {
    "v2": {"distillation": ((), ({"kind": "mse", "teacher": "lightgcn", "weight": 0.5},))},
    "v3": {"distillation": ((), ({"kind": "cosine", "teacher": "lightgcn", "weight": 0.9},))},
    "v4": {"model.item_tower.text_dim": (None, 64)},
    "v4b": {"training.batch_size": (256, 1024)},
    "v4c": {"training.learning_rate": (1e-3, 3e-4)},
    "v4-bpr": {
        "loss": (
            {"kind": "info_nce", "temperature": 0.2, "log_q": True},
            {"kind": "bpr", "regularisation": 1e-4, "temperature": 1.0},
        ),
        "negatives": (
            {"kind": "in_batch"},
            {
                "kind": "hard",
                "count": 4,
                "pool": 1000,
                "margin": None,
                "refresh_steps": 100,
                "in_batch": False,
            },
        ),
    },
    "v4-bpr-fixed": {"loss.temperature": (1.0, 0.1), "negatives.margin": (None, 0.1)},
    "v5": {"model.user_tower.history": (None, GRU)},
    "v5b": {"text_fields": ("title", "rich")},
    "v5c": {"model.init_from": (None, "lightgcn")},
    "v6": {"negatives": ({"kind": "in_batch"}, CURRICULUM)},
    "v7": {"model.item_tower.image_dim": (None, 64)},
    "v8": {
        "model.user_tower.fusion": (CONCAT, {"kind": "fm_gates"}),
        "model.item_tower.fusion": (CONCAT, {"kind": "fm_gates"}),
    },
    "v5-no-log-q": {"loss.log_q": (True, False)},
    "v10": {
        "training.least_gain": (0.0, 0.005),
        "sizing": ("fixed", "by-log"),
        "text_fields": ("title", "title-or-rich"),
        "model.index_dim": (32, None),
        "model.read_gaps": (False, True),
        "model.choose_factors": (False, True),
        "model.columns": ("none", "chosen"),
        "negatives.sampled": (
            {"kind": "uniform", "count": 2048, "shared": False},
            {"kind": "popularity", "count": 1024, "power": 0.0, "shared": False},
        ),
        "training.epochs": (10, 100),
        "training.least_steps": (600, 0),
        "training.batch_size": (256, 2048),
        "training.schedule": ("cosine", "constant"),
        "training.warmup_steps": (0, 100),
        "training.average": (None, 0.998),
        "training.patience": (None, 2),
        "training.patience_at_first": (1, 8),
        "training.validate_steps": (50, 250),
        "training.towers_alone": (False, True),
    },
}
"""Child → fields that differ from the parent's, and the two values."""


@pytest.mark.parametrize("step", STUDY, ids=lambda step: step.name)
def test_each_step_of_the_study_changes_what_it_says(step: Step) -> None:
    if step.parent is None:
        assert step.name not in CHANGES
    else:
        assert between(step.parent, step.name) == CHANGES[step.name]


def test_the_study_is_all_variants_in_order_parents_first() -> None:
    names = [step.name for step in STUDY]
    assert names == list(VARIANTS)
    for place, step in enumerate(STUDY):
        assert step.parent is None or step.parent in names[:place]
        assert step.change


def test_the_models_have_the_sizes_of_the_study() -> None:
    assert all(variant.model.embedding_dim == 64 for variant in VARIANTS.values())
    v5 = VARIANTS["v5"]
    assert isinstance(v5.model, TwoTowerConfig)
    assert isinstance(v5.loss, InfoNCE)
    assert v5.loss.temperature == 0.2
    assert (v5.training.batch_size, v5.training.epochs, v5.training.learning_rate) == (256, 8, 1e-3)
    assert v5.model.history_length == 20


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_survives_json(name: str) -> None:
    variant = VARIANTS[name]
    assert Variant.model_validate_json(variant.model_dump_json()) == variant


def test_variants_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        VARIANTS["v5"].text_encoder = "hashing"  # type: ignore[misc]


def test_a_history_without_text_is_refused() -> None:
    model = VARIANTS["v1"].model
    assert isinstance(model, TwoTowerConfig)
    with pytest.raises(
        InputError,
        match=r"user_tower\.history reads item text, but item_tower\.text_dim is None; "
        r"set item_tower\.text_dim, for example 64",
    ):
        model.vary(user_tower=model.user_tower.vary(history=GRUConfig()))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("training", "epochs", 0),
        ("training", "learning_rate", 0.0),
        ("training", "learning_rate", float("nan")),
        ("training", "patience", 0),
        ("model", "embedding_dim", 0),
        ("loss", "temperature", -1.0),
        ("training", "epoch", 3),
        ("model", "layers", 3),
    ],
)
def test_a_bad_or_unknown_setting_is_refused(part: str, field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        getattr(VARIANTS["v5"], part).vary(**{field: value})


def test_varying_leaves_the_original_alone() -> None:
    before = VARIANTS["v5"].model_dump()
    changed = VARIANTS["v5"].vary(loss=InfoNCE(temperature=0.1, log_q=True))
    assert differences(before, changed.model_dump()) == {"loss.temperature": (0.2, 0.1)}
    assert VARIANTS["v5"].model_dump() == before


def test_a_variant_by_name() -> None:
    assert named_variant("mf") == VARIANTS["mf"]
    assert named_variant("v5", "hashing").text_encoder == "hashing"
    with pytest.raises(
        InputError,
        match=rf"^unknown model 'v99'; pass one of {', '.join((PRODUCT, *VARIANTS))}$",
    ):
        named_variant("v99")
