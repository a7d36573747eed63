import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from twotower.data import Dataset
from twotower.errors import InputError
from twotower.evaluation.results import read_results
from twotower.inference import Pipeline
from twotower.models.build import MODELS
from twotower.registry import Registry
from twotower.training.losses import BPR, LOSSES
from twotower.training.variant import Variant
from twotower.workflow.variants import VARIANTS

PLUGIN = Path(__file__).parent / "plugin_package"


def test_a_part_is_found_by_name_and_an_unknown_one_is_refused() -> None:
    assert LOSSES.find("bpr") is BPR
    with pytest.raises(
        InputError, match=r"^unknown loss 'hinge'; pass one of bpr, info_nce, sampled_softmax$"
    ):
        LOSSES.find("hinge")


def test_settings_are_read_by_kind() -> None:
    assert LOSSES.parse({"kind": "bpr", "temperature": 0.5}) == BPR(temperature=0.5)
    assert LOSSES.parse(BPR()) == BPR()
    for value, message in (
        ({"temperature": 1.0}, "a loss needs a 'kind', one of bpr, info_nce, sampled_softmax, got"),
        ({"kind": "bpr", "temperature": 0}, "temperature: Input should be greater than 0, got 0"),
        ({"kind": "bpr", "heat": 1}, "heat: unknown key, got 1; it is one of kind"),
    ):
        with pytest.raises(ValueError, match=message):
            LOSSES.parse(value)


def test_settings_that_do_not_fit_each_other_are_named_without_the_rest() -> None:
    settings = VARIANTS["v10"].model_dump(mode="json")["model"]
    with pytest.raises(ValueError, match=r"^history.transformer: hidden_dim must") as caught:
        MODELS.parse({**settings, "history": {**settings["history"], "heads": 3}})
    assert len(str(caught.value)) < 100


def test_a_variant_survives_json(small_variants: dict[str, Any]) -> None:
    for variant in small_variants.values():
        assert Variant.model_validate_json(variant.model_dump_json()) == variant
    with pytest.raises(ValidationError, match="unknown model family 'mystery'; pass one of mf, "):
        Variant.model_validate({"model": {"kind": "mystery"}})


def entry_point(folder: Path, group: str, line: str) -> None:
    about = folder / "extra-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{line}\n")


def test_a_package_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_point(tmp_path, "twotower.test_parts", "broken = no_such_module:Part")
    monkeypatch.syspath_prepend(tmp_path)
    parts: Registry[Any] = Registry("twotower.test_parts", "part", {})
    assert list(parts) == ["broken"]
    with pytest.raises(
        InputError,
        match=r"^part 'broken', the entry point 'no_such_module:Part' of group "
        r"'twotower\.test_parts', cannot be imported \(No module named 'no_such_module'\); "
        r"mend or uninstall the package that declares it$",
    ):
        parts.find("broken")


def test_a_package_cannot_replace_what_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_point(tmp_path, "twotower.test_parts", "own = no_such_module:Part")
    monkeypatch.syspath_prepend(tmp_path)
    parts: Registry[Any] = Registry("twotower.test_parts", "part", {"own": "math:pi"})
    assert parts.find("own") == np.pi


def run_with_plugin(folder: Path, *command: object) -> None:
    """Run a command where the package is installed."""
    path = os.pathsep.join((str(PLUGIN), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-m", "twotower", *map(str, command)],
        env={**os.environ, "PYTHONPATH": path, "TWOTOWER_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_metric_of_another_package_is_measured(blocks: Dataset, tmp_path: Path) -> None:
    blocks.save(tmp_path / "data")
    run_with_plugin(
        tmp_path, "evaluate", "--data", tmp_path / "data", "--baseline", "popularity",
        "--protocol", "full", "--metric", "AP@10", "--metric", "MRR",
        "--json", tmp_path / "r.json",
    )  # fmt: skip
    rows = {row.metric: row.value for row in read_results(tmp_path / "r.json").rows}
    assert rows.keys() == {"AP@10", "MRR"}
    assert 0 < rows["AP@10"] <= rows["MRR"]  # one target a query


def test_a_model_family_of_another_package_is_trained_evaluated_bundled_and_served(
    shop: Path, tmp_path: Path
) -> None:
    assert "mean_history" not in MODELS  # it is installed for the command alone
    command = (
        "run", shop, "--model", "mean-history", "--text-encoder", "hashing",
        "--out", tmp_path / "run", "--k-core", "1",
    )  # fmt: skip
    run_with_plugin(tmp_path, *command)
    # Serving needs the bundle alone, not the package that trained it.
    pipeline = Pipeline.load(tmp_path / "run" / "bundle")
    found = pipeline.recommend(history=["i02", "i04", "i06"], k=5)
    assert {int(item.item_id[1:]) % 2 for item in found} == {0}  # the block of the history
