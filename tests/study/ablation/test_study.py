import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from twotower.cli.options import changed_settings
from twotower.data import Dataset, columns
from twotower.data.settings import PrepareSettings
from twotower.errors import ArtefactError, InputError
from twotower.study.ablation.study import ablate, study_lock
from twotower.workflow.variants import VARIANTS

SETTINGS = PrepareSettings(k_core=0)


@pytest.mark.usefixtures("small_models", "in_process")
def test_a_study_from_raw_files_and_a_second_call(
    shop: Path, tmp_path: Path, recorder: Any, stamps: Any
) -> None:
    out = tmp_path / "study"
    given: dict[str, Any] = {
        "settings": SETTINGS,
        "seeds": {"popularity": 1, "v1": 2, "v4": 1},
        "text_encoder": "hashing",
        "reporter": recorder,
    }
    study = ablate(shop, out, jobs=2, **given)
    assert study.failures == {}
    assert list(dict.fromkeys(row.model for row in study.rows)) == ["popularity", "v1", "v4"]
    assert {(one.model, one.parent) for one in study.differences} == {("v4", "v1")}
    assert {one.protocol for one in study.differences} == {"full", "sampled-100"}
    table = pl.read_parquet(out / "cells.parquet")
    assert table.columns == ["dataset", "model", "seed", "protocol", "metric", "value"]
    assert table.select("model", "seed").unique().height == 4
    (value,) = [
        row.value
        for row in study.rows
        if (row.model, row.protocol, row.metric) == ("v4", "full", "MRR")
    ]
    cell = table.filter(model="v4", protocol="full", metric="MRR")["value"]
    assert cell.to_list() == pytest.approx([value], rel=1e-5)

    before = stamps(out / "models") | stamps(out / "cells")
    again = ablate(shop, out, **given)
    assert stamps(out / "models") | stamps(out / "cells") == before
    assert (again.rows, again.differences) == (study.rows, study.differences)


@pytest.mark.usefixtures("small_models", "in_process")
def test_a_declaration_decides_what_nobody_asked_for(shop: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(shop, source)
    (source / "dataset.toml").write_text("[prepare]\nk_core = 0\n")
    settings = changed_settings(PrepareSettings(), k_core=None)
    study = ablate(source, out, settings=settings, seeds={"popularity": 1}, protocols=("full",))
    assert study.rows
    assert Dataset.load(out / "dataset").summary["settings"]["k_core"] == 0


@pytest.mark.usefixtures("small_models", "in_process")
def test_a_prepared_data_set_is_copied(blocks: Dataset, tmp_path: Path, recorder: Any) -> None:
    blocks.save(tmp_path / "data")
    study = ablate(
        tmp_path / "data", tmp_path / "out", seeds={"popularity": 1, "v4": 1},
        protocols=("full",), text_encoder="hashing", reporter=recorder,
    )  # fmt: skip
    assert study.dataset == "blocks"
    assert "v4 is not compared: its parent v1 has no figures" in recorder.notes
    retitled = blocks.catalogue.with_columns(pl.lit("x").alias("title"))
    replace(blocks, catalogue=retitled).save(tmp_path / "other")
    with pytest.raises(InputError, match=r"dataset holds another data set than .*other; delete it"):
        ablate(tmp_path / "other", tmp_path / "out", seeds={"popularity": 1})


KILLED = """
import sys
from pathlib import Path
from twotower.data.settings import PrepareSettings
from twotower.study.ablation.study import ablate
shop, out = map(Path, sys.argv[1:])
ablate(shop, out, settings=PrepareSettings(k_core=0), seeds={"popularity": 1, "mf": 1, "v1": 1},
       protocols=("full",), jobs=1)
"""


@pytest.mark.usefixtures("in_process")  # the second time; what is killed has processes
def test_a_grid_that_was_killed_repeats_no_cell(
    shop: Path, tmp_path: Path, recorder: Any, stamps: Any
) -> None:
    out = tmp_path / "study"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(shop), str(out)]) as grid:
        while not (out / "cells/popularity/seed-0/manifest.json").exists():
            assert grid.poll() is None
            time.sleep(0.02)
        grid.send_signal(signal.SIGKILL)
    before = stamps(out / "cells")
    assert not (out / "cells/v1").exists()
    study = ablate(
        shop, out, settings=SETTINGS, seeds={"popularity": 1, "mf": 1, "v1": 1},
        protocols=("full",), jobs=2, reporter=recorder,
    )  # fmt: skip
    after = stamps(out / "cells")
    assert {name: after[name] for name in before} == before
    assert any(re.search(r"^3 cells, [12] of them found finished", note) for note in recorder.notes)
    assert {row.model for row in study.rows} == {"popularity", "mf", "v1"}


@pytest.mark.usefixtures("small_models", "in_process")
def test_a_failed_cell_costs_its_own_figures_only(
    blocks: Dataset, tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.save(tmp_path / "data")
    v1 = VARIANTS["v1"]
    diverges = v1.vary(training=v1.training.vary(learning_rate=1e30))
    monkeypatch.setitem(VARIANTS, "v1", diverges)
    study = ablate(
        tmp_path / "data", tmp_path / "out", seeds={"v1": 1, "popularity": 1},
        protocols=("full",), jobs=1, reporter=recorder,
    )  # fmt: skip
    assert list(study.failures) == ["v1 seed 0"]
    assert {row.model for row in study.rows} == {"popularity"}
    monkeypatch.setitem(VARIANTS, "v1", v1)
    mended = ablate(
        tmp_path / "data", tmp_path / "out", seeds={"v1": 1, "popularity": 1},
        protocols=("full",), jobs=1, reporter=recorder,
    )  # fmt: skip
    assert mended.failures == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": {"v99": 1}}, "unknown model 'v99'; pass one of "),
        ({"seeds": {"v1": 0}}, "seeds of 'v1' must be at least 1, got 0"),
        ({"seeds": {"mf": 1}, "jobs": 0}, "jobs must be at least 1, got 0"),
        ({"seeds": {"mf": 1}, "protocols": ["no"]}, "unknown protocol 'no'"),
    ],
)
def test_mistakes_are_found_before_a_cell_starts(
    given: dict[str, Any], message: str, blocks: Dataset, tmp_path: Path
) -> None:
    blocks.save(tmp_path / "data")
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        ablate(tmp_path / "data", tmp_path / "out", **given)
    assert not (tmp_path / "out" / "cells").exists()


def test_two_studies_in_one_folder_are_refused(blocks: Dataset, tmp_path: Path) -> None:
    blocks.save(tmp_path / "data")
    with (
        study_lock(tmp_path / "out"),
        pytest.raises(InputError, match=r"^another study is running in .*out; wait for it, or"),
    ):
        ablate(tmp_path / "data", tmp_path / "out", seeds={"popularity": 1})
    with study_lock(tmp_path / "out"):
        pass  # it was released


@pytest.mark.usefixtures("small_models", "in_process")
def test_cells_of_other_settings_are_refused(
    blocks: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.save(tmp_path / "data")
    given: dict[str, Any] = {"seeds": {"mf": 1}, "protocols": ("full",)}
    ablate(tmp_path / "data", tmp_path / "out", **given)
    mf = VARIANTS["mf"]
    changed = mf.vary(training=mf.training.vary(learning_rate=0.5))
    monkeypatch.setitem(VARIANTS, "mf", changed)
    with pytest.raises(ArtefactError, match="holds other settings than the cell 'mf seed 0'"):
        ablate(tmp_path / "data", tmp_path / "out", **given)


@pytest.mark.usefixtures("small_models", "in_process")
def test_a_variant_without_images_is_left_out(
    blocks: Dataset, tmp_path: Path, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = pl.Series(columns.IMAGE, [f"{item}.png" for item in range(len(blocks.items))])
    replace(blocks, catalogue=blocks.catalogue.with_columns(named)).save(tmp_path / "data")
    monkeypatch.setenv("TWOTOWER_IMAGES", str(tmp_path))  # where there is none
    study = ablate(
        tmp_path / "data", tmp_path / "out", seeds={"v7": 1, "popularity": 1},
        protocols=("full",), text_encoder="hashing", reporter=recorder,
    )  # fmt: skip
    (one,) = study.absent
    assert one.model == "v7"
    assert one.reason.startswith("no images in this data set")
    assert {row.model for row in study.rows} == {"popularity"}
    assert not study.failures
