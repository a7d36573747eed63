import re
from dataclasses import replace

import polars as pl
import pytest

from twotower.data import Dataset, columns
from twotower.errors import InputError
from twotower.study.ablation.grid import PARENTS, default_models, make_grid
from twotower.workflow.variants import VARIANTS


def labels(seeds: dict[str, int], dataset: Dataset) -> list[str]:
    return [cell.label for cell in make_grid(seeds, dataset, text_encoder="hashing").cells]


def test_the_whole_study_is_the_default(blocks: Dataset) -> None:
    models = default_models()
    assert models == ("popularity", "item-knn", *PARENTS)
    assert set(PARENTS) <= set(VARIANTS)
    grid = make_grid(dict.fromkeys(models, 2), blocks, text_encoder="hashing")
    assert len(grid.of("v1")) == 2
    assert len(grid.of("popularity")) == 1  # nothing random in it
    assert set(grid.models) | set(grid.absent) == set(models)


def test_teachers_come_first_with_the_seeds_of_their_students(blocks: Dataset) -> None:
    assert labels({"v2": 2}, blocks) == [
        "lightgcn seed 0", "v2 seed 0", "lightgcn seed 1", "v2 seed 1",
    ]  # fmt: skip
    grid = make_grid({"v2": 1, "v3": 1, "lightgcn": 1}, blocks, text_encoder="hashing")
    assert [cell.label for cell in grid.cells] == ["lightgcn seed 0", "v2 seed 0", "v3 seed 0"]
    teacher, *pupils = grid.cells
    assert [grid.needs[pupil] for pupil in pupils] == [(teacher,), (teacher,)]
    assert grid.needs[teacher] == ()


def test_all_cells_use_the_text_encoder(blocks: Dataset) -> None:
    grid = make_grid({"v2": 1, "v5": 1}, blocks, text_encoder="hashing")
    assert {cell.variant.text_encoder for cell in grid.cells if cell.variant} == {"hashing"}


def test_models_that_the_data_do_not_allow_are_absent_with_the_reason(blocks: Dataset) -> None:
    # The toy catalogue has titles and categories, no images.
    pictured = VARIANTS["v5"].model.item_tower.vary(image_dim=8)  # type: ignore[union-attr]
    variant = VARIANTS["v5"].vary(model=VARIANTS["v5"].model.vary(item_tower=pictured))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "v7", variant)
        grid = make_grid({"v7": 1, "v5b": 1, "v5": 1}, blocks, text_encoder="hashing")
    assert grid.absent == {"v7": "no images in this data set"}
    assert grid.models == ("v5", "v5b")

    plain = blocks.catalogue.with_columns(pl.lit(None, pl.String).alias(columns.CATEGORY))
    grid = make_grid({"v5b": 1}, replace(blocks, catalogue=plain), text_encoder="hashing")
    assert grid.absent == {"v5b": "no text but titles in this data set"}
    assert make_grid({"two-tower": 1}, blocks, text_encoder="hashing").models == ("v10",)

    bare = plain.with_columns(pl.lit(None, pl.String).alias(columns.TITLE))
    grid = make_grid({"v1": 1, "v4": 1}, replace(blocks, catalogue=bare), text_encoder="hashing")
    assert grid.absent == {"v4": "no titles in this data set"}
    assert make_grid(
        {"v10": 1}, replace(blocks, catalogue=bare), text_encoder="hashing"
    ).models == ("v10",)
    assert grid.models == ("v1",)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"v99": 1}, "unknown model 'v99'; pass one of "),
        ({"v1": 0}, "seeds of 'v1' must be at least 1, got 0"),
    ],
)
def test_mistakes_are_refused(seeds: dict[str, int], message: str, blocks: Dataset) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        labels(seeds, blocks)
