import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from twotower.data import Dataset
from twotower.errors import ArtefactError
from twotower.study.ablation.cell import Cell, finished_cell, read_evaluation, run_cell

FULL, UNMASKED = ("full",), ("full", "full-unmasked")


def test_a_cell_is_a_model_its_values_and_a_manifest(
    blocks: Dataset, small_variants: Any, out: Path, recorder: Any
) -> None:
    cell = Cell(model="v1", seed=2, variant=small_variants["v1"])
    record = run_cell(cell, blocks, out, UNMASKED, recorder)
    assert sorted(path.name for path in (out / "cells/v1/seed-2").iterdir()) == [
        "full-unmasked.parquet",
        "full.parquet",
        "manifest.json",
    ]
    assert (out / "models/v1/seed-2/weights.safetensors").exists()
    assert finished_cell(cell, blocks.fingerprint, out) == record
    values = read_evaluation(record, out).values
    assert values["full"].shape == (60, len(record.metrics))
    assert record.means["full"]["NDCG@10"] == pytest.approx(
        values["full"][:, record.metrics.index("NDCG@10")].mean()
    )
    assert record.training is not None
    assert len(record.training["epochs"]) == 2


def test_a_finished_cell_is_not_run_again(
    blocks: Dataset, out: Path, recorder: Any, stamps: Any
) -> None:
    cell = Cell(model="popularity")
    first = run_cell(cell, blocks, out, FULL, recorder)
    before = stamps(out)
    assert run_cell(cell, blocks, out, FULL, recorder) == first
    assert stamps(out) == before


def test_another_protocol_is_added_to_a_finished_cell(
    blocks: Dataset, small_variants: Any, out: Path, recorder: Any
) -> None:
    cell = Cell(model="mf", variant=small_variants["mf"])
    first = run_cell(cell, blocks, out, FULL, recorder)
    more = run_cell(cell, blocks, out, UNMASKED, recorder)
    assert more.asked == UNMASKED
    assert more.means["full"] == first.means["full"]
    assert set(more.means) == set(UNMASKED)
    assert more.training == first.training
    together = Path(shutil.copytree(out / "dataset", out.parent / "other/dataset")).parent
    assert run_cell(cell, blocks, together, UNMASKED, recorder).means == more.means


def test_cells_of_other_settings_or_data_are_refused(
    blocks: Dataset, small_variants: Any, out: Path, recorder: Any
) -> None:
    cell = Cell(model="mf", variant=small_variants["mf"])
    run_cell(cell, blocks, out, FULL, recorder)
    changed = cell.variant.vary(training=cell.variant.training.vary(learning_rate=0.5))  # type: ignore[union-attr]
    with pytest.raises(
        ArtefactError,
        match=r"cells/mf/seed-0 holds other settings than the cell 'mf seed 0' has now; delete it",
    ):
        finished_cell(cell.vary(variant=changed), blocks.fingerprint, out)
    with pytest.raises(ArtefactError, match="holds another data set than the cell 'mf seed 0'"):
        finished_cell(cell, "0" * 64, out)


def test_broken_files_are_named(blocks: Dataset, out: Path, recorder: Any) -> None:
    cell = Cell(model="popularity")
    record = run_cell(cell, blocks, out, FULL, recorder)
    (out / "cells/popularity/seed-0/full.parquet").write_bytes(b"no")
    with pytest.raises(ArtefactError, match=r"full\.parquet cannot be read"):
        read_evaluation(record, out)
    (out / "cells/popularity/seed-0/manifest.json").write_text("{}")
    with pytest.raises(
        ArtefactError, match=r"manifest\.json cannot be read \(.*\); delete its folder$"
    ):
        finished_cell(cell, blocks.fingerprint, out)


def test_values_are_written_exactly(blocks: Dataset, out: Path, recorder: Any) -> None:
    record = run_cell(Cell(model="popularity"), blocks, out, FULL, recorder)
    table = pl.read_parquet(out / "cells/popularity/seed-0/full.parquet")
    assert table.columns == list(record.metrics)
    assert table.schema.dtypes() == [pl.Float64] * len(record.metrics)
    np.testing.assert_array_equal(
        table["HR@10"].to_numpy(),
        read_evaluation(record, out).values["full"][:, record.metrics.index("HR@10")],
    )
    written = json.loads((out / "cells/popularity/seed-0/manifest.json").read_text())
    assert written["cell"] == {
        "model": "popularity",
        "seed": 0,
        "variant": None,
        "text_encoder": "minilm",
    }


def test_a_name_without_a_variant_must_be_a_baseline() -> None:
    with pytest.raises(
        ValueError, match=re.escape("model 'v1' is no baseline, and has no variant")
    ):
        Cell(model="v1")


def test_lists_and_segments_are_kept_too(blocks: Dataset, out: Path, recorder: Any) -> None:
    cell = Cell(model="content", text_encoder="hashing")
    record = run_cell(cell, blocks, out, ("by-activity", "beyond-accuracy"), recorder)
    assert record.asked == ("by-activity", "beyond-accuracy")
    assert set(record.means) == {"activity-8-15", "beyond-accuracy"}
    found = read_evaluation(record, out)
    assert set(found.values) == {"activity-8-15"}
    described = found.lists["beyond-accuracy"]
    assert described.metrics == tuple(record.means["beyond-accuracy"])
    assert described.values.shape == (60, len(described.metrics))
    assert set(described.totals) == {"coverage@10", "gini@10"}
    assert described.totals == record.lists["beyond-accuracy"]
