import json
import re
from pathlib import Path

import pytest

from twotower.data import Histories
from twotower.errors import InputError
from twotower.study.search_space import (
    SPACE,
    Categorical,
    Range,
    changed,
    read_space,
    settings_of,
    space_of,
    value_of,
)
from twotower.training.sizing import sized
from twotower.workflow.variants import VARIANTS


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_a_space_of_settings_that_it_has(name: str) -> None:
    variant = VARIANTS[name]
    space = space_of(variant)
    assert "training.learning_rate" in {parameter.path for parameter in space}
    for parameter in space:
        value = parameter.values[0] if isinstance(parameter, Categorical) else parameter.low
        settings = settings_of(space, {parameter.path: value})
        assert value_of(changed(variant, settings), parameter.path) == value


def test_the_default_model_is_searched_over_what_decides_it() -> None:
    sizes = sized(VARIANTS["v10"], Histories.from_lists([list(range(9))] * 50), in_order=True)
    paths = [parameter.path for parameter in space_of(sizes)]
    assert len(set(paths)) == len(paths) >= 12
    assert {"model.embedding_dim", "model.history.layers", "training.batch_positions"} <= {*paths}
    assert "training.batch_size" not in paths  # which it does not read


def test_every_setting_of_the_space_is_some_variants() -> None:
    log = Histories.from_lists([list(range(9))] * 50)
    variants = [sized(variant, log, in_order=True) for variant in VARIANTS.values()]
    for parameter in SPACE:
        assert any(value_of(variant, parameter.path) is not None for variant in variants)


def test_a_variant_takes_what_it_has() -> None:
    paths = {parameter.path for parameter in space_of(VARIANTS["v1"])}
    assert "model.item_tower.text_dim" not in paths
    assert "model.item_tower.text_dim" in {p.path for p in space_of(VARIANTS["v4"])}


def test_changed_settings_are_validated() -> None:
    assert changed(VARIANTS["v1"], {}) == VARIANTS["v1"]
    message = r"^settings do not fit: training\.learning_rate -1\.0: Input should be greater than 0"
    with pytest.raises(InputError, match=message):
        changed(VARIANTS["v1"], {"training.learning_rate": -1.0})


def test_a_space_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    ranged = {"kind": "range", "path": "loss.temperature", "low": 0.1, "high": 0.3}
    file.write_text(json.dumps([ranged]))
    assert read_space(file, VARIANTS["v1"]) == (Range(path="loss.temperature", low=0.1, high=0.3),)
    file.write_text(json.dumps([{**ranged, "path": "model.layers"}]))
    with pytest.raises(InputError, match=r"names 'model\.layers', a setting that the variant"):
        read_space(file, VARIANTS["v1"])
    file.write_text(json.dumps([{**ranged, "high": 0.0}]))
    with pytest.raises(InputError, match=r"low must be below high, got 0\.1 and 0\.0"):
        read_space(file, VARIANTS["v1"])
    message = "low must be above 0 where log is set, got 0.0"
    with pytest.raises(ValueError, match=re.escape(message)):
        Range(path="x", low=0.0, high=1.0, log=True)
